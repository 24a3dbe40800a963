//! A consumer's history against what was published: any steps, any retention, any way of asking.

use std::task::{Context, Poll};

use proptest::prelude::*;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Bounds, Cursor, Delivery, Message, ProducerExt, PushExt, Start, Subscribe, Subscription,
    silent_waker,
};

use crate::{asking, at};

const TOPICS: [&str; 4] = ["a", "b.x", "b.y", "c"];
const ASKED: [&str; 6] = ["a", "b.x c", "b.*", ">", "a b.x", "c b.>"];

#[derive(Clone, Debug)]
enum Step {
    Publish(usize, Option<u8>),
    Take(usize),
    /// Goes away, and comes back with its place.
    Return,
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::option::of(0u8..3);
    prop_oneof![
        6 => (0..TOPICS.len(), key).prop_map(|(topic, key)| Step::Publish(topic, key)),
        3 => (0usize..6).prop_map(Step::Take),
        1 => Just(Step::Return),
    ]
}

struct History {
    broker: Broker,
    request: Subscribe,
    subscription: Subscription,
    /// Topic and key of every seq, from 1.
    published: Vec<(&'static str, Option<u8>)>,
    last: u64,
    place: u64,
    delivered: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    conflates: bool,
}

impl History {
    async fn run(steps: Vec<Step>, retention: Retention, request: Subscribe) -> Self {
        let broker = Broker::memory_with(retention);
        let subscription = broker.consume(request.clone().from(Start::Latest)).await.unwrap();
        let conflates = request.conflate == pushpull_core::Conflate::Key;
        let mut history = Self {
            broker,
            request,
            subscription,
            published: Vec::new(),
            last: 0,
            place: 0,
            delivered: Vec::new(),
            gaps: Vec::new(),
            conflates,
        };
        for step in steps {
            match step {
                Step::Publish(topic, key) => history.publish(TOPICS[topic], key).await,
                Step::Take(events) => _ = history.take(Bounds::new(events, usize::MAX)),
                Step::Return => history.come_back().await,
            }
        }
        while history.take(Bounds::default()) {}
        history
    }

    async fn publish(&mut self, topic: &'static str, key: Option<u8>) {
        let message = Message::text("x");
        let message = match key {
            Some(key) => message.with_key(key.to_string()),
            None => message,
        };
        self.broker.publish_one(&topic.parse().unwrap(), message).await.unwrap();
        self.published.push((topic, key));
    }

    async fn come_back(&mut self) {
        let place = at(&self.broker, self.place);
        self.subscription = self.broker.consume(self.request.clone().from(place)).await.unwrap();
    }

    fn take(&mut self, bounds: Bounds) -> bool {
        let mut batch = Batch::default();
        let mut cx = Context::from_waker(silent_waker());
        let polled = self.subscription.poll_batch(&mut cx, bounds, &mut batch);
        assert!(batch.events() <= bounds.events);
        for delivery in &batch.deliveries {
            match delivery {
                Delivery::Event(event) => {
                    let seq = event.cursor().seq();
                    assert!(seq > self.last, "{seq} after {}", self.last);
                    self.last = seq;
                    self.delivered.push(seq);
                }
                Delivery::Gap(gap) => {
                    assert_eq!((gap.after, gap.cursor.seq() >= self.last), (gap.cursor, true));
                    self.gaps.push((gap.after.seq(), gap.before.seq()));
                }
                Delivery::Place(place) => self.check_place(*place),
                Delivery::Link(link) => panic!("{link:?}"),
                _ => {}
            }
        }
        if let Some(place) = self.subscription.place() {
            self.check_place(place);
            self.place = place.seq();
        }
        matches!(polled, Poll::Ready(Some(Ok(()))))
    }

    /// A place is told only when every event asked for up to it came, or was told in a gap.
    fn check_place(&self, place: Cursor) {
        assert!(place.seq() >= self.last, "{place} lies before {}", self.last);
        self.check_up_to(place.seq());
    }

    fn check_up_to(&self, place: u64) {
        for seq in 1..=place {
            let is_told = self.gaps.iter().any(|(after, before)| (after + 1..*before).contains(&seq));
            let came = self.delivered.binary_search(&seq).is_ok();
            assert!(!self.is_wanted(seq) || came || is_told || self.is_replaced(seq), "{seq} at {place}");
        }
    }

    fn is_wanted(&self, seq: u64) -> bool {
        self.request.topics.matches(&self.published[seq as usize - 1].0.parse().unwrap())
    }

    fn is_replaced(&self, seq: u64) -> bool {
        let (_, key) = self.published[seq as usize - 1];
        let later = &self.published[seq as usize..];
        self.conflates && key.is_some() && later.contains(&self.published[seq as usize - 1])
    }

    /// A gap is told only where something asked for is gone.
    fn check_gaps(&self) {
        for (after, before) in &self.gaps {
            let is_gone = |seq: u64| self.is_wanted(seq) && self.delivered.binary_search(&seq).is_err();
            assert!((after + 1..*before).any(is_gone), "nothing is gone in {after}..{before}");
        }
    }
}

fn play(steps: Vec<Step>, retention: Retention, request: Subscribe) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(History::run(steps, retention, request))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_event_comes_once_in_order_or_is_told_in_a_true_gap(
        steps in prop::collection::vec(step(), 0..120),
        asked in prop::sample::select(&ASKED[..]),
        messages in 1usize..6,
        conflates in any::<bool>(),
    ) {
        let mut request = asking(asked);
        if conflates {
            request = request.conflate_by_key();
        }
        let history = play(steps, Retention::default().with_messages(messages), request);
        history.check_up_to(history.published.len() as u64);
        history.check_gaps();
    }

    #[test]
    fn dropped_records_hide_no_loss_and_tell_the_connected_none(
        steps in prop::collection::vec(step(), 0..120),
        asked in prop::sample::select(&ASKED[..]),
        topics in 1usize..4,
        messages in 1usize..6,
    ) {
        let is_connected = !steps.iter().any(|step| matches!(step, Step::Return));
        let retention = Retention::default().with_topics(topics).with_messages(messages);
        let history = play(steps, retention, asking(asked));
        history.check_up_to(history.published.len() as u64);
        if is_connected {
            history.check_gaps();
        }
    }
}
