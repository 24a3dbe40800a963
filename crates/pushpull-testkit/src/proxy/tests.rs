use std::{io::ErrorKind, num::NonZeroU32, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

/// A server that sends back what it gets, and a proxy in front of it.
async fn echo(seed: u64) -> Proxy {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(tcp.local_addr().unwrap(), seed).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    proxy
}

async fn open(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn call(stream: &mut TcpStream, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

/// How many bytes come through before the connection is reset.
async fn bytes_until_reset(proxy: &Proxy) -> usize {
    let mut stream = open(proxy).await;
    let (mut from, mut to) = stream.split();
    let writing = async { to.write_all(&[7; 4096]).await };
    let reading = async {
        let (mut total, mut buffer) = (0, [0; 512]);
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => panic!("closed politely after {total} bytes"),
                Ok(count) => total += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    return total;
                }
            }
        }
    };
    tokio::join!(writing, reading).1
}

#[tokio::test]
async fn it_forwards_and_cuts_by_reset() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    assert_eq!(call(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!((proxy.accepted(), proxy.cut_count(), proxy.open()), (1, 0, 1));
    proxy.cut();
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.cut_count(), 1);
    let mut again = open(&proxy).await;
    assert_eq!(call(&mut again, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn it_cuts_at_the_same_random_bytes_with_the_same_seed() {
    let (first, second) = (echo(7).await, echo(7).await);
    let mut cuts = Vec::new();
    for proxy in [&first, &second] {
        proxy.cut_after(Cuts::within(1..=2000));
        for _ in 0..5 {
            cuts.push(bytes_until_reset(proxy).await);
        }
    }
    assert_eq!(cuts[..5], cuts[5..]);
    assert!(cuts.iter().all(|bytes| (1..=2000).contains(bytes)), "{cuts:?}");
    assert_ne!(cuts[0], cuts[1]);
    first.cut_after(Cuts::Never);
    assert_eq!(call(&mut open(&first).await, "whole").await.unwrap(), "whole");
}

#[tokio::test]
async fn a_polite_end_is_forwarded() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!((rest.as_str(), proxy.cut_count()), ("bye", 0));
}

#[tokio::test]
async fn what_is_swallowed_never_comes_and_nobody_is_told() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    assert_eq!(call(&mut stream, "hello").await.unwrap(), "hello");
    proxy.set_flow(Flow::Swallow);
    let silent = timeout(Duration::from_millis(50), call(&mut stream, "lost")).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(proxy.open(), 1);
    proxy.set_flow(Flow::Forward);
    let silent = timeout(Duration::from_millis(50), call(&mut stream, "still lost")).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(call(&mut open(&proxy).await, "found").await.unwrap(), "found");
}

#[tokio::test]
async fn what_is_stalled_waits() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    proxy.set_flow(Flow::Stall);
    let mut waiting = Box::pin(call(&mut stream, "later"));
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    proxy.set_flow(Flow::Forward);
    assert_eq!(waiting.await.unwrap(), "later");
}

#[tokio::test]
async fn what_is_delayed_comes_late() {
    let proxy = echo(1).await;
    proxy.set_flow(Flow::Delay(Duration::from_millis(30)));
    let begun = std::time::Instant::now();
    assert_eq!(call(&mut open(&proxy).await, "slow").await.unwrap(), "slow");
    assert!(begun.elapsed() >= Duration::from_millis(60), "both ways: {:?}", begun.elapsed());
}

#[tokio::test]
async fn new_connections_go_where_it_leads() {
    let (proxy, silent) = (echo(1).await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut old = open(&proxy).await;
    assert_eq!(call(&mut old, "old").await.unwrap(), "old");
    proxy.lead_to(silent.local_addr().unwrap());
    let _new = open(&proxy).await;
    silent.accept().await.unwrap();
    assert_eq!(call(&mut old, "still").await.unwrap(), "still");
}

#[tokio::test]
async fn it_hangs_up_in_order() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    assert_eq!(call(&mut stream, "hello").await.unwrap(), "hello");
    proxy.hang_up();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "no reset");
    drop(stream);
    while proxy.open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.cut_count(), 1);
}

async fn is_refused(proxy: &Proxy) -> bool {
    let connected = TcpStream::connect(proxy.address()).await;
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn who_connects_is_refused_and_the_port_stays() {
    let proxy = echo(1).await;
    let mut old = open(&proxy).await;
    assert_eq!(call(&mut old, "hello").await.unwrap(), "hello");
    for _ in 0..3 {
        proxy.set(Faults::none().with_door(Door::Refused));
        // Until the proxy has seen it, who connects is accepted, or reset while waiting for that.
        let refused = async {
            while !is_refused(&proxy).await {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), refused).await.expect("the door closes");
        assert_eq!(call(&mut old, "still").await.unwrap(), "still");
        proxy.set(Faults::none());
        let mut new = loop {
            match TcpStream::connect(proxy.address()).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(call(&mut new, "again").await.unwrap(), "again");
    }
}

#[tokio::test]
async fn what_is_throttled_comes_at_its_rate() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    proxy.set_flow(Flow::Throttle(NonZeroU32::new(10_000).unwrap()));
    let (text, begun) = ("x".repeat(2000), std::time::Instant::now());
    assert_eq!(call(&mut stream, &text).await.unwrap(), text);
    assert!(begun.elapsed() >= Duration::from_millis(200), "one way: {:?}", begun.elapsed());
    let mut waiting = Box::pin(call(&mut stream, &text));
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    proxy.set_flow(Flow::Forward);
    assert_eq!(waiting.await.unwrap(), text);
}

#[tokio::test]
async fn delayed_bytes_follow_each_other_closely() {
    let proxy = echo(1).await;
    proxy.set_flow(Flow::Delay(Duration::from_millis(50)));
    let mut stream = open(&proxy).await;
    let (text, begun) = ("x".repeat(200 * 1024), std::time::Instant::now());
    let (mut from, mut to) = stream.split();
    let mut answer = vec![0; text.len()];
    let (sent, read) = tokio::join!(to.write_all(text.as_bytes()), from.read_exact(&mut answer));
    sent.unwrap();
    read.unwrap();
    assert_eq!(answer, text.as_bytes());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(600), "{took:?}");
}

/// An hour: nobody waits for it.
const MUCH_LATER: Flow = Flow::Delay(Duration::from_secs(3600));

#[tokio::test]
async fn what_is_on_its_way_comes_at_once_when_the_delay_ends() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    proxy.set_flow(MUCH_LATER);
    let mut waiting = Box::pin(call(&mut stream, "late"));
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    proxy.set_flow(Flow::Forward);
    let came = timeout(Duration::from_secs(5), waiting).await.expect("it comes");
    assert_eq!(came.unwrap(), "late");
}

#[tokio::test]
async fn what_is_on_its_way_is_lost_in_silence() {
    let proxy = echo(1).await;
    let mut stream = open(&proxy).await;
    proxy.set_flow(MUCH_LATER);
    let mut waiting = Box::pin(call(&mut stream, "lost"));
    for flow in [Flow::Swallow, Flow::Forward] {
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        proxy.set_flow(flow);
    }
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
}

/// A server that answers each request of HTTP/1.1 with what it asked, and a proxy in front of it.
async fn mirror() -> Proxy {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(tcp.local_addr().unwrap(), 1).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = tcp.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    proxy
}

/// Answers with the request as the body, in two halves, the second when asked for by one more byte; never a request
/// to `/never`.
async fn answer(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if head.starts_with(b"GET /never ") {
            continue;
        }
        let (first, second) = head.split_at(head.len() / 2);
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len()).as_bytes())
            .await?;
        stream.write_all(first).await?;
        stream.read_u8().await?;
        stream.write_all(second).await?;
    }
}

const ASK: &str =
    "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-More: 1\r\nContent-Length: 1\r\n\r\n";
const PLAIN: &str = "GET /ws HTTP/1.1\r\nX-More: 1\r\nContent-Length: 1\r\n\r\n";

async fn read(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    timeout(Duration::from_secs(5), stream.read_exact(&mut bytes)).await.expect("it comes").unwrap();
    String::from_utf8(bytes).unwrap()
}

fn whole(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_server_behind_an_old_proxy_sees_a_plain_get() {
    let proxy = mirror().await;
    let mut stream = open(&proxy).await;
    for (upgrade, seen) in [(Upgrade::Stripped, PLAIN), (Upgrade::Passed, ASK), (Upgrade::Stripped, PLAIN)] {
        proxy.set(Faults::none().with_upgrade(upgrade));
        stream.write_all(format!("{ASK}.").as_bytes()).await.unwrap();
        let answer = whole(seen);
        assert_eq!(read(&mut stream, answer.len()).await, answer);
    }
}

#[tokio::test]
async fn a_buffering_proxy_holds_a_response_until_it_ends() {
    let proxy = mirror().await;
    let mut stream = open(&proxy).await;
    let answer = whole(PLAIN);
    let head = answer.len() - PLAIN.len();
    for (buffering, comes) in [
        (Buffering::Off, head + PLAIN.len() / 2),
        (Buffering::Body, head),
        (Buffering::Whole, 0),
        (Buffering::Off, head + PLAIN.len() / 2),
    ] {
        proxy.set(Faults::none().with_buffering(buffering));
        stream.write_all(PLAIN.as_bytes()).await.unwrap();
        assert_eq!(read(&mut stream, comes).await, answer[..comes], "{buffering:?}");
        let more = timeout(Duration::from_millis(20), stream.read_u8()).await;
        assert!(more.is_err(), "{buffering:?}: {more:?}");
        stream.write_all(b".").await.unwrap();
        assert_eq!(read(&mut stream, answer.len() - comes).await, answer[comes..], "{buffering:?}");
    }
}

#[tokio::test]
async fn what_is_held_goes_on_when_buffering_ends() {
    let proxy = mirror().await;
    let mut stream = open(&proxy).await;
    proxy.set(Faults::none().with_buffering(Buffering::Whole));
    stream.write_all(PLAIN.as_bytes()).await.unwrap();
    assert!(timeout(Duration::from_millis(20), stream.read_u8()).await.is_err());
    proxy.set(Faults::none());
    let comes = whole(PLAIN).len() - PLAIN.len().div_ceil(2);
    assert_eq!(read(&mut stream, comes).await, whole(PLAIN)[..comes]);
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_cut_and_a_stream_is_not() {
    let proxy = mirror().await;
    let (mut streaming, mut waiting) = (open(&proxy).await, open(&proxy).await);
    streaming.write_all(PLAIN.as_bytes()).await.unwrap();
    read(&mut streaming, whole(PLAIN).len() - PLAIN.len().div_ceil(2)).await;
    waiting.write_all(b"GET /never HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(timeout(Duration::from_millis(20), waiting.read_u8()).await.is_err());
    proxy.set(Faults::none().with_patience(Duration::from_millis(50)));
    let error = timeout(Duration::from_secs(5), waiting.read_u8()).await.expect("it is cut").unwrap_err();
    assert_eq!((error.kind(), proxy.cut_count()), (ErrorKind::ConnectionReset, 1));
    streaming.write_all(b".").await.unwrap();
    assert_eq!(read(&mut streaming, PLAIN.len().div_ceil(2)).await, PLAIN[PLAIN.len() / 2..]);
}
