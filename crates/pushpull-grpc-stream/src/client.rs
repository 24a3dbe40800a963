//! The client half.

mod publish;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use pushpull_core::{
    Backoff, Batch, Context, Delivery, Dial, Dialing, ErrorKind, Feed, Fetch, FetchError, Problem, Pull,
    Push, Reconnecting, Subscribe, SubscribeError, Subscription,
};
use pushpull_http::{BaseUrl, Transport};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    codec::{self, Frame},
    feed::{GrpcFeed, Outbox},
    proto::delivery_client::DeliveryClient,
    status::problem_of,
};

/// How long a connection may take: 10 s.
const CONNECT: Duration = Duration::from_secs(10);
/// Two and a half of a server's keep-alive intervals.
const SILENCE: Duration = Duration::from_millis(37_500);
/// How long an answer may take beyond what it waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// h2 closes a connection whose buffered DATA frames are too short in sum: each below 256 bytes counts by what it lacks
/// against half the connection's window (RUSTSEC-2026-0258). With one stream a connection, a stream window of this size
/// is full before messages of 17 bytes and more, one a frame, have used that up.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// A [`Push`] over `Subscribe` (over `Attach`, which carries the credit, where a window is asked for), a [`Pull`] over
/// `Fetch` and a [`Producer`](pushpull_core::Producer) over `Publish`. Cheap to clone.
///
/// A subscription has a connection of its own, reconnects, resumes from its place, and tells every change of the link.
/// What is granted ([`Subscription::grant`]) is sent at once. Questions and publishes share a connection.
#[derive(Clone, Debug)]
pub struct GrpcClient {
    endpoint: Endpoint,
    bearer: Option<MetadataValue<Ascii>>,
    silence: Duration,
    backoff: Backoff,
    /// What questions and publishes go over, once one was made.
    shared: Arc<Mutex<Option<Channel>>>,
}

impl GrpcClient {
    /// A client of the server at `url`: `grpc://host:port` or `http://host:port`; over TLS `grpcs` or `https`.
    ///
    /// # Errors
    /// If `url` is none, names a path, which gRPC has no place for, or asks for TLS without the feature for it.
    pub fn new(url: &str) -> Result<Self, Problem> {
        let url = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("grpc") => format!("http://{rest}"),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("grpcs") => format!("https://{rest}"),
            _ => url.to_owned(),
        };
        let base = url.parse::<BaseUrl>()?;
        if !base.prefix().is_empty() {
            return Err(Problem::invalid("url", format!("{url:?} names a path")));
        }
        let (backoff, shared) = (Backoff::default(), Arc::default());
        Ok(Self { endpoint: endpoint(&base)?, bearer: None, silence: SILENCE, backoff, shared })
    }

    /// The same, bearing `token` (RFC 6750).
    ///
    /// # Errors
    /// If `token` cannot stand in metadata.
    pub fn with_token(self, token: &str) -> Result<Self, Problem> {
        let bearer = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
        let mut bearer = bearer.map_err(|_| Problem::invalid("token", "it cannot stand in metadata"))?;
        bearer.set_sensitive(true);
        Ok(Self { bearer: Some(bearer), ..self })
    }

    /// Trusts the authorities in `pem` instead of those that browsers trust.
    ///
    /// # Errors
    /// If there is none in it.
    #[cfg(feature = "tls")]
    pub fn with_authorities(mut self, pem: &[u8]) -> Result<Self, Problem> {
        let authorities = tonic::transport::Certificate::from_pem(pem);
        let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(authorities);
        let secured = self.endpoint.tls_config(tls);
        self.endpoint = secured.map_err(|error| Problem::invalid("pem", error.to_string()))?;
        Ok(self)
    }

    /// Sets after how long without a frame a stream counts as dead. Default: 37.5 s, two and a half of a server's
    /// keep-alive intervals.
    #[must_use]
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Sets the delays between two attempts to connect.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }

    /// The connection of questions and publishes. Made where it is used, since it needs the runtime.
    fn shared(&self) -> DeliveryClient<Channel> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        DeliveryClient::new(shared.get_or_insert_with(|| self.endpoint.connect_lazy()).clone())
    }

    /// What came of a call over the shared connection, which is made anew if it broke.
    fn judge<T>(&self, result: Result<tonic::Response<T>, Status>) -> Result<T, Status> {
        result.map(tonic::Response::into_inner).inspect_err(|status| {
            if problem_of(status).kind() == ErrorKind::Unavailable {
                *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        })
    }

    async fn connect(self, wanted: Subscribe) -> Result<Box<dyn Feed>, SubscribeError> {
        let deadline = Instant::now() + CONNECT;
        let late = || Problem::new(ErrorKind::Timeout, "no answer within the deadline");
        let opened = timeout_at(deadline, self.open(&wanted)).await.map_err(|_| late())?;
        let mut feed = opened?;
        // Who is refused hears it first: then it is the subscribe that fails.
        if let Ok(first) = timeout_at(deadline, feed.first()).await {
            first?;
        }
        Ok(Box::new(feed))
    }

    async fn open(&self, wanted: &Subscribe) -> Result<GrpcFeed, Problem> {
        let channel = self.endpoint.connect().await.map_err(|error| {
            let mut innermost: &dyn std::error::Error = &error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            Problem::new(ErrorKind::Unavailable, format!("the server cannot be reached: {innermost}"))
        })?;
        let mut client = DeliveryClient::new(channel);
        let asked = codec::ask_subscribe(wanted);
        let outbox = wanted.window.map(|_| Outbox::new(asked.clone()));
        let opened = match &outbox {
            Some(outbox) => client.attach(self.request(outbox.frames())).await,
            None => client.subscribe(self.request(asked)).await,
        };
        let frames = opened.map_err(|status| problem_of(&status))?.into_inner();
        Ok(GrpcFeed::new(frames, outbox, self.silence, wanted))
    }
}

fn endpoint(base: &BaseUrl) -> Result<Endpoint, Problem> {
    let no_url = |error: tonic::transport::Error| Problem::invalid("url", error.to_string());
    let endpoint = Endpoint::from_shared(base.to_string()).map_err(no_url)?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(25))
        .keep_alive_timeout(Duration::from_secs(20));
    secured(endpoint, base)
}

#[cfg(feature = "tls")]
fn secured(endpoint: Endpoint, base: &BaseUrl) -> Result<Endpoint, Problem> {
    if !base.is_https() {
        return Ok(endpoint);
    }
    let tls = tonic::transport::ClientTlsConfig::new().with_enabled_roots();
    endpoint.tls_config(tls).map_err(|error| Problem::invalid("url", error.to_string()))
}

#[cfg(not(feature = "tls"))]
fn secured(endpoint: Endpoint, base: &BaseUrl) -> Result<Endpoint, Problem> {
    match base.is_https() {
        true => Err(Problem::new(ErrorKind::Unsupported, "https needs the feature `tls`")),
        false => Ok(endpoint),
    }
}

impl Dial for GrpcClient {
    fn dial(&self, request: Subscribe) -> Dialing {
        Box::pin(self.clone().connect(request))
    }

    fn transport(&self) -> Option<&'static str> {
        Some(Transport::Grpc.as_str())
    }
}

#[async_trait]
impl Push for GrpcClient {
    async fn subscribe(&self, _cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        Reconnecting::start(self.clone(), request, self.backoff.clone()).await
    }
}

#[async_trait]
impl Pull for GrpcClient {
    /// A wait goes in whole seconds, rounded down.
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let deadline = cx.deadline.unwrap_or_else(|| Instant::now() + request.wait + PATIENCE);
        let mut asked = self.request(codec::ask_fetch(&request));
        asked.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let mut client = self.shared();
        let answered = timeout_at(deadline, client.fetch(asked)).await;
        let answered =
            answered.map_err(|_| Problem::new(ErrorKind::Timeout, "no answer within the deadline"))?;
        let reply = self.judge(answered).map_err(|status| problem_of(&status))?;
        let mut batch = Batch::default();
        for frame in reply.events {
            if let Frame::Delivery(delivery @ (Delivery::Event(_) | Delivery::Gap(_))) =
                codec::frame_in(frame)?
            {
                batch.deliveries.push(delivery);
            }
        }
        batch.place = codec::place_in(&reply.cursor)?;
        (batch.more, batch.closed) = (reply.more, reply.closed);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_each_kind_are_taken() {
        for (url, base) in [
            ("grpc://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("GRPC://127.0.0.1:8080/", "http://127.0.0.1:8080/"),
            ("http://[::1]:80", "http://[::1]:80/"),
        ] {
            assert_eq!(GrpcClient::new(url).unwrap().endpoint.uri().to_string(), base);
        }
        for bad in ["", "h:80", "ftp://h", "grpc://", "grpc://h/live", "grpc://h?q"] {
            assert_eq!(GrpcClient::new(bad).unwrap_err().parameter(), Some("url"), "{bad}");
        }
        let tls = GrpcClient::new("grpcs://h").map_err(|problem| problem.kind());
        let expected = if cfg!(feature = "tls") { None } else { Some(ErrorKind::Unsupported) };
        assert_eq!(tls.err(), expected);
    }

    #[test]
    fn a_token_must_fit_into_metadata() {
        let client = GrpcClient::new("grpc://h").unwrap();
        assert_eq!(client.clone().with_token("a\nb").unwrap_err().parameter(), Some("token"));
        assert!(!format!("{:?}", client.with_token("secret").unwrap()).contains("secret"));
    }
}
