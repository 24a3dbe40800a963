//! Who begins at the earliest and goes on through rewinds: what was retained then or came since comes, or is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Context, Poll},
};

use proptest::prelude::*;
use pushpull_broker::{Broker, Entry, Retention, Tail};
use pushpull_core::{Batch, Bounds, Delivery, Epoch, Message, Start, Subscription, Topics, silent_waker};

use crate::{asking, branch::unbegun_with, consume};

const TOPICS: [&str; 4] = ["a", "b.x", "b.y", "c"];
const ASKED: [&str; 6] = ["a", ">", "b.*", "a *", "a c", "c b.>"];

#[derive(Debug, Clone)]
enum Step {
    /// To this topic, so far behind the newest.
    Push(usize, u64),
    /// By so many, behind the newest of which nothing is left.
    Rewind(u64),
    /// So many events at most.
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..TOPICS.len(), 1u64..4).prop_map(|(topic, by)| Step::Push(topic, by)),
        1 => (0u64..12).prop_map(Step::Rewind),
        2 => (1usize..4).prop_map(Step::Read),
    ]
}

/// A broker, and what there is of its history.
struct Hub {
    broker: Broker,
    tail: Tail,
    epoch: u64,
    history: BTreeMap<u64, &'static str>,
}

/// A reader, and what he was told.
struct Reader {
    subscription: Subscription,
    topics: Topics,
    /// What is owed to him.
    wanted: BTreeSet<u64>,
    received: BTreeSet<u64>,
    gone: BTreeSet<u64>,
}

impl Hub {
    fn new(messages: usize, topics: usize) -> Self {
        let retention = Retention::default().with_messages(messages).with_topics(topics);
        let (broker, tail) = runtime().block_on(unbegun_with(retention));
        tail.begin(Epoch::from_random(1), 1);
        Self { broker, tail, epoch: 1, history: BTreeMap::new() }
    }

    fn push(&mut self, topic: &'static str, by: u64) -> u64 {
        let seq = self.broker.place().seq() + by;
        self.tail.push(vec![Entry::new(seq, 0, topic.parse().unwrap(), Message::text("x"))]);
        self.history.insert(seq, topic);
        seq
    }

    /// Returns the last place that is left.
    fn rewind(&mut self, by: u64) -> u64 {
        let common = self.broker.place().seq().saturating_sub(by);
        self.epoch += 1;
        self.tail.begin(Epoch::from_random(self.epoch), common + 1);
        self.history.retain(|seq, _| *seq <= common);
        common
    }

    fn reader(&self, asked: &str) -> Reader {
        let begin = || runtime().block_on(consume(&self.broker, asked, Start::Earliest));
        let (topics, nothing) = (asking(asked).topics, BTreeSet::new);
        let reader = |subscription| Reader {
            subscription,
            topics: topics.clone(),
            wanted: nothing(),
            received: nothing(),
            gone: nothing(),
        };
        let mut other = reader(begin());
        other.read(usize::MAX);
        Reader { wanted: other.received, ..reader(begin()) }
    }
}

impl Reader {
    /// Reads what there is, or so many events.
    fn read(&mut self, events: usize) {
        let mut cx = Context::from_waker(silent_waker());
        let before = self.received.len();
        while self.received.len() - before < events {
            let mut batch = Batch::default();
            let polled = self.subscription.poll_batch(&mut cx, Bounds::new(1, usize::MAX), &mut batch);
            batch.deliveries.iter().for_each(|delivery| self.note(delivery));
            if matches!(polled, Poll::Pending) && !batch.more {
                return;
            }
        }
    }

    fn note(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Event(event) => {
                let seq = event.cursor().seq();
                assert!(self.received.insert(seq), "{seq} came twice");
            }
            Delivery::Gap(gap) => self.gone.extend(gap.cursor.seq() + 1..gap.before.seq()),
            _ => {}
        }
    }

    fn want(&mut self, seq: u64, topic: &str) {
        if self.topics.matches(&topic.parse().unwrap()) {
            self.wanted.insert(seq);
        }
    }

    /// What lies behind `common` is of a history that was left.
    fn rewind(&mut self, common: u64) {
        for seqs in [&mut self.wanted, &mut self.received, &mut self.gone] {
            seqs.retain(|seq| *seq <= common);
        }
    }

    fn lacks(&self) -> Vec<u64> {
        let has = |seq: &&u64| self.received.contains(seq) || self.gone.contains(seq);
        self.wanted.iter().filter(|seq| !has(seq)).copied().collect()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_was_retained_or_came_since_comes_or_is_told(
        before in prop::collection::vec(step(), 0..20),
        steps in prop::collection::vec(step(), 0..40),
        asked in prop::sample::select(&ASKED[..]),
        messages in 1usize..4,
        topics in 1usize..4,
    ) {
        let mut hub = Hub::new(messages, topics);
        for step in before {
            match step {
                Step::Push(topic, by) => _ = hub.push(TOPICS[topic], by),
                Step::Rewind(by) => _ = hub.rewind(by),
                Step::Read(_) => {}
            }
        }
        let mut reader = hub.reader(asked);
        for step in steps {
            match step {
                Step::Push(topic, by) => {
                    let seq = hub.push(TOPICS[topic], by);
                    reader.want(seq, TOPICS[topic]);
                }
                Step::Rewind(by) => reader.rewind(hub.rewind(by)),
                Step::Read(events) => reader.read(events),
            }
        }
        reader.read(usize::MAX);
        prop_assert_eq!(reader.lacks(), Vec::<u64>::new());
        prop_assert!(reader.received.iter().all(|seq| hub.history.contains_key(seq)));
    }
}
