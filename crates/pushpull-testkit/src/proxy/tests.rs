use std::{io::ErrorKind, time::Duration};

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
