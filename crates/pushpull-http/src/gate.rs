//! What every server half shares, and the door through which each request comes.

mod builder;
mod call;
mod guard;
mod refusal;
mod unsent;

use std::{
    sync::{Arc, Weak},
    task::Waker,
    time::Duration,
};

use http::{HeaderValue, Method, Response, header::AUTHORIZATION, request::Parts};
use pushpull_core::{Context, ErrorKind, Problem, Standing, Topics};

use crate::{
    Action, Authorizer, Body, Drain, Endpoint, Metrics, Origins, Query, Rejection, Token, Transport,
    body::without_body,
    origin,
    sweep::{Alarm, Membership, Sweeps, Swept, Turn},
};

pub use builder::{ConfigError, GateBuilder, Limits, Peer};
pub use call::{Call, CallKind};
pub use guard::ConnectionGuard;
pub use refusal::{Refusal, RefusalKind};
pub use unsent::Holding;

/// What every server half shares: authorizer, origins, limits, metrics, drain. Cheap to clone (shared).
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    authorizer: Arc<dyn Authorizer>,
    /// Whether that is [`AllowAll`](crate::AllowAll), which need not be asked.
    is_open: bool,
    origins: Origins,
    limits: Limits,
    keep_alive: Duration,
    ping: Duration,
    metrics: Metrics,
    drain: Drain,
    slots: guard::Slots,
    sweeps: Sweeps,
    unsent: unsent::Unsent,
}

/// A request that was let in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Who asks. Its `identity` says when it ceases to hold: [`Entry::expired`].
    pub cx: Context,
    /// What is asked for.
    pub query: Query,
    /// Holds the connection's place in the count until dropped; `None` on the paths of a topic.
    pub guard: Option<ConnectionGuard>,
    origin: Option<HeaderValue>,
    is_head: bool,
}

impl Gate {
    /// A gate with every default: anybody may do anything, no foreign origins.
    pub fn open() -> Self {
        GateBuilder::default().assemble(Origins::own())
    }

    /// Builds one.
    pub fn builder() -> GateBuilder {
        GateBuilder::default()
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Time between two keep-alives of a stream.
    pub fn keep_alive(&self) -> Duration {
        self.0.keep_alive
    }

    /// Time between two pings of a WebSocket.
    pub fn ping(&self) -> Duration {
        self.0.ping
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The end of service.
    pub fn drain(&self) -> &Drain {
        &self.0.drain
    }

    /// Which origins may come.
    pub fn origins(&self) -> &Origins {
        &self.0.origins
    }

    /// Has `member` served by the sweep of those who stand with `standing`, on the runtime that it is called on: whenever
    /// the source has more, until the membership is dropped. Look once more for news after it. `None` outside a runtime.
    pub fn sweep(&self, standing: &Standing, member: Weak<dyn Swept>) -> Option<Membership> {
        self.0.sweeps.join(standing, member)
    }

    /// An alarm for a connection, on the runtime that it is called on. Outside a runtime it never goes off.
    pub fn alarm(&self) -> Alarm {
        self.0.sweeps.alarm()
    }

    /// A place among the tasks that a source woke all at once, of which a few go on at a time: `waker` is woken when its turn
    /// [has come](Turn::has_come). Who goes on later has more to take, and those who publish are not kept waiting for all.
    /// `None` outside a runtime, where nobody has to wait.
    pub fn turn(&self, waker: &Waker) -> Option<Turn> {
        self.0.sweeps.turn(waker)
    }

    /// Counts `bytes` that wait for a peer who does not take them into what all connections may hold so
    /// ([`Limits::unsent`]). Beyond it those that made no progress for longest are given up: `waker` is woken, and
    /// [`Holding::is_over`] says so.
    pub fn hold(&self, bytes: usize, waker: &Waker) -> Holding {
        self.0.unsent.hold(bytes, waker)
    }

    /// Whether no further connection would be let in.
    pub fn is_full(&self) -> bool {
        self.0.slots.is_full()
    }

    /// Lets a request in, or says with which response not.
    ///
    /// In this order: `OPTIONS` and other methods, draining, the connection limit, the origin, the query, who asks, and
    /// whether that may subscribe to each topic. The refusal is counted and bears the CORS headers.
    ///
    /// # Errors
    /// The response to send, which also answers `OPTIONS`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn enter(&self, request: &Parts, endpoint: Endpoint) -> Result<Entry, Response<Body>> {
        self.enter_or_problem(request, endpoint).await.map_err(|refusal| refusal.into_response())
    }

    /// The same, for adapters that may have another way to say no.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn enter_or_problem(&self, request: &Parts, endpoint: Endpoint) -> Result<Entry, Refusal> {
        let checked = self.0.origins.check(request);
        let origin = checked.as_ref().ok().cloned().flatten();
        self.admit(request, endpoint, checked).await.map_err(|mut refusal| {
            self.count(&refusal);
            refusal.see(request, endpoint, origin);
            refusal
        })
    }

    async fn admit(
        &self,
        request: &Parts,
        endpoint: Endpoint,
        origin: Result<Option<HeaderValue>, Problem>,
    ) -> Result<Entry, Refusal> {
        let methods = methods(endpoint);
        if origin::is_options(request) {
            return Err(match origin {
                Ok(_) => Refusal::answered(self.0.origins.preflight(request, methods)),
                Err(problem) => Refusal::new(RefusalKind::Origin, problem),
            });
        }
        if !takes(endpoint, &request.method) {
            return Err(Refusal::method(methods, &request.method));
        }
        let mut guard = self.reserve(endpoint.transport())?;
        let origin = origin.map_err(|problem| Refusal::new(RefusalKind::Origin, problem))?;
        let query = Query::parse(request.uri.query(), endpoint).map_err(Refusal::request)?;
        let cx = self.identify(request, query.access_token.as_ref()).await?;
        if let Some(topics) = &query.topics {
            self.authorize_topics(&cx, topics).await.map_err(Refusal::request)?;
        }
        if let Some(guard) = &mut guard {
            guard.count();
        }
        Ok(Entry { cx, query, guard, origin, is_head: request.method == Method::HEAD })
    }

    fn reserve(&self, transport: Option<Transport>) -> Result<Option<ConnectionGuard>, Refusal> {
        if self.0.drain.is_draining() {
            let problem = Problem::new(ErrorKind::Unavailable, "the server is going away");
            let problem = problem.with_retry(self.0.drain.retry_hint());
            return Err(Refusal::new(RefusalKind::Draining, problem));
        }
        let Some(transport) = transport else { return Ok(None) };
        match self.reserve_slot(transport) {
            Some(guard) => Ok(Some(guard)),
            None => {
                let problem = Problem::new(ErrorKind::Busy, "the server has all the connections it takes");
                let problem = problem.with_retry(self.0.drain.retry_hint());
                Err(Refusal::new(RefusalKind::Full, problem))
            }
        }
    }

    async fn identify(&self, request: &Parts, by_query: Option<&Token>) -> Result<Context, Refusal> {
        let header = bearer(request).map_err(Refusal::request)?;
        let by_query = by_query.map(Token::as_str);
        if header.is_some() && by_query.is_some() {
            return Err(Refusal::request(Problem::invalid("access_token", "a token is given twice")));
        }
        let token = header.or(by_query);
        if self.0.is_open {
            return Ok(context_of(request));
        }
        let cx = self.0.authorizer.identify(token, context_of(request)).await;
        cx.map_err(|problem| Refusal::request(problem).with_token(token.is_some()))
    }

    /// Asks the authorizer whether `cx` may do `action`.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] if not; [`ErrorKind::Unauthenticated`] if its identity has expired.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn authorize(&self, cx: &Context, action: Action<'_>) -> Result<(), Problem> {
        let expires = cx.identity.as_ref().and_then(|identity| identity.expires);
        if expires.is_some_and(|at| at <= tokio::time::Instant::now()) {
            return Err(Problem::new(ErrorKind::Unauthenticated, "the token has expired"));
        }
        if self.0.is_open { Ok(()) } else { self.0.authorizer.authorize(cx, action).await }
    }

    /// Asks whether `cx` may subscribe to every one of `topics`.
    ///
    /// # Errors
    /// As [`Gate::authorize`], for the first that it may not.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn authorize_topics(&self, cx: &Context, topics: &Topics) -> Result<(), Problem> {
        for pattern in topics {
            self.authorize(cx, Action::Subscribe(pattern)).await?;
        }
        Ok(())
    }

    fn count(&self, refusal: &Refusal) {
        let reason = match refusal.kind {
            RefusalKind::Answered => return,
            RefusalKind::Full => Rejection::Full,
            RefusalKind::Draining => Rejection::Draining,
            RefusalKind::Origin => Rejection::Origin,
            RefusalKind::Method => Rejection::BadRequest,
            RefusalKind::Request => Rejection::from(&refusal.problem),
        };
        self.0.metrics.rejected(reason);
    }
}

impl Entry {
    /// Whether the request is a `HEAD`: answer as to `GET`, but stream nothing. [`Entry::finish`] drops the
    /// body.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    /// The browser origin of the request, which was found to be allowed.
    pub fn origin(&self) -> Option<&HeaderValue> {
        self.origin.as_ref()
    }

    /// Adds the CORS headers; drops the body in answer to a `HEAD`.
    pub fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        origin::insert_cors(response.headers_mut(), self.origin.as_ref());
        if self.is_head { without_body(response) } else { response }
    }

    /// Returns when the identity of who asks ceases to hold; never if it does not.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn expired(&self) {
        expired(&self.cx).await;
    }
}

/// Returns when the identity of `cx` ceases to hold; never if it does not.
///
/// # Cancel safety
/// Cancel safe.
pub async fn expired(cx: &Context) {
    match cx.identity.as_ref().and_then(|identity| identity.expires) {
        // Boxed: few identities cease to hold, and a wait for none is to be small.
        Some(at) => Box::pin(tokio::time::sleep_until(at)).await,
        None => std::future::pending().await,
    }
}

/// The methods that a path takes, as `Allow` lists them.
fn methods(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::WsRaw | Endpoint::WsSubprotocol => "GET, CONNECT, OPTIONS",
        Endpoint::Sse | Endpoint::Longpoll | Endpoint::Poll => "GET, HEAD, OPTIONS",
        Endpoint::Publish | Endpoint::Latest => "GET, HEAD, POST, OPTIONS",
        Endpoint::Webhooks => "GET, HEAD, POST, DELETE, OPTIONS",
    }
}

/// Whether [`methods`] has it.
fn takes(endpoint: Endpoint, method: &Method) -> bool {
    match *method {
        Method::GET | Method::OPTIONS => true,
        Method::POST => matches!(endpoint, Endpoint::Publish | Endpoint::Latest | Endpoint::Webhooks),
        _ => methods(endpoint).split(", ").any(|known| known == method.as_str()),
    }
}

fn context_of(request: &Parts) -> Context {
    let mut cx = request.extensions.get::<Context>().cloned().unwrap_or_default();
    if let Some(Peer(peer)) = request.extensions.get() {
        cx.peer = cx.peer.or(Some(*peer));
    }
    cx
}

/// The bearer token of `Authorization`; other schemes are not ours to judge.
fn bearer(request: &Parts) -> Result<Option<&str>, Problem> {
    let mut values = request.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid("Authorization", "it is given twice"));
    }
    let text = value.to_str().map_err(|_| Problem::invalid("Authorization", "it is not ASCII"))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    Ok((scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token))
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("limits", &self.0.limits)
            .field("drain", &self.0.drain)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
