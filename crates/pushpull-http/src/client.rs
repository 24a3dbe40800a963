//! The HTTP client that the client halves share.

mod polling;
mod producer;
mod pull;
mod stream;
mod url;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use pushpull_core::{ErrorKind, Problem};
use tokio::time::{Instant, timeout_at};

pub use polling::{PollPath, PollingClient};
pub use producer::HttpProducer;
pub use pull::HttpPull;
pub use stream::StreamClient;
pub use url::BaseUrl;

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// The longest body of an error that is read: 64 KiB.
const MAX_PROBLEM: usize = 64 * 1024;

/// A client of one server: keeps connections alive, and gives every request a deadline. Cheap to clone (shared).
#[derive(Clone)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    base: Arc<BaseUrl>,
    bearer: Option<HeaderValue>,
}

/// A response whose body is still to be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, to be read as it comes.
    pub body: Incoming,
    on_upgrade: Option<OnUpgrade>,
    /// Whom it came from, for people.
    url: String,
}

/// Why a request got no answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestError {
    /// What went wrong.
    pub problem: Problem,
    /// Whether the request cannot have reached the server.
    pub unsent: bool,
}

impl HttpClient {
    /// A client of the server at `base`.
    ///
    /// # Errors
    /// If `base` is `https` and the feature `tls` is off.
    pub fn new(base: BaseUrl) -> Result<Self, Problem> {
        base.check_supported()?;
        Ok(Self::with_connector(base, connector()))
    }

    /// A client that trusts what `tls` trusts, instead of the roots that browsers trust.
    ///
    /// # Errors
    /// None today; the signature leaves room for checks of `tls`.
    #[cfg(feature = "tls")]
    pub fn with_tls(base: BaseUrl, tls: tokio_rustls::rustls::ClientConfig) -> Result<Self, Problem> {
        let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        Ok(Self::with_connector(base, builder.enable_http1().wrap_connector(tcp())))
    }

    fn with_connector(base: BaseUrl, connector: Connector) -> Self {
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(20)).build(connector);
        Self { client, base: Arc::new(base), bearer: None }
    }

    /// The same, bearing `token` (RFC 6750).
    ///
    /// # Errors
    /// If `token` cannot stand in a header.
    pub fn with_token(mut self, token: &str) -> Result<Self, Problem> {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| Problem::invalid("token", "it cannot stand in a header"))?;
        value.set_sensitive(true);
        self.bearer = Some(value);
        Ok(self)
    }

    /// The server's URL.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Sends a request to `path` (with its query, below the base) and waits for the head of the answer until
    /// `deadline`.
    ///
    /// # Errors
    /// If no answer came. An answer of any status is none.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up; it may have reached the server.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        let request = self.request(method, path, headers, body).map_err(RequestError::unsent)?;
        match timeout_at(deadline, self.client.request(request)).await {
            Err(_) => {
                Err(RequestError::new(Problem::new(ErrorKind::Timeout, "no answer within the deadline")))
            }
            Ok(Err(error)) if error.is_connect() => {
                Err(RequestError::unsent(unavailable("the server cannot be reached", &error)))
            }
            Ok(Err(error)) => Err(RequestError::new(unavailable("the connection broke", &error))),
            Ok(Ok(response)) => {
                let (mut head, body) = response.into_parts();
                let on_upgrade = head.extensions.remove::<OnUpgrade>();
                let url = self.base.at(path.split('?').next().unwrap_or_default());
                Ok(Answer { status: head.status, headers: head.headers, body, on_upgrade, url })
            }
        }
    }

    /// Sends a `GET`: see [`HttpClient::send`].
    ///
    /// # Errors
    /// As [`HttpClient::send`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up.
    pub async fn get(&self, path: &str, headers: HeaderMap, deadline: Instant) -> Result<Answer, Problem> {
        self.send(Method::GET, path, headers, Bytes::new(), deadline).await.map_err(|error| error.problem)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Problem> {
        let mut request = Request::builder().method(method).uri(self.base.at(path)).body(Full::new(body));
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers;
            if let Some(bearer) = &self.bearer {
                request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
            }
        }
        request.map_err(|_| Problem::invalid("url", format!("not the path of a URL: {path}")))
    }
}

impl Answer {
    /// Reads the whole body, of at most `limit` bytes, until `deadline`.
    ///
    /// # Errors
    /// If it is larger, breaks off or comes too late.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn bytes(self, limit: usize, deadline: Instant) -> Result<Bytes, Problem> {
        match timeout_at(deadline, Limited::new(self.body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                Err(Problem::new(ErrorKind::TooLarge, format!("the answer has more than {limit} bytes")))
            }
            Ok(Err(error)) => Err(unavailable("the answer broke off", &*error)),
            Err(_) => Err(Problem::new(ErrorKind::Timeout, "the answer did not end within the deadline")),
        }
    }

    /// The connection itself, once the server has changed to another protocol (101). Bytes that came right behind
    /// the head are read from it first.
    ///
    /// # Errors
    /// If the server did not, or does not within the deadline.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn upgraded(self, deadline: Instant) -> Result<Upgraded, Problem> {
        let on_upgrade = self.on_upgrade.filter(|_| self.status == StatusCode::SWITCHING_PROTOCOLS);
        let Some(on_upgrade) = on_upgrade else {
            return Err(Problem::new(ErrorKind::Protocol, format!("{} answered {}", self.url, self.status)));
        };
        match timeout_at(deadline, on_upgrade).await {
            Ok(Ok(upgraded)) => Ok(upgraded),
            Ok(Err(error)) => Err(unavailable("the connection broke", &error)),
            Err(_) => Err(Problem::new(ErrorKind::Timeout, "the connection was not handed over in time")),
        }
    }

    /// The problem that an answer of an error status tells.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn problem(self, deadline: Instant) -> Problem {
        let (status, headers, url) = (self.status, self.headers.clone(), self.url.clone());
        let body = self.bytes(MAX_PROBLEM, deadline).await.unwrap_or_default();
        crate::problem::parse_problem_of(&url, status, &headers, &body)
    }
}

impl RequestError {
    fn new(problem: Problem) -> Self {
        Self { problem, unsent: false }
    }

    fn unsent(problem: Problem) -> Self {
        Self { problem, unsent: true }
    }
}

fn unavailable(what: &str, error: &(dyn Error + 'static)) -> Problem {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Problem::new(ErrorKind::Unavailable, format!("{what}: {innermost}"))
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    tcp.enforce_http(false);
    tcp
}

#[cfg(feature = "tls")]
fn connector() -> Connector {
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots()).with_no_client_auth());
    // The provider is ring's own, which supports the default versions.
    let config = config.unwrap_or_else(|error| unreachable!("ring supports TLS 1.2 and 1.3: {error}"));
    builder.with_tls_config(config).https_or_http().enable_http1().wrap_connector(tcp())
}

#[cfg(feature = "tls")]
fn roots() -> tokio_rustls::rustls::RootCertStore {
    tokio_rustls::rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

#[cfg(not(feature = "tls"))]
fn connector() -> Connector {
    tcp()
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("base", &self.base).finish_non_exhaustive()
    }
}
