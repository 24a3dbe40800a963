//! A server of its own: one port for every enabled transport.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use pushpull_http::{Body, BoxError, Gate, Incomings, Listener, ListenerConfig, Paths};
use tokio::net::ToSocketAddrs;

use crate::{
    Backend, Service,
    service::{Caller, caller},
};

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
type Fallback = Arc<dyn Fn(Incomings) -> Answer + Send + Sync>;

/// Serves every enabled transport on one port: HTTP/1.1 with upgrades and HTTP/2.
///
/// ```no_run
/// # use pushpull::{Broker, Server};
/// # #[tokio::main] async fn main() -> std::io::Result<()> {
/// let server = Server::new(Broker::memory()).bind("127.0.0.1:8080").await?;
/// server.serve_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
/// # Ok(()) }
/// ```
pub struct Server {
    backend: Backend,
    gate: Gate,
    paths: Paths,
    config: ListenerConfig,
    drain: Duration,
    fallback: Option<Fallback>,
    status_token: Option<String>,
    webhooks: Option<Caller>,
    #[cfg(feature = "tls")]
    tls: Option<pushpull_http::TlsConfig>,
}

/// A [`Server`] that has its port.
#[derive(Debug)]
pub struct BoundServer {
    listener: Listener,
    address: SocketAddr,
    service: Routed,
    drain: Duration,
    scheme: &'static str,
}

#[derive(Clone)]
struct Routed {
    service: Service,
    fallback: Option<Fallback>,
}

impl Server {
    /// Serves `backend` to everybody.
    pub fn new(backend: impl Into<Backend>) -> Self {
        Self {
            backend: backend.into(),
            gate: Gate::open(),
            paths: Paths::default(),
            config: ListenerConfig::default(),
            drain: Duration::from_secs(30),
            fallback: None,
            status_token: None,
            webhooks: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Who may come, and how many: authorizer, origins, limits, keep-alive. Default: [`Gate::open`].
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Serves under the prefix of `paths`. Default: none.
    #[must_use]
    pub fn with_paths(mut self, paths: Paths) -> Self {
        self.paths = paths;
        self
    }

    /// The limits of the port.
    #[must_use]
    pub fn with_listener(mut self, config: ListenerConfig) -> Self {
        self.config = config;
        self
    }

    /// How long clients have to leave once the shutdown begins; what is left then is cut off. Default: 30 s.
    #[must_use]
    pub fn with_drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Answers `/metrics` and `/health` only to those who bear `token`. Default: to everybody.
    #[must_use]
    pub fn with_status_token(mut self, token: impl Into<String>) -> Self {
        self.status_token = Some(token.into());
        self
    }

    /// Lets `service` (the `WebhookService` of the feature `webhook`, under the same paths) answer `/webhooks` and
    /// below. Default: 404.
    #[must_use]
    pub fn with_webhooks<S>(mut self, service: S) -> Self
    where
        S: tower_service::Service<http::Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.webhooks = Some(caller(service));
        self
    }

    /// Lets `service` (an axum router, say) answer every path that is not of the wire contract.
    /// Default: 404.
    #[must_use]
    pub fn with_fallback<S, R>(mut self, service: S) -> Self
    where
        S: tower_service::Service<Incomings, Response = Response<R>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.fallback = Some(Arc::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                Ok(service.call(request).await?.map(Body::new))
            })
        }));
        self
    }

    /// Takes TLS alone, HTTP/2 or HTTP/1.1 by ALPN.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: pushpull_http::TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Binds `address`; port 0 picks a free one.
    ///
    /// # Errors
    /// As binding does.
    pub async fn bind(self, address: impl ToSocketAddrs) -> io::Result<BoundServer> {
        let listener = Listener::bind(address).await?.with_config(self.config);
        let address = listener.local_addr()?;
        #[cfg(feature = "tls")]
        let (listener, scheme) = match self.tls {
            Some(tls) => (listener.with_tls(tls), "https"),
            None => (listener, "http"),
        };
        #[cfg(not(feature = "tls"))]
        let scheme = "http";
        let mut service = Service::new(self.backend, self.gate, self.paths);
        if let Some(token) = self.status_token {
            service = service.with_status_token(&token);
        }
        let service = service.calling_webhooks(self.webhooks);
        let service = Routed { service, fallback: self.fallback };
        Ok(BoundServer { listener, address, service, drain: self.drain, scheme })
    }
}

impl BoundServer {
    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL by which it is reached, as in `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Serves until `shutdown` is done; then stops accepting, tells every client where to go on, and returns once
    /// all have left or were cut off. `true` if all left by themselves.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections go on until they end.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> bool {
        let drain = self.service.service.drain();
        self.listener.serve(self.service, drain, shutdown, self.drain).await
    }
}

impl tower_service::Service<Incomings> for Routed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incomings) -> Answer {
        match &self.fallback {
            Some(fallback) if !self.service.knows(request.uri().path()) => fallback(request),
            _ => self.service.call(request),
        }
    }
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("backend", &self.backend)
            .field("paths", &self.paths)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
