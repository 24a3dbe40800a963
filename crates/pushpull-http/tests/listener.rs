//! The listener against clients that behave, and clients that do not.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use pushpull_http::{Body, Drain, Gate, Incomings, Listener, ListenerConfig, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use tower_service::Service;

/// Answers with version and path, and whether the peer is known.
#[derive(Clone)]
struct Echo;

impl Service<Incomings> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incomings) -> Self::Future {
        assert!(request.extensions().get::<Peer>().is_some_and(|peer| peer.0.ip().is_loopback()));
        let text = format!("{:?} {}", request.version(), request.uri().path());
        ready(Ok(Response::new(Body::full(Bytes::from(text)))))
    }
}

struct Running {
    address: SocketAddr,
    drain: Drain,
    stop: oneshot::Sender<()>,
    served: JoinHandle<bool>,
}

async fn start(config: ListenerConfig) -> Running {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_config(config);
    let address = listener.local_addr().unwrap();
    let drain = Gate::open().drain().clone();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served = tokio::spawn(listener.serve(Echo, drain.clone(), shutdown, Duration::from_secs(5)));
    Running { address, drain, stop, served }
}

fn hasty() -> ListenerConfig {
    ListenerConfig::default().with_times(Duration::from_millis(200), Duration::from_millis(200))
}

async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap()
}

#[tokio::test]
async fn http_1_1_is_served_and_pipelined_requests_in_order() {
    let running = start(ListenerConfig::default()).await;
    let two = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = rest(send(running.address, two).await).await;
    let (first, second) = (answers.find("HTTP/1.1 /a").unwrap(), answers.find("HTTP/1.1 /b").unwrap());
    assert!(first < second, "{answers}");
}

#[tokio::test]
async fn a_missing_or_doubled_host_is_refused_by_name() {
    let running = start(ListenerConfig::default()).await;
    for head in ["GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n"] {
        let request = format!("{head}Connection: close\r\n\r\n");
        let answer = rest(send(running.address, request.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"parameter\":\"Host\""), "{answer}");
    }
    let old = rest(send(running.address, b"GET /old HTTP/1.0\r\n\r\n").await).await;
    assert!(old.ends_with("HTTP/1.0 /old"), "{old}");
}

#[tokio::test]
async fn who_says_nothing_or_only_half_a_head_is_cut_off() {
    let running = start(hasty()).await;
    for said in ["", "PR", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let answer = rest(send(running.address, said.as_bytes()).await).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{said:?}: {answer}");
    }
    let answer =
        rest(send(running.address, b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await).await;
    assert!(answer.ends_with("HTTP/1.1 /a"), "the server goes on: {answer}");
}

#[tokio::test]
async fn a_head_too_large_is_refused() {
    let running = start(ListenerConfig::default()).await;
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let mut start = [0; 12];
    within(stream.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_told_apart_though_its_preface_comes_in_parts() {
    let running = start(ListenerConfig::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut frame = [0; 9];
    within(stream.read_exact(&mut frame)).await.unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame comes first");
}

#[tokio::test]
async fn beyond_the_limit_sockets_are_closed_and_the_others_served() {
    let running = start(ListenerConfig::default().with_sockets(2)).await;
    let held = [send(running.address, b"GET /a HT").await, send(running.address, b"GET /a HT").await];
    for stream in &held {
        stream.writable().await.unwrap();
    }
    let refused = rest(send(running.address, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
    assert_eq!(refused, "");
    let [mut first, second] = held;
    first.write_all(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(first).await.ends_with("HTTP/1.1 /a"));
    drop(second);
}

#[tokio::test]
async fn a_drain_ends_connections_at_rest_and_is_clean() {
    let running = start(ListenerConfig::default()).await;
    let mut stream = send(running.address, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = [0; 15];
    within(stream.read_exact(&mut answer)).await.unwrap();
    let silent = TcpStream::connect(running.address).await.unwrap();
    running.stop.send(()).unwrap();
    assert!(within(running.served).await.unwrap(), "nothing had to be cut off");
    assert!(running.drain.is_draining());
    rest(stream).await;
    assert_eq!(rest(silent).await, "");
    assert!(TcpStream::connect(running.address).await.is_err(), "no longer accepted");
}

#[tokio::test]
async fn who_sends_a_bare_pattern_is_asked_to_come_anew_for_the_next() {
    let running = start(ListenerConfig::default()).await;
    let answer = rest(send(running.address, b"GET /a?topic=> HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "the next would be refused here: {answer}");
}

#[tokio::test]
async fn a_bare_pattern_is_understood_however_slowly_it_comes() {
    let running = start(ListenerConfig::default()).await;
    let mut stream = send(running.address, b"GET /a?top").await;
    stream.set_nodelay(true).unwrap();
    for part in [&b"ic="[..], b">", b"&topic=b.", b"> HTTP/1.1\r", b"\nHost: x\r\n\r\n"] {
        // The head is late on purpose: each part is looked at by itself.
        tokio::time::sleep(Duration::from_millis(15)).await;
        stream.write_all(part).await.unwrap();
    }
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
