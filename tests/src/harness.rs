//! A world, seen over one transport.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use pushpull_core::{
    Backoff, Batch, Context, Fetch, FetchError, Message, Polling, Problem, Producer, PublishError, Published,
    Pull, Push, Schedule, Subscribe, SubscribeError, Subscription, Topic,
};
use pushpull_grpc_stream::GrpcClient;
use pushpull_http_poll::HttpPollClient;
use pushpull_longpoll::LongpollClient;
use pushpull_sse::SseClient;
use pushpull_testkit::{Capabilities, Harness};
use pushpull_ws::{Subprotocol, WsClient};

use crate::{Transport, World, hooks::Hooks};

/// After how long without a byte a connection counts as dead: many keep-alives.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a poll waits for something, and how often one asks that does not wait.
const WAIT: Duration = Duration::from_secs(1);
const OFTEN: Duration = Duration::from_millis(5);

/// More than any test lets come without a grant.
const WIDE: NonZeroU32 = NonZeroU32::new(1_000_000).expect("it is above zero");

/// A world, seen over one transport.
pub struct TransportHarness {
    world: Arc<World>,
    transport: Transport,
    way: Way,
}

/// How it is consumed, and how it is published to.
struct Way {
    consumer: Arc<dyn Push>,
    producer: Arc<dyn Producer>,
    hooks: Option<Arc<Hooks>>,
}

/// A pull, consumed at a schedule.
struct Pulled {
    pull: Arc<dyn Pull>,
    schedule: Schedule,
}

/// Subscribes by `Attach`, which the client takes where there is a window.
struct Attached(GrpcClient);

/// Quick, since tests wait for it.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(20))
}

fn quick(mut schedule: Schedule) -> Schedule {
    (schedule.backoff, schedule.deadline) = (backoff(), SILENCE);
    schedule
}

impl TransportHarness {
    pub(crate) fn new(world: Arc<World>, transport: Transport, url: &str) -> Self {
        let way = Way::new(transport, &world, url).expect("the world's URL is one");
        Self { world, transport, way }
    }

    /// How many events came by poll to those who subscribed by webhooks.
    pub fn polled(&self) -> usize {
        self.way.hooks.as_ref().map_or(0, |hooks| hooks.polled())
    }
}

impl Way {
    fn new(transport: Transport, world: &World, url: &str) -> Result<Self, Problem> {
        let broker = &world.broker;
        Ok(match transport {
            Transport::Broker => Self::of(broker.clone()),
            Transport::BrokerPull => Self::pulling(broker.clone(), Schedule::every(OFTEN)),
            Transport::Ws => Self::of(ws(url, Subprotocol::Json)?),
            Transport::WsProto => Self::of(ws(url, Subprotocol::Proto)?),
            Transport::Sse => Self::of(SseClient::new(url)?.with_backoff(backoff()).with_silence(SILENCE)),
            Transport::Longpoll => {
                Self::of(LongpollClient::new(url)?.with_schedule(quick(Schedule::long_poll(WAIT))))
            }
            Transport::HttpPoll => {
                Self::of(HttpPollClient::new(url)?.with_schedule(quick(Schedule::every(OFTEN))))
            }
            Transport::Grpc => Self::of(grpc(url)?),
            Transport::GrpcAttach => Self::by(Arc::new(Attached(grpc(url)?)), grpc(url)?),
            Transport::GrpcFetch => Self::pulling(grpc(url)?, Schedule::long_poll(WAIT)),
            Transport::Webhook => {
                let hooks = Arc::new(Hooks::new(broker.clone(), HttpPollClient::new(url)?, quick));
                Self { hooks: Some(hooks.clone()), ..Self::by(hooks, broker.clone()) }
            }
        })
    }

    fn of(client: impl Push + Producer + Clone) -> Self {
        Self::by(Arc::new(client.clone()), client)
    }

    fn pulling(client: impl Pull + Producer + Clone, schedule: Schedule) -> Self {
        Self::by(Arc::new(Pulled { pull: Arc::new(client.clone()), schedule: quick(schedule) }), client)
    }

    fn by(consumer: Arc<dyn Push>, producer: impl Producer) -> Self {
        Self { consumer, producer: Arc::new(producer), hooks: None }
    }
}

fn ws(url: &str, subprotocol: Subprotocol) -> Result<WsClient, Problem> {
    let client = WsClient::new(url)?.with_subprotocol(subprotocol);
    Ok(client.with_backoff(backoff()).with_silence(SILENCE))
}

fn grpc(url: &str) -> Result<GrpcClient, Problem> {
    Ok(GrpcClient::new(url)?.with_backoff(backoff()).with_silence(SILENCE))
}

#[async_trait]
impl Push for Pulled {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        Ok(Polling::start(self.pull.clone(), cx.clone(), &request, self.schedule.clone()))
    }
}

#[async_trait]
impl Push for Attached {
    async fn subscribe(&self, cx: &Context, mut request: Subscribe) -> Result<Subscription, SubscribeError> {
        request.window = request.window.or(Some(WIDE));
        self.0.subscribe(cx, request).await
    }
}

#[async_trait]
impl Harness for TransportHarness {
    fn name(&self) -> &str {
        self.transport.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    fn retains(&self) -> usize {
        self.world.retains()
    }

    async fn publish(&self, topic: &Topic, messages: &[Message]) -> Result<Published, PublishError> {
        self.way.producer.publish(&Context::default(), topic, messages).await
    }

    async fn consume(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.way.consumer.subscribe(&Context::default(), request).await
    }

    async fn read(&self, request: Fetch) -> Result<Batch, FetchError> {
        self.world.broker.fetch(&Context::default(), request).await
    }

    async fn cut(&self) {
        self.world.proxy.cut();
        if let Some(hooks) = &self.way.hooks {
            hooks.cut();
        }
    }
}

impl fmt::Debug for TransportHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportHarness").field("transport", &self.transport).finish_non_exhaustive()
    }
}
