//! That a connection's own socket is found below what hyper hands over: else it would keep hyper's buffers, unseen.

use hyper::server::conn::http1;
use hyper_util::rt::TokioExecutor;
use pushpull_http::{Listener, ListenerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use super::*;

const ASKED: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly";
const PLAIN: &[u8] = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n";

type Found = Result<(TcpStream, Bytes), Upgraded>;

/// Upgrades every connection, and hands on what is found below it.
#[derive(Clone)]
struct Upgrades(mpsc::UnboundedSender<Found>);

impl<B: Send + 'static> Service<Request<B>> for Upgrades {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut response = Response::new(Body::empty());
        if request.uri().path() == "/" {
            let (upgrade, found) = (request.extensions_mut().remove::<OnUpgrade>().unwrap(), self.0.clone());
            tokio::spawn(async move { found.send(socket_of(upgrade.await.unwrap())).unwrap() });
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", http::HeaderValue::from_static("upgrade"));
            response.headers_mut().insert("upgrade", http::HeaderValue::from_static("echo"));
        }
        std::future::ready(Ok(response))
    }
}

/// Asks `port`, and talks past hyper over what is found.
async fn talk(port: u16, before: &[u8], found: &mut mpsc::UnboundedReceiver<Found>) {
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(&[before, ASKED].concat()).await.unwrap();
    let (mut socket, early) = found.recv().await.unwrap().unwrap();
    assert_eq!(early, "early");
    socket.write_all(b"past it").await.unwrap();
    drop(socket);
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("HTTP/1.1 101 ") && said.ends_with("\r\n\r\npast it"), "{said}");
}

#[tokio::test]
async fn the_socket_of_a_listener_is_taken_back() {
    for lane in [true, false] {
        let (sender, mut found) = mpsc::unbounded_channel();
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let listener = listener.with_config(ListenerConfig::default().with_lane(lane));
        let port = listener.local_addr().unwrap().port();
        let drain = Gate::open().drain().clone();
        tokio::spawn(listener.serve(Upgrades(sender), drain, std::future::pending(), Duration::ZERO));
        talk(port, b"", &mut found).await;
        talk(port, PLAIN, &mut found).await;
    }
}

#[tokio::test]
async fn the_socket_of_a_server_of_hyper_is_taken_back() {
    let (sender, mut found) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(move |request| Upgrades(sender.clone()).call(request));
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await.unwrap();
    });
    talk(port, PLAIN, &mut found).await;
}

/// Which is how axum serves.
#[tokio::test]
async fn the_socket_of_a_server_that_tells_by_itself_what_is_spoken_is_taken_back() {
    let (sender, mut found) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(move |request| Upgrades(sender.clone()).call(request));
        let server = auto::Builder::new(TokioExecutor::new());
        server.serve_connection_with_upgrades(TokioIo::new(stream), service).await.unwrap();
    });
    talk(port, PLAIN, &mut found).await;
}
