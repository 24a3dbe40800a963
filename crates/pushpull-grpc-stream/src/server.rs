//! The server half: `pushpull.v1.Delivery`, health and reflection.

pub(crate) mod call;
mod extra;
mod fetch;
mod publish;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
    request::Parts,
};
use pushpull_core::{ErrorKind, Problem, Producer, Pull, Push};
use pushpull_http::{Body, BoxError, CallKind, Gate, proto::Counted};
use tokio::time::Instant;
use tonic::server::NamedService;
use tower_service::Service;

use crate::{
    codec,
    proto::{FetchRequest, PublishRequest, SubscribeRequest},
    session::{Opening, Session, Shared},
};
use call::{Failure, deadline_of, read_one, unary_response, within};
use extra::Extras;

/// What comes in, whatever server it came through.
pub(crate) type Incoming = tonic::body::Body;

/// Most bytes of a message that describe its payload: names, topics, and what protobuf adds.
const ENVELOPE: usize = 64 * 1024;

/// Serves `pushpull.v1.Delivery` over any [`Push`], and beside it health (`grpc.health.v1`) and reflection (v1 and
/// v1alpha). Cheap to clone.
///
/// It takes HTTP/2 requests with `content-type: application/grpc` on the paths that [`GrpcService::serves`] knows, and
/// answers others as gRPC does. It mounts into an axum router as a fallback service or by [`GrpcService::PATHS`]; into a
/// tonic router as the service of its name, where health and reflection are that router's own affair.
///
/// A consumer that does not read costs its place and at most 64 KiB (or one event), the rest of what was being written.
/// Server frames and replies stay below 4 MiB: an event that is larger ends its stream with `RESOURCE_EXHAUSTED`.
#[derive(Clone)]
pub struct GrpcService {
    push: Arc<dyn Push>,
    pull: Option<Arc<dyn Pull>>,
    producer: Option<Arc<dyn Producer>>,
    gate: Gate,
    extras: Extras,
}

impl GrpcService {
    /// The paths under which it lies, as patterns of an axum router.
    pub const PATHS: [&str; 4] = [
        "/pushpull.v1.Delivery/{method}",
        "/grpc.health.v1.Health/{method}",
        "/grpc.reflection.v1.ServerReflection/{method}",
        "/grpc.reflection.v1alpha.ServerReflection/{method}",
    ];

    /// Serves `push` to whom `gate` lets in.
    pub fn new(push: Arc<dyn Push>, gate: Gate) -> Self {
        let extras = Extras::new(&gate);
        Self { push, pull: None, producer: None, gate, extras }
    }

    /// Answers `Fetch` from `pull`. Default: it is unimplemented.
    #[must_use]
    pub fn with_pull(mut self, pull: Arc<dyn Pull>) -> Self {
        self.pull = Some(pull);
        self
    }

    /// Publishes to `producer`. Default: publishing is unimplemented.
    #[must_use]
    pub fn with_producer(mut self, producer: Arc<dyn Producer>) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Whether `path` is one of its own: where to lead a request on a port that others share.
    pub fn serves(path: &str) -> bool {
        Self::PATHS.iter().any(|pattern| {
            let service = pattern.trim_end_matches("{method}");
            path.strip_prefix(service).is_some_and(|method| !method.is_empty() && !method.contains('/'))
        })
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        if let Some(refused) = refuse_http(&request) {
            return refused;
        }
        let path = request.uri().path();
        let Some(method) = path.strip_prefix("/pushpull.v1.Delivery/").map(str::to_owned) else {
            return self.extras.answer(request).await;
        };
        let (head, body) = request.into_parts();
        if let Err(failure) = call::check_encoding(&head) {
            return failure.into_response(&self.gate);
        }
        let answered = match &*method {
            "Publish" => self.publish(&head, body).await,
            "Fetch" => self.fetch(&head, body).await,
            "Subscribe" => self.subscribe(&head, body).await,
            "Attach" => self.attach(&head, body).await,
            _ => Err(Problem::new(ErrorKind::Unsupported, "there is no such method").into()),
        };
        answered.unwrap_or_else(|failure| failure.into_response(&self.gate))
    }

    async fn publish(&self, head: &Parts, body: Incoming) -> Result<Response<Body>, Failure> {
        let deadline = deadline_of(head)?;
        let published = within(deadline, async {
            let call = self.gate.enter_call(head, CallKind::Brief).await?;
            let limit = self.gate.limits().batch().saturating_add(ENVELOPE);
            let asked: PublishRequest = read_one(&self.gate, body, limit).await?;
            publish::answer(&self.shared(call.cx), asked).await
        });
        let published = published.await.map_err(Failure::of_publish)?;
        Ok(unary_response(&codec::message(&publish::reply(&published))))
    }

    async fn fetch(&self, head: &Parts, body: Incoming) -> Result<Response<Body>, Failure> {
        let deadline = deadline_of(head)?;
        let reply = within(deadline, async {
            let mut call = self.gate.enter_call(head, CallKind::Lasting).await?;
            call.cx.deadline = deadline.or(call.cx.deadline);
            let asked: FetchRequest = read_one(&self.gate, body, ENVELOPE).await?;
            let reply = fetch::answer(self.pull.as_deref(), &self.gate, &call.cx, &asked).await?;
            // A source that minds the deadline itself answers with nothing just then.
            match deadline {
                Some(deadline) if deadline <= Instant::now() => Err(call::too_late().into()),
                _ => Ok(reply),
            }
        });
        Ok(unary_response(&reply.await?))
    }

    async fn subscribe(&self, head: &Parts, body: Incoming) -> Result<Response<Body>, Failure> {
        let deadline = deadline_of(head)?;
        let opened = within(deadline, async {
            let mut call = self.gate.enter_call(head, CallKind::Lasting).await?;
            call.cx.deadline = deadline.or(call.cx.deadline);
            let asked: SubscribeRequest = read_one(&self.gate, body, ENVELOPE).await?;
            let wanted = codec::subscribe_of(&asked)?;
            self.gate.authorize_topics(&call.cx, &wanted.topics).await?;
            Ok((call, wanted))
        });
        let (call, wanted) = opened.await?;
        let session = Session::new(self.shared(call.cx), call.guard, deadline, Opening::Subscribe(wanted));
        Ok(streaming_response(Body::new(session)))
    }

    async fn attach(&self, head: &Parts, body: Incoming) -> Result<Response<Body>, Failure> {
        let deadline = deadline_of(head)?;
        let entered = within(deadline, async { Ok(self.gate.enter_call(head, CallKind::Lasting).await?) });
        let mut call = entered.await?;
        call.cx.deadline = deadline.or(call.cx.deadline);
        let limit = self.gate.limits().batch().saturating_add(ENVELOPE);
        let frames = call::streaming(body, limit, Counted::OfFrame);
        let session = Session::new(self.shared(call.cx), call.guard, deadline, Opening::Attach(frames));
        Ok(streaming_response(Body::new(session)))
    }

    fn shared(&self, cx: pushpull_core::Context) -> Shared {
        Shared { push: self.push.clone(), producer: self.producer.clone(), gate: self.gate.clone(), cx }
    }
}

/// What is no gRPC at all is told by HTTP.
fn refuse_http<B>(request: &Request<B>) -> Option<Response<Body>> {
    let mut refused = Response::new(Body::empty());
    if request.method() != Method::POST {
        *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(refused);
    }
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_grpc = kind == b"application/grpc"
        || kind.starts_with(b"application/grpc+proto")
        || kind.starts_with(b"application/grpc;");
    *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    (!is_grpc).then_some(refused)
}

pub(crate) fn streaming_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl NamedService for GrpcService {
    const NAME: &'static str = "pushpull.v1.Delivery";
}

impl<B> Service<Request<B>> for GrpcService
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request.map(Incoming::new)).await) })
    }
}

impl fmt::Debug for GrpcService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcService").field("gate", &self.gate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_its_own_or_not() {
        for path in [
            "/pushpull.v1.Delivery/Publish",
            "/pushpull.v1.Delivery/NoSuch",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(GrpcService::serves(path), "{path}");
        }
        for path in
            ["/", "/pushpull.v1.Delivery", "/pushpull.v1.Delivery/", "/pushpull.v1.Delivery/a/b", "/sse"]
        {
            assert!(!GrpcService::serves(path), "{path}");
        }
    }
}
