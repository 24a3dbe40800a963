//! The client half, by URL.

mod options;
mod target;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use pushpull_core::{
    Backoff, Batch, Context, Dial, ErrorKind, Fallback, Fetch, FetchError, Fetching, Message, Problem,
    Producer, PublishError, Published, Pull, Push, Reconnecting, Subscribe, SubscribeError, Subscription,
    Topic,
};
use pushpull_http::{HttpClient, Transport};
use tokio::time::{Instant, timeout_at};

pub use options::ConnectOptions;
use target::Target;
pub(crate) use target::Tls;

/// Makes one transport's client.
pub(crate) type Make = fn(&Asked<'_>) -> Result<Client, Problem>;

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

/// One transport's client half.
pub(crate) struct Client {
    push: Arc<dyn Push>,
    pull: Option<Arc<dyn Pull>>,
    producer: Arc<dyn Producer>,
    dial: Arc<dyn Dial + Sync>,
}

impl Client {
    #[allow(dead_code, reason = "used where a transport is enabled")]
    pub(crate) fn new<C: Push + Producer + Dial + Clone>(client: C) -> Self {
        let (push, producer) = (Arc::new(client.clone()), Arc::new(client.clone()));
        Self { push, pull: None, producer, dial: Arc::new(client) }
    }

    /// A client that can also be asked.
    #[allow(dead_code, reason = "used where such a transport is enabled")]
    pub(crate) fn pulling<C: Push + Pull + Producer + Dial + Clone>(client: C) -> Self {
        Self { pull: Some(Arc::new(client.clone())), ..Self::new(client) }
    }
}

/// A server: a [`Push`], a [`Pull`] and a [`Producer`], whichever transport it is reached by. Cheap to clone (shared).
///
/// A subscription reconnects, resumes from its place, and tells every change of the link;
/// [`Subscription::transport`] says by which transport it goes. Where there are [several](Source::transports), each
/// subscription falls back, and comes back up, by itself.
///
/// But over gRPC, publishing goes by `POST`, whichever transport subscriptions take, with an idempotency id of its own where the message has
/// none: it is tried again for up to 30 s ([`ConnectOptions::with_publish_timeout`]), or until the deadline of the call's
/// [`Context`], 10 s an attempt. Several messages go as one batch only if they are JSON of one event name and key.
///
/// A question goes as one where the scheme pins long polling, HTTP polling or gRPC (HTTP polling never waits, whatever the
/// question says); by any other transport it is a short subscription: see [`Fetching`].
#[derive(Clone)]
pub struct Source {
    push: Arc<dyn Push>,
    pull: Arc<dyn Pull>,
    producer: Arc<dyn Producer>,
    publish_timeout: Duration,
    transports: Arc<[Transport]>,
}

impl ConnectOptions {
    /// As [`connect`], with these options.
    ///
    /// # Errors
    /// As [`connect`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    #[allow(clippy::unused_async, reason = "whether it connects at once is not for the signature to say")]
    pub async fn connect(&self, url: &str) -> Result<Source, Problem> {
        let target = Target::parse(url)?;
        target.check_tls(crate::TLS)?;
        let Target { pinned, url, .. } = target;
        let asked = Asked { url, options: self };
        let clients = taken(crate::clients(), pinned).into_iter();
        let made = clients.map(|(transport, make)| Ok((transport, make(&asked)?)));
        self.join(&made.collect::<Result<Vec<_>, Problem>>()?).ok_or_else(|| not_enabled(pinned))
    }

    /// One source over all of `clients`, the best first.
    fn join(&self, clients: &[(Transport, Client)]) -> Option<Source> {
        let producer = clients.first()?.1.producer.clone();
        let transports = clients.iter().map(|(transport, _)| *transport).collect();
        let push = match clients {
            [(_, only)] => only.push.clone(),
            several => {
                let ways = several.iter().map(|(_, client)| client.dial.clone()).collect();
                let (patience, probe_interval) = (self.patience, self.probe_interval);
                Arc::new(Falling { ways, patience, probe_interval })
            }
        };
        let pull = match clients {
            [(_, Client { pull: Some(pull), .. })] => pull.clone(),
            _ => Arc::new(Fetching::over(push.clone())),
        };
        Some(Source { push, pull, producer, publish_timeout: self.publish_timeout, transports })
    }
}

/// Those of `clients` that a URL means: the one it pins; else all that share a port's plain HTTP, and only without any of
/// them another.
fn taken(mut clients: Vec<(Transport, Make)>, pinned: Option<Transport>) -> Vec<(Transport, Make)> {
    match pinned {
        Some(pinned) => clients.retain(|(transport, _)| *transport == pinned),
        None if clients.iter().any(|(transport, _)| *transport != Transport::Grpc) => {
            clients.retain(|(transport, _)| *transport != Transport::Grpc);
        }
        None => {}
    }
    clients
}

/// A [`Push`] that falls back over several transports.
struct Falling {
    ways: Vec<Arc<dyn Dial + Sync>>,
    patience: Duration,
    probe_interval: Duration,
}

#[async_trait]
impl Push for Falling {
    async fn subscribe(&self, _cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let fallback =
            Fallback::new(self.ways.clone()).with_patience(self.patience).with_interval(self.probe_interval);
        Reconnecting::start(fallback, request, Backoff::default()).await
    }
}

/// A source at `url`.
///
/// `http://` and `https://` take the best enabled transport that works, subscription by subscription: WebSocket,
/// Server-Sent Events, long polling, HTTP polling, in this order; gRPC only if none of these is enabled. A transport
/// that cannot open ([in time](ConnectOptions::with_patience)), or whose connections die twice within 10 s of opening, is left for the
/// next one, and a better one is [probed](ConnectOptions::with_probe_interval) from time to time, by a connection
/// of its own; ends that the server announced do not count. The subscription goes on over every such step, each event once, in
/// order: [`Fallback`] says by what rules, [`Subscription::transport`] where it is, and a
/// [`Link::Connected`](crate::Link::Connected) when that has changed, behind a
/// [`Link::PassedOver`](crate::Link::PassedOver) with the cause for each better one that did not open.
///
/// Any other scheme pins one transport, and nothing falls back: `ws://`, `sse://`, `longpoll://`, `poll://`, `grpc://`, and
/// over TLS `wss://`, `sses://`, `longpolls://`, `polls://`, `grpcs://`. `sse+http://`, `sse+https://` and the like mean the
/// same.
///
/// It opens no connection yet: a subscription or a publish does. A subscription to a server that is down is retried for as
/// long as it lives, and tells so as [`Link::Reconnecting`](crate::Link::Reconnecting) with the cause; a server that refuses,
/// or that is none of ours, is an error of `subscribe`. So is one of which nothing is known by the deadline of the
/// call's [`Context`]: [`ErrorKind::Timeout`], but for a pinned poll, which tells it as
/// [`Link::Reconnecting`](crate::Link::Reconnecting). Without a deadline a first `subscribe` to a server that takes connections
/// and never answers lasts 10 s for each transport, 40 s in all.
///
/// # Errors
/// [`ErrorKind::Invalid`] if `url` is none; [`ErrorKind::Unsupported`] if the feature for it is off.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn connect(url: &str) -> Result<Source, Problem> {
    ConnectOptions::default().connect(url).await
}

fn not_enabled(transport: Option<Transport>) -> Problem {
    let detail = match transport {
        Some(transport) => format!("{transport} needs the feature `{}`", transport.feature()),
        None => "no transport is enabled: there is a feature for each (`ws`, `sse`, ...)".to_owned(),
    };
    Problem::new(ErrorKind::Unsupported, detail)
}

impl Source {
    /// The best transport it may be reached by; the only one where the scheme pinned it. By which a subscription goes
    /// is for [`Subscription::transport`] to say.
    pub fn transport(&self) -> Transport {
        // There is at least one: `ConnectOptions::join`.
        self.transports[0]
    }

    /// The transports it may be reached by, the best first.
    pub fn transports(&self) -> &[Transport] {
        &self.transports
    }
}

#[async_trait]
impl Push for Source {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let subscribing = self.push.subscribe(cx, request);
        let Some(deadline) = cx.deadline else { return subscribing.await };
        let late = |_| Err(Problem::new(ErrorKind::Timeout, "not subscribed within the deadline").into());
        timeout_at(deadline, subscribing).await.unwrap_or_else(late)
    }
}

#[async_trait]
impl Pull for Source {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        self.pull.fetch(cx, request).await
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
        let deadline = cx.deadline.unwrap_or_else(|| Instant::now() + self.publish_timeout);
        self.producer.publish(&cx.clone().with_deadline(deadline), topic, messages).await
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("transports", &self.transports).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_means_one_transport_or_all_that_share_plain_http() {
        use Transport::{Grpc, Longpoll, Poll, Sse, Ws};
        let no_client: Make = |_| Err(not_enabled(None));
        let taken = |enabled: &[Transport], pinned| {
            let clients = enabled.iter().map(|transport| (*transport, no_client)).collect();
            taken(clients, pinned).into_iter().map(|(transport, _)| transport).collect::<Vec<_>>()
        };
        assert_eq!(taken(&[Ws, Sse, Longpoll, Poll, Grpc], None), [Ws, Sse, Longpoll, Poll]);
        assert_eq!(taken(&[Poll, Grpc], None), [Poll]);
        assert_eq!(taken(&[Grpc], None), [Grpc]);
        assert_eq!(taken(&[Ws, Sse, Grpc], Some(Grpc)), [Grpc]);
        assert_eq!(taken(&[Ws], Some(Sse)), []);
    }

    #[cfg(not(feature = "grpc-stream"))]
    #[tokio::test]
    async fn what_is_not_enabled_is_said() {
        let refused = connect("grpc://127.0.0.1:1").await.map(|source| source.transport());
        assert_eq!(refused.map_err(|problem| problem.kind()), Err(ErrorKind::Unsupported));
    }

    #[test]
    fn what_is_not_enabled_is_named_by_its_feature() {
        let told = |transport| not_enabled(Some(transport)).detail().to_owned();
        assert_eq!(told(Transport::Poll), "poll needs the feature `http-poll`");
        assert_eq!(told(Transport::Grpc), "grpc needs the feature `grpc-stream`");
        assert_eq!(told(Transport::Ws), "ws needs the feature `ws`");
    }
}
