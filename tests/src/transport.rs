//! The transports, each as a harness.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pushpull_broker::Broker;
use pushpull_core::{
    Backoff, Batch, Context, Fetch, FetchError, Message, Polling, Producer, PublishError, Published, Pull,
    Push, Schedule, Subscribe, SubscribeError, Subscription, Topic,
};
use pushpull_grpc_stream::GrpcClient;
use pushpull_http_poll::HttpPollClient;
use pushpull_longpoll::LongpollClient;
use pushpull_sse::SseClient;
use pushpull_testkit::{Capabilities, Capability, Harness};
use pushpull_ws::WsClient;

use crate::World;

/// A way to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In process, pushed.
    Broker,
    /// In process, pulled.
    BrokerPull,
    /// WebSocket.
    Ws,
    /// Server-Sent Events.
    Sse,
    /// Long polling.
    Longpoll,
    /// HTTP polling.
    HttpPoll,
    /// gRPC streaming.
    Grpc,
}

impl Transport {
    /// Every transport there is.
    pub const ALL: &[Self] =
        &[Self::Broker, Self::BrokerPull, Self::Ws, Self::Sse, Self::Longpoll, Self::HttpPoll, Self::Grpc];

    /// The name of its tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::BrokerPull => "broker_pull",
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::Longpoll => "longpoll",
            Self::HttpPoll => "http_poll",
            Self::Grpc => "grpc",
        }
    }

    fn capabilities(self) -> Capabilities {
        use Capability::{Credit, Cut, Heartbeat, OverflowLatest, Publish, Snapshot};
        let all = Capabilities::NONE.with(Publish).with(Snapshot).with(Credit);
        match self {
            Self::Broker => all.with(OverflowLatest),
            Self::BrokerPull => all.with(Heartbeat),
            Self::Ws | Self::Sse | Self::Grpc => all.with(Cut).with(Heartbeat).with(OverflowLatest),
            Self::Longpoll | Self::HttpPoll => all.with(Cut).with(Heartbeat),
        }
    }
}

/// A world, seen over one transport.
#[derive(Debug)]
pub struct TransportHarness {
    world: Arc<World>,
    transport: Transport,
    client: Client,
}

#[derive(Debug)]
enum Client {
    Broker(Broker),
    Pull(Arc<Broker>),
    Ws(WsClient),
    Sse(SseClient),
    Longpoll(LongpollClient),
    HttpPoll(HttpPollClient),
    Grpc(GrpcClient),
}

/// Quick, since tests wait for it.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(20))
}

/// After how long without a byte a connection counts as dead: many keep-alives.
const SILENCE: Duration = Duration::from_secs(2);

fn quick(mut schedule: Schedule) -> Schedule {
    (schedule.backoff, schedule.deadline) = (backoff(), SILENCE);
    schedule
}

impl TransportHarness {
    pub(crate) fn new(world: Arc<World>, transport: Transport, url: &str) -> Self {
        let valid = "the world's URL is one";
        let often = quick(Schedule::every(Duration::from_millis(5)));
        let client = match transport {
            Transport::Broker => Client::Broker(world.broker.clone()),
            Transport::BrokerPull => Client::Pull(Arc::new(world.broker.clone())),
            Transport::Ws => {
                Client::Ws(WsClient::new(url).expect(valid).with_backoff(backoff()).with_silence(SILENCE))
            }
            Transport::Sse => {
                Client::Sse(SseClient::new(url).expect(valid).with_backoff(backoff()).with_silence(SILENCE))
            }
            Transport::Longpoll => {
                let schedule = quick(Schedule::long_poll(Duration::from_secs(1)));
                Client::Longpoll(LongpollClient::new(url).expect(valid).with_schedule(schedule))
            }
            Transport::HttpPoll => {
                Client::HttpPoll(HttpPollClient::new(url).expect(valid).with_schedule(often))
            }
            Transport::Grpc => {
                Client::Grpc(GrpcClient::new(url).expect(valid).with_backoff(backoff()).with_silence(SILENCE))
            }
        };
        Self { world, transport, client }
    }

    fn producer(&self) -> &dyn Producer {
        match &self.client {
            Client::Broker(broker) => broker,
            Client::Pull(broker) => broker,
            Client::Ws(client) => client,
            Client::Sse(client) => client,
            Client::Longpoll(client) => client,
            Client::HttpPoll(client) => client,
            Client::Grpc(client) => client,
        }
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
        self.producer().publish(&Context::default(), topic, messages).await
    }

    async fn consume(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let cx = Context::default();
        match &self.client {
            Client::Broker(broker) => broker.subscribe(&cx, request).await,
            Client::Pull(broker) => {
                let schedule = quick(Schedule::every(Duration::from_millis(5)));
                Ok(Polling::start(broker.clone(), cx, &request, schedule))
            }
            Client::Ws(client) => client.subscribe(&cx, request).await,
            Client::Sse(client) => client.subscribe(&cx, request).await,
            Client::Longpoll(client) => client.subscribe(&cx, request).await,
            Client::HttpPoll(client) => client.subscribe(&cx, request).await,
            Client::Grpc(client) => client.subscribe(&cx, request).await,
        }
    }

    async fn read(&self, request: Fetch) -> Result<Batch, FetchError> {
        self.world.broker.fetch(&Context::default(), request).await
    }

    async fn cut(&self) {
        self.world.proxy.cut();
    }
}
