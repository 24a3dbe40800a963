//! The ways to consume, each with a proxy of its own, so that each has its own weather.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pushpull::{ConnectOptions, Source};
use pushpull_core::{Backoff, Context, Problem, Push, Schedule, Subscribe, SubscribeError, Subscription};
use pushpull_grpc_stream::GrpcClient;
use pushpull_http_poll::HttpPollClient;
use pushpull_longpoll::LongpollClient;
use pushpull_sse::SseClient;
use pushpull_testkit::{Harness, proxy::Proxy};
use pushpull_tests::{Transport, TransportHarness, World};
use pushpull_ws::WsClient;

/// After how long without a byte a connection counts as dead: many keep-alives.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a long poll waits.
const WAIT: Duration = Duration::from_secs(1);
/// The time between two polls.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a connection of a consumer that falls back may take to bring its first word.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// The time between two looks upward.
const PROBES: Duration = Duration::from_millis(500);

/// A way to consume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Ws,
    Sse,
    Longpoll,
    HttpPoll,
    Grpc,
    /// Webhooks and HTTP polling as one.
    Hybrid,
    /// `connect("http://…")`: from WebSocket down to HTTP polling, and up again.
    Fallback,
    /// By WebSocket, away longer than what it asks for is kept.
    Late,
}

impl Way {
    pub(super) const ALL: [Self; 8] = [
        Self::Ws,
        Self::Sse,
        Self::Longpoll,
        Self::HttpPoll,
        Self::Grpc,
        Self::Hybrid,
        Self::Fallback,
        Self::Late,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::Longpoll => "longpoll",
            Self::HttpPoll => "http-poll",
            Self::Grpc => "grpc",
            Self::Hybrid => "hybrid",
            Self::Fallback => "fallback",
            Self::Late => "late",
        }
    }
}

/// A way made ready: the proxy, and what consumes through it.
pub(super) struct Line {
    pub(super) push: Arc<dyn Push>,
    pub(super) proxy: Proxy,
    webhooks: Option<Arc<TransportHarness>>,
}

impl Line {
    pub(super) async fn start(way: Way, world: &Arc<World>, seed: u64) -> Self {
        let proxy = Proxy::start(world.address(), seed).await.expect("a free port");
        if way == Way::Hybrid {
            let harness = Arc::new(world.over_through(Transport::Webhook, &proxy));
            return Self { push: Arc::new(Hooked(harness.clone())), proxy, webhooks: Some(harness) };
        }
        let push = client(way, &proxy.url()).await.expect("the proxy's URL is one");
        Self { push, proxy, webhooks: None }
    }

    /// Events that came by poll to those who take webhooks.
    pub(super) fn polled(&self) -> usize {
        self.webhooks.as_ref().map_or(0, |webhooks| webhooks.polled())
    }

    /// Cuts all its connections by RST, those of the webhooks too.
    pub(super) async fn cut(&self) {
        self.proxy.cut();
        if let Some(webhooks) = &self.webhooks {
            webhooks.cut().await;
        }
    }
}

async fn client(way: Way, url: &str) -> Result<Arc<dyn Push>, Problem> {
    Ok(match way {
        Way::Sse => Arc::new(SseClient::new(url)?.with_backoff(backoff()).with_silence(SILENCE)),
        Way::Longpoll => Arc::new(LongpollClient::new(url)?.with_schedule(quick(Schedule::long_poll(WAIT)))),
        Way::HttpPoll => Arc::new(HttpPollClient::new(url)?.with_schedule(quick(Schedule::every(INTERVAL)))),
        Way::Grpc => Arc::new(GrpcClient::new(url)?.with_backoff(backoff()).with_silence(SILENCE)),
        Way::Fallback => Arc::new(falling(url).await?),
        Way::Ws | Way::Late | Way::Hybrid => {
            Arc::new(WsClient::new(url)?.with_backoff(backoff()).with_silence(SILENCE))
        }
    })
}

async fn falling(url: &str) -> Result<Source, Problem> {
    let options = ConnectOptions::new().with_interval(INTERVAL).with_wait(WAIT);
    options.with_patience(FIRST_WORD).with_probe_interval(PROBES).connect(url).await
}

/// Quick, since a run has little time.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(200))
}

fn quick(mut schedule: Schedule) -> Schedule {
    (schedule.backoff, schedule.deadline) = (backoff(), SILENCE);
    schedule
}

/// A harness, as a push.
struct Hooked(Arc<TransportHarness>);

#[async_trait]
impl Push for Hooked {
    async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.0.consume(request).await
    }
}
