//! The lane against raw sockets: what it answers, hyper answers too, byte for byte but for the order of headers.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kept;
mod life;
mod same;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use pushpull_http::{Body, Drain, Gate, Incomings, Listener, ListenerConfig, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    task::{JoinHandle, yield_now},
};
use tower_service::Service;

const END: &str = "GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Tells what it was asked; answers as the path says.
#[derive(Clone)]
struct Told(Arc<Shared>);

struct Shared {
    /// Lets those go on that wait.
    go: Notify,
    /// Told whenever one begins to wait, and when it has ended.
    waits: mpsc::UnboundedSender<bool>,
}

/// Tells when it is dropped.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.waits.send(false);
    }
}

impl Service<Incomings> for Told {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incomings) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { Ok(answer(request, shared).await) })
    }
}

async fn answer(mut request: Incomings, shared: Arc<Shared>) -> Response<Body> {
    if request.uri().path() == "/upgrade" {
        kept::upgraded(&mut request);
        let switched = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let switched = switched.header("connection", "upgrade").header("upgrade", "echo");
        return switched.body(Body::empty()).unwrap();
    }
    let (parts, body) = request.into_parts();
    assert!(parts.extensions.get::<Peer>().is_some_and(|peer| peer.0.ip().is_loopback()));
    let body = match body.collect().await {
        Ok(body) => format!("{:?}", body.to_bytes()),
        Err(_) => "cut".to_owned(),
    };
    let told = format!("{} {} {:?} {body}", parts.method, parts.uri, parts.headers);
    let mut response = Response::new(Body::full(told));
    let headers = response.headers_mut();
    match parts.uri.path() {
        "/none" => *response.body_mut() = Body::empty(),
        "/204" => *response.status_mut() = StatusCode::NO_CONTENT,
        "/304" => {
            headers.insert("etag", HeaderValue::from_static("\"x\""));
            (*response.status_mut(), *response.body_mut()) = (StatusCode::NOT_MODIFIED, Body::empty());
        }
        "/599" => *response.status_mut() = StatusCode::from_u16(599).unwrap(),
        "/headers" => {
            headers.insert("date", HeaderValue::from_static("then"));
            headers.append("vary", HeaderValue::from_static("a"));
            headers.append("vary", HeaderValue::from_static("b"));
        }
        "/length" => {
            *response.body_mut() = Body::empty();
            if parts.method == http::Method::HEAD {
                response.headers_mut().insert("content-length", HeaderValue::from_static("7"));
            }
        }
        "/close" => drop(headers.insert("connection", HeaderValue::from_static("close"))),
        "/large" => *response.body_mut() = Body::full("x".repeat(3_000_000)),
        "/stream" => *response.body_mut() = frames(&["a", "", "bc", &"d".repeat(100_000)], false),
        "/sized" => {
            *response.body_mut() = frames(&["abc", "de"], false);
            response.headers_mut().insert("content-length", HeaderValue::from_static("5"));
        }
        "/cut" => *response.body_mut() = frames(&["abc"], true),
        "/whole" => *response.body_mut() = Body::new(http_body_util::Full::new(Bytes::from_static(b"whole"))),
        "/wait" => {
            let _ended = Ended(shared.clone());
            let _ = shared.waits.send(true);
            shared.go.notified().await;
        }
        "/endless" => *response.body_mut() = endless(shared),
        _ => {}
    }
    response
}

fn frames(parts: &[&str], breaks: bool) -> Body {
    let frames = parts.iter().map(|part| Ok(Frame::data(Bytes::copy_from_slice(part.as_bytes()))));
    let error = breaks.then(|| Err(std::io::Error::other("broken")));
    Body::new(StreamBody::new(stream::iter(frames.chain(error).collect::<Vec<_>>())))
}

/// A first frame, and then none until it is let go on.
fn endless(shared: Arc<Shared>) -> Body {
    let ended = Ended(shared.clone());
    let frames = stream::unfold((shared, ended, 0), |(shared, ended, number)| async move {
        if number > 0 {
            let _ = shared.waits.send(true);
            shared.go.notified().await;
        }
        let frame = Frame::data(Bytes::from(format!("frame {number}")));
        Some((Ok::<_, Infallible>(frame), (shared, ended, number + 1)))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

struct Running {
    address: SocketAddr,
    drain: Drain,
    stop: oneshot::Sender<()>,
    served: JoinHandle<bool>,
    shared: Arc<Shared>,
    waits: mpsc::UnboundedReceiver<bool>,
}

async fn start(config: ListenerConfig) -> Running {
    start_with(config, Duration::from_secs(15)).await
}

/// One that cuts off at a drain what has not ended within `limit`.
async fn start_with(config: ListenerConfig, limit: Duration) -> Running {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_config(config);
    let address = listener.local_addr().unwrap();
    let drain = Gate::open().drain().clone();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let (sender, waits) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { go: Notify::new(), waits: sender });
    let service = Told(shared.clone());
    let served = tokio::spawn(listener.serve(service, drain.clone(), shutdown, limit));
    Running { address, drain, stop, served, shared, waits }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

async fn connect(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
