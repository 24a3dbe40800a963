//! One accepted connection.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    rt::{Read, Write},
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower_service::Service;

use super::{Checked, Incomings, Place, Rewound, Shared, target};
use crate::{
    Body, Drain,
    lane::{Lane, Onward},
};

/// What HTTP/2 with prior knowledge begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 4] = b"PRI ";
/// How long to wait before looking again at a preface that came in part.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Bytes of an HTTP/2 stream's answers that are held unsent.
const SEND_BUFFER: usize = 64 * 1024;
/// Time between two pings of an HTTP/2 connection, and for their answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    /// For one request.
    Http1Once,
    Http2,
}

pin_project! {
    /// A connection that begins in the lane.
    pub(crate) struct Connection<S, F> {
        #[pin]
        lane: Lane<S, F>,
        // Where it goes on. Boxed: only connections that need it are to pay for it.
        onward: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
        #[pin]
        killed: WaitForCancellationFutureOwned,
    }
}

impl<S> Connection<S, S::Future>
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone,
{
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, place: Place<S>) -> Self {
        let killed = place.kill.clone().cancelled_owned();
        Self { lane: Lane::new(stream, peer, place), onward: None, killed }
    }
}

impl<S> Future for Connection<S, S::Future>
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut connection = self.project();
        if connection.onward.is_none()
            && let Poll::Ready(left) = connection.lane.as_mut().poll(cx)
        {
            let Some((stream, onward)) = left else { return Poll::Ready(()) };
            let lane = &connection.lane;
            *connection.onward = Some(Box::pin(go_on(stream, onward, lane.peer(), lane.shared().clone())));
        }
        let onward = connection.onward.as_mut();
        if onward.is_some_and(|onward| onward.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        connection.killed.poll(cx)
    }
}

/// Serves a connection without the lane, under TLS if there is any.
pub(super) async fn serve<S>(stream: TcpStream, peer: SocketAddr, place: Place<S>)
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let shared = &*place;
    let served = async {
        #[cfg(feature = "tls")]
        if let Some(tls) = &shared.tls {
            let accepted = timeout(shared.config.first_byte, tls.acceptor().accept(stream)).await;
            if let Ok(Ok(stream)) = accepted {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let spoken = if is_http2 { Spoken::Http2 } else { Spoken::Http1 };
                talk(TokioIo::new(stream), spoken, peer, shared).await;
            }
            return;
        }
        if let Some((stream, onward)) = sniffed(stream, shared).await {
            // Boxed: what was needed to get here is to cost nothing any more.
            Box::pin(go_on(stream, onward, peer, shared.clone())).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = shared.kill.cancelled() => {}
    }
}

async fn go_on<S>(stream: Rewound, onward: Onward, peer: SocketAddr, shared: Arc<Shared<S>>)
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    // There is something to read. Were hyper to look before the system says so, it would take a connection at rest for one that
    // a drain may end.
    if stream.readable().await.is_err() {
        return;
    }
    let (stream, spoken) = match onward {
        Onward::Http1 => (stream, Spoken::Http1),
        Onward::Http2 => (stream, Spoken::Http2),
        // For one request: a client that sends a bare pattern once is likely to send the next so, which could not be mended
        // any more.
        Onward::Bare => (stream.mended(target::encode), Spoken::Http1Once),
    };
    talk(TokioIo::new(stream), spoken, peer, &shared).await;
}

/// What is to be spoken on a new connection; `None` if it has ended.
async fn sniffed<S>(mut stream: TcpStream, shared: &Shared<S>) -> Option<(Rewound, Onward)> {
    let sniffed = tokio::select! {
        sniffed = timeout(shared.config.first_byte, sniff(&stream)) => sniffed,
        () = shared.drain.cancelled() => return None,
    };
    if sniffed.ok()?.ok()? {
        return Some((Rewound::new(Bytes::new(), stream), Onward::Http2));
    }
    if !target::is_whole(&stream) {
        // What is late is the parser's to judge.
        tokio::select! {
            _ = timeout(shared.config.first_byte, target::whole(&stream)) => {}
            () = shared.drain.cancelled() => {}
        }
    }
    let (first, onward) = match target::bare(&stream) {
        Some(seen) => (target::taken(&mut stream, seen).await.ok()?, Onward::Bare),
        None => (Vec::new(), Onward::Http1),
    };
    Some((Rewound::new(first, stream), onward))
}

/// Whether the peer speaks HTTP/2 with prior knowledge. What was looked at stays in the socket.
async fn sniff(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0u8; PREFACE.len()];
    loop {
        match stream.peek(&mut start).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            seen if start[..seen] != PREFACE[..seen] => return Ok(false),
            4 => return Ok(true),
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

async fn talk<S, I>(io: I, spoken: Spoken, peer: SocketAddr, shared: &Arc<Shared<S>>)
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    I: Read + Write + Unpin + Send + 'static,
{
    let service = Checked::new(shared.service.clone(), peer);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        service.clone().call(request.map(received))
    });
    let config = &shared.config;
    let ended = if spoken == Spoken::Http2 {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).enable_connect_protocol().keep_alive_interval(KEEP_ALIVE);
        http2.keep_alive_timeout(KEEP_ALIVE).max_concurrent_streams(config.streams);
        http2
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(config.head_bytes.try_into().unwrap_or(u32::MAX));
        until_drained(
            http2.serve_connection(io, service),
            http2::Connection::graceful_shutdown,
            &shared.drain,
        )
        .await
    } else {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .keep_alive(spoken == Spoken::Http1 && !shared.drain.is_draining())
            .header_read_timeout(config.head)
            .max_buf_size(config.head_bytes.max(8192));
        let connection = http1.serve_connection(io, service).with_upgrades();
        until_drained(connection, http1::UpgradeableConnection::graceful_shutdown, &shared.drain).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

/// Runs `connection`, and has it end after the answers under way once a drain begins.
async fn until_drained<C: Future>(connection: C, end: impl FnOnce(Pin<&mut C>), drain: &Drain) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        // A request that is there already is begun first.
        biased;
        output = &mut connection => return output,
        () = drain.cancelled() => end(connection.as_mut()),
    }
    connection.await
}

fn received(body: Incoming) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::new(body) }
}
