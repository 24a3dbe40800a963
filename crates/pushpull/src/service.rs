//! Every enabled transport as one mountable service.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use pushpull_core::{ErrorKind, Problem};
use pushpull_http::{
    Body, BoxError, Drain, Gate, Paths, Route, StatusService, TopicService, Transport,
    problem::problem_response,
};

use crate::Backend;

/// Characters of a path that an answer names.
const LONGEST_NAMED: usize = 200;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
type Handler = Arc<dyn Fn(Request<()>) -> Answer + Send + Sync>;
pub(crate) type Caller = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// Serves every path of the wire contract, by every enabled transport: mount it into an axum, hyper or tower
/// application as it is. Cheap to clone (shared).
///
/// ```
/// # use pushpull::Broker;
/// let (service, drain) = pushpull::service(Broker::memory());
/// let app: axum::Router = axum::Router::new().nest_service("/live", service);
/// // at shutdown, since a server's own shutdown waits for streams for ever, or not at all:
/// // drain.finish(Duration::from_secs(10)).await;
/// # let _ = (app, drain);
/// ```
#[derive(Clone)]
pub struct Service(Arc<Parts>);

/// What a service is made of: one thing to clone a request.
#[derive(Clone)]
struct Parts {
    paths: Paths,
    transports: Arc<Transports>,
    topics: TopicService,
    status: StatusService,
    webhooks: Option<Caller>,
    gate: Gate,
}

/// The server halves by transport.
#[derive(Clone, Default)]
pub(crate) struct Transports {
    /// A request's body is dropped: none of them takes one.
    streams: Vec<(Transport, Handler)>,
    calls: Option<Calls>,
}

/// What serves calls with a body, at paths of its own.
#[derive(Clone)]
struct Calls {
    serves: fn(&str) -> bool,
    caller: Caller,
}

impl Transports {
    #[allow(dead_code, reason = "without any transport none is added")]
    pub(crate) fn add<S>(&mut self, transport: Transport, service: S)
    where
        S: tower_service::Service<
                Request<()>,
                Response = Response<Body>,
                Error = Infallible,
                Future = Answer,
            > + Clone
            + Send
            + Sync
            + 'static,
    {
        self.streams.push((transport, Arc::new(move |request| service.clone().call(request))));
    }

    #[allow(dead_code, reason = "without gRPC none is added")]
    pub(crate) fn add_calls<S>(&mut self, serves: fn(&str) -> bool, service: S)
    where
        S: tower_service::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: 'static,
    {
        self.calls = Some(Calls { serves, caller: caller(service) });
    }

    fn caller(&self, path: &str) -> Option<&Caller> {
        self.calls.as_ref().filter(|calls| (calls.serves)(path)).map(|calls| &calls.caller)
    }

    fn handler(&self, transport: Transport) -> Option<&Handler> {
        self.streams.iter().find(|(known, _)| *known == transport).map(|(_, handler)| handler)
    }
}

/// Serves `backend` to everybody, without a prefix; the handle ends it.
///
/// For authorization, origins, limits or a prefix: [`Service::new`].
pub fn service(backend: impl Into<Backend>) -> (Service, Drain) {
    let gate = Gate::open();
    let drain = gate.drain().clone();
    (Service::new(backend, gate, Paths::default()), drain)
}

impl Service {
    /// Serves `backend` under `paths` to whom `gate` lets in; [`Gate::drain`] ends it.
    pub fn new(backend: impl Into<Backend>, gate: Gate, paths: Paths) -> Self {
        let backend = backend.into();
        let mut topics = TopicService::new(gate.clone()).with_paths(paths.clone());
        if let Some(producer) = &backend.producer {
            topics = topics.with_producer(producer.clone());
        }
        if let Some(pull) = &backend.pull {
            topics = topics.with_pull(pull.clone());
        }
        let mut status = StatusService::new(gate.clone()).with_paths(paths.clone());
        if let Some(observed) = &backend.observed {
            status = status.with_observed(observed.clone());
        }
        let transports = Arc::new(crate::transports(&backend, &gate));
        Self(Arc::new(Parts { transports, paths, topics, status, webhooks: None, gate }))
    }

    /// Answers `/metrics` and `/health` only to those who bear `token`. Default: to everybody.
    #[must_use]
    pub fn with_status_token(mut self, token: &str) -> Self {
        let parts = Arc::make_mut(&mut self.0);
        parts.status = parts.status.clone().with_token(token);
        self
    }

    /// Lets `service` answer `/webhooks` and below: see [`Server::with_webhooks`](crate::Server::with_webhooks).
    #[must_use]
    pub fn with_webhooks<S>(self, service: S) -> Self
    where
        S: tower_service::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.calling_webhooks(Some(caller(service)))
    }

    pub(crate) fn calling_webhooks(mut self, webhooks: Option<Caller>) -> Self {
        Arc::make_mut(&mut self.0).webhooks = webhooks;
        self
    }

    pub(crate) fn drain(&self) -> Drain {
        self.0.gate.drain().clone()
    }

    /// Whether `path` is one of its own.
    pub(crate) fn knows(&self, path: &str) -> bool {
        self.0.paths.route(path).is_some() || self.0.transports.caller(path).is_some()
    }

    fn stream<B>(&self, transport: Transport, request: Request<B>) -> Answer {
        match self.0.transports.handler(transport) {
            Some(handler) => handler(request.map(drop)),
            None => {
                let detail = format!("this server does not speak {transport}");
                answer(Problem::new(ErrorKind::Unsupported, detail))
            }
        }
    }
}

pub(crate) fn caller<S>(service: S) -> Caller
where
    S: tower_service::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    Arc::new(move |request| Box::pin(service.clone().call(request)))
}

/// Names the path, as long as it is one that somebody wrote: who mistook a prefix sees it.
fn no_such_path(path: &str) -> String {
    match path.char_indices().nth(LONGEST_NAMED) {
        Some((end, _)) => format!("there is no such path: {}...", &path[..end]),
        None => format!("there is no such path: {path}"),
    }
}

fn answer(problem: Problem) -> Answer {
    Box::pin(async move { Ok(problem_response(&problem, None)) })
}

impl<B> tower_service::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        match self.0.paths.route(request.uri().path()) {
            Some(Route::Ws) => self.stream(Transport::Ws, request),
            Some(Route::Sse) => self.stream(Transport::Sse, request),
            Some(Route::Longpoll) => self.stream(Transport::Longpoll, request),
            Some(Route::Poll) => self.stream(Transport::Poll, request),
            Some(Route::Topic(_)) => self.0.topics.clone().call(request),
            Some(Route::Webhooks) => match &self.0.webhooks {
                Some(caller) => caller(request.map(Body::new)),
                None => answer(Problem::new(ErrorKind::NotFound, "this server registers no webhooks")),
            },
            Some(Route::Metrics | Route::Health | Route::HealthLive) => self.0.status.clone().call(request),
            _ => match self.0.transports.caller(request.uri().path()) {
                Some(caller) => caller(request.map(Body::new)),
                None => answer(Problem::new(ErrorKind::NotFound, no_such_path(request.uri().path()))),
            },
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transports: Vec<_> =
            self.0.transports.streams.iter().map(|(transport, _)| transport.as_str()).collect();
        f.debug_struct("Service")
            .field("paths", &self.0.paths)
            .field("transports", &transports)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_none_is_named_up_to_a_length() {
        assert_eq!(no_such_path("/live/ws"), "there is no such path: /live/ws");
        let long = no_such_path(&"\u{e4}".repeat(5000));
        assert_eq!(long.chars().filter(|letter| *letter == '\u{e4}').count(), LONGEST_NAMED);
        assert!(long.ends_with("..."));
    }
}
