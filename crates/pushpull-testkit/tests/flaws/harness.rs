//! A broker in process, polled, whose deliveries are spoilt in one way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use async_trait::async_trait;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Bounds, Conflate, ConsumeError, Context, Cursor, Delivery, Feed, Fetch, FetchError, Message,
    Overflow, Polling, Producer, PublishError, Published, Pull, Push, Schedule, Standing, Start, StartAt,
    Stride, Subscribe, SubscribeError, Subscription, Topic, Topics, View,
};
use pushpull_testkit::{Capabilities, Capability, Harness};

const RETAINS: usize = 256;

/// What is wrong with a harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    DropsEvents,
    RepeatsEvents,
    SwapsEvents,
    NoFirstWord,
    HidesGaps,
    NoPrev,
    PlaceAhead,
    ForgetsPlace,
    TearsSnapshots,
    NeverConflates,
    IgnoresCredit,
    NeverCloses,
    NeverSkips,
    ForgetsIds,
    LosesPublishes,
    TearsBatches,
    AttachesLate,
    NoHeartbeat,
}

#[derive(Debug)]
pub(crate) struct FlawedHarness {
    broker: Arc<Broker>,
    flaw: Flaw,
    published: AtomicU64,
}

impl FlawedHarness {
    pub(crate) fn new(flaw: Flaw) -> Self {
        let broker = Broker::memory_with(Retention::default().with_messages(RETAINS));
        Self { broker: Arc::new(broker), flaw, published: AtomicU64::new(0) }
    }

    /// Heartbeats come of polling; what else there is to show is pushed.
    async fn attach(&self, request: &Subscribe) -> Result<Subscription, SubscribeError> {
        let cx = Context::default();
        if matches!(self.flaw, Flaw::None | Flaw::NoHeartbeat) && request.overflow == Overflow::Gap {
            let schedule = Schedule::every(Duration::from_millis(5));
            return Ok(Polling::start(self.broker.clone(), cx, request, schedule));
        }
        self.broker.subscribe(&cx, request.clone()).await
    }
}

#[async_trait]
impl Harness for FlawedHarness {
    fn name(&self) -> &str {
        "flawed"
    }

    fn capabilities(&self) -> Capabilities {
        use Capability::{Credit, Heartbeat, OverflowLatest, Publish, Snapshot};
        [Credit, Heartbeat, OverflowLatest, Publish, Snapshot]
            .into_iter()
            .fold(Capabilities::NONE, |all, one| all.with(one))
    }

    fn retains(&self) -> usize {
        RETAINS
    }

    async fn publish(&self, topic: &Topic, messages: &[Message]) -> Result<Published, PublishError> {
        let cx = Context::default();
        let count = self.published.fetch_add(1, Ordering::Relaxed);
        match self.flaw {
            Flaw::ForgetsIds => {
                let strip = |message: &Message| {
                    Message::new(message.payload().clone())
                        .with_content_type(message.content_type().to_owned())
                };
                let messages: Vec<_> = messages.iter().map(strip).collect();
                self.broker.publish(&cx, topic, &messages).await
            }
            Flaw::TearsBatches if messages.len() > 1 => {
                let first = self.broker.publish(&cx, topic, &messages[..1]).await?;
                tokio::task::yield_now().await;
                let rest = self.broker.publish(&cx, topic, &messages[1..]).await?;
                Ok(Published::new(first.first, rest.last, first.count + rest.count))
            }
            Flaw::LosesPublishes if count % 7 == 3 => {
                self.broker.publish(&cx, &"elsewhere".parse().unwrap(), messages).await
            }
            _ => self.broker.publish(&cx, topic, messages).await,
        }
    }

    async fn consume(&self, mut request: Subscribe) -> Result<Subscription, SubscribeError> {
        let mut first = None;
        match self.flaw {
            Flaw::ForgetsPlace if matches!(request.start, StartAt::After(_)) => {
                request.start = Start::Latest.into();
            }
            Flaw::NeverConflates => request.conflate = Conflate::Off,
            Flaw::IgnoresCredit => request.window = None,
            Flaw::NeverCloses | Flaw::NeverSkips => request.overflow = Overflow::Gap,
            Flaw::AttachesLate if request.start == StartAt::Start(Start::Latest) => {
                first = Some(self.broker.place());
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            }
            _ => {}
        }
        let inner = self.attach(&request).await?;
        Ok(Subscription::new(FlawedFeed { inner, flaw: self.flaw, count: 0, places: 0, first }, &request))
    }

    async fn read(&self, request: Fetch) -> Result<Batch, FetchError> {
        self.broker.fetch(&Context::default(), request).await
    }

    async fn cut(&self) {}
}

struct FlawedFeed {
    inner: Subscription,
    flaw: Flaw,
    count: u64,
    places: u64,
    first: Option<Cursor>,
}

impl FlawedFeed {
    fn spoil(&mut self, delivery: Delivery, out: &mut Vec<Delivery>) {
        match (&delivery, self.flaw) {
            (Delivery::Event(event), flaw) => {
                self.count += 1;
                let is_fifth = self.count.is_multiple_of(5);
                match flaw {
                    Flaw::DropsEvents if is_fifth => {}
                    Flaw::RepeatsEvents if is_fifth => out.extend([delivery.clone(), delivery]),
                    Flaw::TearsSnapshots if event.is_snapshot() && is_fifth => {}
                    Flaw::NoPrev => out.push(Delivery::Event(event.clone().shown(View::Thinned))),
                    Flaw::PlaceAhead if is_fifth => out.extend([Delivery::Place(event.cursor()), delivery]),
                    _ => out.push(delivery),
                }
            }
            (Delivery::Place(_), flaw) => {
                self.places += 1;
                match flaw {
                    Flaw::NoFirstWord if self.places == 1 => {}
                    Flaw::NoHeartbeat if self.places > 1 => {}
                    Flaw::AttachesLate => out.push(self.first.take().map_or(delivery, Delivery::Place)),
                    _ => out.push(delivery),
                }
            }
            (Delivery::Gap(_), Flaw::HidesGaps) => {}
            _ => out.push(delivery),
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "it is flawed in what it says it is, and in nothing else")]
impl Feed for FlawedFeed {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        let before = out.deliveries.len();
        loop {
            let polled = task::ready!(self.inner.poll_batch(cx, bounds, out));
            let taken = out.deliveries.split_off(before);
            let mut spoilt = Vec::new();
            taken.into_iter().for_each(|delivery| self.spoil(delivery, &mut spoilt));
            if self.flaw == Flaw::SwapsEvents && spoilt.len() > 1 {
                let last = spoilt.len() - 1;
                spoilt.swap(last - 1, last);
            }
            out.deliveries.extend(spoilt);
            if out.deliveries.len() > before || !matches!(polled, Some(Ok(()))) {
                return Poll::Ready(polled);
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.inner.place()
    }

    fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError> {
        self.inner.retarget(topics)
    }

    fn grant(&mut self, events: u64) {
        self.inner.grant(events);
    }

    fn conflated(&self) -> u64 {
        self.inner.conflated()
    }

    fn standing(&self) -> Option<Standing> {
        None
    }

    /// Its flaws are its own.
    fn follow(&mut self, _: &Stride) -> bool {
        false
    }

    fn transport(&self) -> Option<&'static str> {
        self.inner.transport()
    }
}
