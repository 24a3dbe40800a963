//! The client half, by URL.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use pushpull_core::{
    Context, ErrorKind, Message, Problem, Producer, PublishError, Published, Push, Subscribe, SubscribeError,
    Subscription, Topic,
};
use pushpull_http::{HttpClient, Transport};

/// Makes one transport's source.
pub(crate) type Make = fn(&Asked<'_>) -> Result<Source, Problem>;

/// What is connected to: the URL without the pin, and how.
pub(crate) struct Asked<'a> {
    pub(crate) url: String,
    pub(crate) options: &'a ConnectOptions,
}

impl Asked<'_> {
    #[allow(dead_code, reason = "used where a transport over HTTP is enabled")]
    pub(crate) fn http(&self) -> Result<HttpClient, Problem> {
        let http = HttpClient::new(self.url.parse()?)?;
        match &self.options.token {
            Some(token) => http.with_token(token),
            None => Ok(http),
        }
    }
}

/// A server, reached by one transport: a [`Push`] and a [`Producer`] whichever it is. Cheap to clone (shared).
///
/// A subscription reconnects, resumes from its place, and tells every change of the link.
///
/// But over gRPC, publishing goes by `POST`, whichever transport subscriptions take, with an idempotency id of its own where the message has
/// none: it is tried again for up to 30 s, or until the deadline of the call's [`Context`], 10 s an attempt. Several messages
/// go as one batch only if they are JSON of one event name and key.
#[derive(Clone)]
pub struct Source {
    push: Arc<dyn Push>,
    producer: Arc<dyn Producer>,
    transport: Transport,
}

/// How to connect, beyond the URL.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) token: Option<String>,
    pub(crate) interval: Duration,
    pub(crate) wait: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { token: None, interval: Duration::from_secs(1), wait: Duration::from_secs(25) }
    }
}

impl ConnectOptions {
    /// Every default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bears `token` (RFC 6750). Default: none.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The time between two polls, jittered by a tenth. Default: 1 s.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long the server may hold a long poll, in whole seconds up to 60. Default: 25 s.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// As [`connect`], with these options.
    ///
    /// # Errors
    /// As [`connect`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    #[allow(clippy::unused_async, reason = "choosing a transport by trying will wait")]
    pub async fn connect(&self, url: &str) -> Result<Source, Problem> {
        let (pinned, url) = Target::parse(url)?;
        let clients = crate::clients();
        let make = match pinned {
            None => clients.first().map(|(_, make)| *make),
            Some(wanted) => clients.iter().find(|(known, _)| *known == wanted).map(|(_, make)| *make),
        };
        let make = make.ok_or_else(|| not_enabled(pinned))?;
        make(&Asked { url, options: self })
    }
}

/// A source at `url`, over the transport that its scheme pins: `ws://`, `wss://`, `sse+http://`, `longpoll+http://`,
/// `poll+http://`, `grpc://`, and the same over TLS (`https`, `grpcs://`). `http://` and `https://` take the best that is enabled: WebSocket,
/// Server-Sent Events, long polling, HTTP polling, gRPC, in this order; if that one cannot open, none of the others is tried.
///
/// It opens no connection yet: a subscription or a publish does. A subscription to a server that is down is retried for as
/// long as it lives, and tells so as [`Link::Reconnecting`](crate::Link::Reconnecting) with the cause; a server that refuses,
/// or that is none of ours, is an error of `subscribe`.
///
/// # Errors
/// [`ErrorKind::Invalid`] if `url` is none; [`ErrorKind::Unsupported`] if the feature for it is off.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn connect(url: &str) -> Result<Source, Problem> {
    ConnectOptions::default().connect(url).await
}

/// What a URL may begin with.
const SCHEMES: &str = "http, ws, sse+http, longpoll+http, poll+http, grpc, and the same with s";

struct Target;

impl Target {
    /// The transport that the scheme pins, and the URL without the pin.
    fn parse(url: &str) -> Result<(Option<Transport>, String), Problem> {
        let no_url = || Problem::invalid("url", format!("not a URL: {url}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(no_url)?;
        let scheme = &*scheme.to_ascii_lowercase();
        let (pin, base) = scheme.split_once('+').unwrap_or(("", scheme));
        let (transport, base) = match (pin, base) {
            ("", "http" | "https") => (None, base),
            ("", "ws") => (Some(Transport::Ws), "http"),
            ("", "wss") => (Some(Transport::Ws), "https"),
            ("", "grpc") => (Some(Transport::Grpc), "http"),
            ("", "grpcs") => (Some(Transport::Grpc), "https"),
            ("sse", "http" | "https") => (Some(Transport::Sse), base),
            ("longpoll", "http" | "https") => (Some(Transport::Longpoll), base),
            ("poll", "http" | "https") => (Some(Transport::Poll), base),
            _ => {
                return Err(Problem::invalid("url", format!("the scheme is one of {SCHEMES}, not {scheme}")));
            }
        };
        Ok((transport, format!("{base}://{rest}")))
    }
}

fn not_enabled(transport: Option<Transport>) -> Problem {
    let detail = match transport {
        Some(transport) => format!("the feature for {transport} is off"),
        None => "no transport is enabled".to_owned(),
    };
    Problem::new(ErrorKind::Unsupported, detail)
}

impl Source {
    #[allow(dead_code, reason = "used where a transport is enabled")]
    pub(crate) fn new<C: Push + Producer + Clone>(transport: Transport, client: C) -> Self {
        Self { push: Arc::new(client.clone()), producer: Arc::new(client), transport }
    }

    /// The transport it is reached by.
    pub fn transport(&self) -> Transport {
        self.transport
    }
}

#[async_trait]
impl Push for Source {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.push.subscribe(cx, request).await
    }
}

#[async_trait]
impl Producer for Source {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        self.producer.publish(cx, topic, messages).await
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("transport", &self.transport).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_pins_a_transport() {
        let parsed = |url| Target::parse(url).map_err(|problem| problem.to_string());
        let pinned = |transport, url: &str| Ok((Some(transport), url.to_owned()));
        assert_eq!(parsed("http://h:1/live"), Ok((None, "http://h:1/live".to_owned())));
        assert_eq!(parsed("HTTP://h"), Ok((None, "http://h".to_owned())));
        assert_eq!(parsed("wss://h"), pinned(Transport::Ws, "https://h"));
        assert_eq!(parsed("ws://h:1"), pinned(Transport::Ws, "http://h:1"));
        assert_eq!(parsed("sse+http://h"), pinned(Transport::Sse, "http://h"));
        assert_eq!(parsed("longpoll+https://h"), pinned(Transport::Longpoll, "https://h"));
        assert_eq!(parsed("poll+http://h"), pinned(Transport::Poll, "http://h"));
        assert_eq!(
            parsed("ftp://h"),
            Err(format!("bad-request: url: the scheme is one of {SCHEMES}, not ftp"))
        );
        assert_eq!(parsed("h:1"), Err("bad-request: url: not a URL: h:1".to_owned()));
    }

    #[cfg(not(feature = "grpc-stream"))]
    #[tokio::test]
    async fn what_is_not_enabled_is_said() {
        let refused = connect("grpc://127.0.0.1:1").await.map(|source| source.transport());
        assert_eq!(refused.map_err(|problem| problem.kind()), Err(ErrorKind::Unsupported));
    }
}
