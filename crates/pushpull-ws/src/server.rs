//! The server half: `GET /ws`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::ORIGIN, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
use pushpull_core::{Context, ErrorKind, Problem, Producer, Push};
use pushpull_http::{Body, Entry, Format, Gate, RefusalKind, Rejection, Rewound, problem::problem_response};
use tokio::{net::TcpStream, sync::Semaphore};
use tower_service::Service;

use crate::{
    close::Closing,
    codec::server::Shape,
    handshake::{self, Handshake},
    session::{Opening, Serving, Shared, Unit},
};

/// How long a connection may take to be handed over once the handshake is answered: 10 s.
const HANDOVER: Duration = Duration::from_secs(10);
/// Most browsers at once that are told by a close code why they were not let in. They count as no connections; beyond
/// this many they are told by the status alone.
const REFUSALS: usize = 256;

/// Serves WebSockets over any [`Push`]: one subscription a connection. Cheap to clone.
///
/// It answers every path it is called with: mount it where `/ws` should be. It takes the HTTP/1.1 upgrade of RFC 6455
/// and the extended CONNECT of RFC 8441, offers permessage-deflate (RFC 7692), and speaks the first [`Subprotocol`](crate::Subprotocol)
/// of those that a client offers or, where it offers none, payloads alone.
///
/// A peer that does not read costs its place and at most 208 KiB: 64 KiB of events, 64 KiB of answers and 80 KiB of what it
/// asks. Each may be more by one that is larger (an event, an answer, a message), and its last publish is done first, of
/// which a batch takes some hundred bytes a message. While an answer waits for it nothing it says is read, and after 30 s
/// in which it took nothing it is closed. One that asks without end has its turns among others: some thousand messages, or
/// one batch.
///
/// A message may have as many bytes as a payload; under a subprotocol three times as many and 8 KiB, for its envelope and
/// JSON's escapes. An array of JSON frames, and a batch in protobuf, has at most
/// [`MAX_BATCH`](pushpull_http::problem::MAX_BATCH).
#[derive(Clone)]
pub struct WsService {
    shared: Arc<Shared>,
    refusals: Arc<Semaphore>,
}

impl WsService {
    /// Serves `push` to whom `gate` lets in.
    pub fn new(push: Arc<dyn Push>, gate: Gate) -> Self {
        let shared = Arc::new(Shared { push, producer: None, gate });
        Self { shared, refusals: Arc::new(Semaphore::new(REFUSALS)) }
    }

    /// Publishes what clients send to `producer`. Default: publishing is refused.
    #[must_use]
    pub fn with_producer(mut self, producer: Arc<dyn Producer>) -> Self {
        Arc::make_mut(&mut self.shared).producer = Some(producer);
        self
    }

    async fn answer(self, request: Parts, on_upgrade: Option<OnUpgrade>) -> Response<Body> {
        let is_handshake = matches!(request.method, http::Method::GET | http::Method::CONNECT);
        let handshake = Handshake::check(&request);
        if let Err((status, problem)) = &handshake
            && is_handshake
        {
            self.shared.gate.metrics().rejected(Rejection::from(problem));
            return handshake::refuse(&request, *status, problem);
        }
        let endpoint =
            handshake.as_ref().map_or(pushpull_http::Endpoint::WsRaw, |valid| valid.mode.endpoint());
        let entered = self.shared.gate.enter_or_problem(&request, endpoint).await;
        let (Ok(handshake), Some(on_upgrade)) = (handshake, on_upgrade) else {
            // Another method than a handshake's, which the gate answers; or a server that cannot upgrade.
            return entered.map_or_else(|refusal| refusal.into_response(), |_| cannot_upgrade());
        };
        let shape = Shape { mode: handshake.mode, format: Format::Json, deflate: handshake.deflate };
        let opened = match entered {
            Ok(entry) => self.open(entry, shape).await,
            Err(refusal) => {
                let is_told = matches!(refusal.kind, RefusalKind::Request | RefusalKind::Origin);
                let problem = refusal.problem.clone();
                Err((problem, is_told, refusal.into_response()))
            }
        };
        let opening = match opened {
            Ok(opening) => opening,
            Err((problem, is_told, response)) => {
                let is_told = is_told && is_of_browser(&request, &problem);
                match is_told.then(|| self.refused(&problem, shape)).flatten() {
                    Some(opening) => opening,
                    None => return response,
                }
            }
        };
        tokio::spawn(serve(on_upgrade, opening));
        handshake.response()
    }

    /// Opens what the query asks for, if it asks for anything. The error says whether a browser may be told by a close
    /// code.
    async fn open(
        &self,
        mut entry: Entry,
        mut shape: Shape,
    ) -> Result<Opening, (Problem, bool, Response<Body>)> {
        let mut subscribed = None;
        shape.format = entry.query.format();
        if let Some(topics) = entry.query.topics.clone() {
            let opened = match entry.query.subscribe(None) {
                Ok(wanted) => {
                    let unit = Unit::of(&wanted);
                    let subscription = self.shared.push.subscribe(&entry.cx, wanted).await;
                    subscription.map(|subscription| (subscription, topics, unit)).map_err(Problem::from)
                }
                Err(problem) => Err(problem),
            };
            match opened {
                Ok(opened) => subscribed = Some(opened),
                Err(problem) => {
                    self.shared.gate.metrics().rejected(Rejection::from(&problem));
                    let response = entry.finish(problem_response(&problem, None));
                    return Err((problem, true, response));
                }
            }
        }
        let guard = entry.guard.take();
        let (shared, cx) = (self.shared.clone(), entry.cx);
        Ok(Opening { shape, shared, cx, guard, permit: None, subscribed, refused: None })
    }

    /// A connection that is closed at once, with what a browser's script can see.
    fn refused(&self, problem: &Problem, shape: Shape) -> Option<Opening> {
        let permit = Some(Box::new(self.refusals.clone().try_acquire_owned().ok()?));
        let refused = Some(Closing::over(problem.kind()));
        let (shared, cx) = (self.shared.clone(), Context::default());
        Some(Opening { shape, shared, cx, guard: None, permit, subscribed: None, refused })
    }
}

/// Whether a refusal comes from a browser, whose script would see nothing of a status.
fn is_of_browser(request: &Parts, problem: &Problem) -> bool {
    let kinds = [ErrorKind::Invalid, ErrorKind::Unauthenticated, ErrorKind::Forbidden];
    request.headers.contains_key(ORIGIN) && kinds.contains(&problem.kind())
}

fn cannot_upgrade() -> Response<Body> {
    let problem =
        Problem::new(ErrorKind::Unsupported, "this server cannot change the protocol of a connection");
    problem_response(&problem, None)
}

async fn serve(on_upgrade: OnUpgrade, opening: Opening) {
    match tokio::time::timeout(HANDOVER, on_upgrade).await {
        Ok(Ok(upgraded)) => run(upgraded, opening),
        Ok(Err(error)) => tracing::debug!(%error, "a connection was not handed over"),
        Err(_) => tracing::debug!("a connection was not handed over in time"),
    }
}

/// Takes the socket itself where it is one, so that hyper's buffers go.
fn run(upgraded: Upgraded, opening: Opening) {
    // A task of its own, which has no room for what came before.
    match socket_of(upgraded) {
        Ok((stream, early)) => {
            let _ = stream.set_nodelay(true);
            tokio::spawn(Serving::new(stream, &early, opening));
        }
        Err(upgraded) => {
            tokio::spawn(Serving::new(TokioIo::new(upgraded), b"", opening));
        }
    }
}

/// The socket below, and what was received of it already: of a [`Listener`](pushpull_http::Listener) or of hyper as it is
/// mostly used.
fn socket_of(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let upgraded = match upgraded.downcast::<TokioIo<Rewound>>() {
        Ok(parts) => {
            let (behind, stream) = parts.io.into_inner().into_parts();
            let early =
                if behind.is_empty() { parts.read_buf } else { [parts.read_buf, behind].concat().into() };
            return Ok((stream, early));
        }
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => {
            let parts = auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded)?;
            Ok((parts.io.into_inner(), parts.read_buf))
        }
    }
}

impl<B> Service<Request<B>> for WsService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (parts, _) = request.into_parts();
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(parts, on_upgrade).await) })
    }
}

impl std::fmt::Debug for WsService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WsService").field("gate", &self.shared.gate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
