//! Snapshots while other threads publish: each is one unit as of its place.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task,
    thread::{self, JoinHandle},
};

use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Bounds, Context, Delivery, Message, Producer as _, Pull as _, PushExt as _, Start, Topic, Topics,
    silent_waker,
};
use tokio::runtime::{Builder, Runtime};

use crate::{asking, fetching};

const PUBLISHERS: usize = 3;
const ROUNDS: usize = 8000;
const ASKED: [&str; 5] = ["t.*", "t.1", "t.2 t.3 t.11", ">", "t.5 t.*"];

/// What was published at a place. An empty payload removes its key.
struct Published {
    seq: u64,
    topic: Topic,
    key: Option<String>,
    is_empty: bool,
}

/// Which topic the n-th is published to, and with how many keys.
#[derive(Clone, Copy)]
struct Load {
    topic: fn(usize) -> usize,
    keys: usize,
}

/// A snapshot that somebody was given.
struct Taken {
    topics: Topics,
    start: Start,
    seqs: Vec<u64>,
    /// Before it some may be missing.
    lost_before: u64,
    place: u64,
}

/// The newest of each key of a topic, or of each topic.
type Newest<'a> = BTreeMap<(&'a str, Option<&'a str>), &'a Published>;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn messages(round: usize, keys: usize) -> Vec<Message> {
    let message = |n: usize| {
        let key = (round * 7 + n * 3) % keys;
        let message = Message::text(if (key + round).is_multiple_of(11) { "" } else { "x" });
        if key == 0 { message } else { message.with_key(format!("k{key}")) }
    };
    (0..=round % 3).map(message).collect()
}

/// Publishes 1 to 3 messages at a time, to where `load` says.
fn publish_all(broker: &Broker, by: usize, load: Load) -> Vec<Published> {
    let (runtime, context, mut all) = (runtime(), Context::default(), Vec::new());
    for round in 0..ROUNDS {
        let topic: Topic = format!("t.{}", (load.topic)(by + round * PUBLISHERS)).parse().unwrap();
        let messages = messages(round + by, load.keys);
        let published = runtime.block_on(broker.publish(&context, &topic, &messages)).unwrap();
        let first = published.first.seq();
        all.extend((first..).zip(&messages).map(|(seq, message)| Published {
            seq,
            topic: topic.clone(),
            key: message.key().map(str::to_owned),
            is_empty: message.payload().is_empty(),
        }));
    }
    all
}

fn fetched(broker: &Broker, runtime: &Runtime, patterns: &str, start: Start) -> Taken {
    let asked = fetching(patterns, start);
    let batch = runtime.block_on(broker.fetch(&Context::default(), asked)).unwrap();
    Taken::new(patterns, start, &batch.deliveries, batch.place.unwrap().seq())
}

fn consumed(broker: &Broker, runtime: &Runtime, patterns: &str, start: Start) -> Taken {
    let mut subscription = runtime.block_on(broker.consume(asking(patterns).from(start))).unwrap();
    let (mut batch, mut cx) = (Batch::default(), task::Context::from_waker(silent_waker()));
    let polled = subscription.poll_batch(&mut cx, Bounds::new(usize::MAX, usize::MAX), &mut batch);
    assert!(polled.is_ready());
    let Some(Delivery::Place(place)) = batch.deliveries.pop() else { panic!("{:?}", batch.deliveries) };
    Taken::new(patterns, start, &batch.deliveries, place.seq())
}

impl Taken {
    fn new(patterns: &str, start: Start, deliveries: &[Delivery], place: u64) -> Self {
        let mut taken =
            Self { topics: asking(patterns).topics, start, seqs: Vec::new(), lost_before: 0, place };
        for delivery in deliveries {
            match delivery {
                Delivery::Event(event) => taken.seqs.push(event.cursor().seq()),
                Delivery::Gap(gap) => taken.lost_before = gap.before.seq(),
                other => panic!("{other:?} in a snapshot"),
            }
        }
        taken
    }

    /// That it has nothing but what is `newest` as of its place, in order, and lacks only what it says it may.
    fn judge(&self, newest: &Newest<'_>) {
        let is_kept = |one: &&&Published| self.start == Start::Last || (one.key.is_some() && !one.is_empty);
        let asked = newest.values().filter(|one| self.topics.matches(&one.topic));
        let mut expected: Vec<u64> = asked.filter(is_kept).map(|one| one.seq).collect();
        expected.sort_unstable();
        expected.retain(|seq| *seq >= self.lost_before || self.seqs.binary_search(seq).is_ok());
        assert_eq!(self.seqs, expected, "{:?} of {:?} as of {}", self.start, self.topics, self.place);
    }
}

/// Judges what was taken, each by all that was published up to its place.
fn judge(mut taken: Vec<Taken>, mut published: Vec<Published>) {
    taken.sort_by_key(|taken| taken.place);
    published.sort_by_key(|one| one.seq);
    let (mut topics, mut keys, mut rest) = (Newest::new(), Newest::new(), published.iter().peekable());
    for taken in taken {
        while let Some(one) = rest.next_if(|one| one.seq <= taken.place) {
            topics.insert((one.topic.as_str(), None), one);
            keys.insert((one.topic.as_str(), one.key.as_deref()), one);
        }
        taken.judge(if taken.start == Start::Last { &topics } else { &keys });
    }
}

/// Takes snapshots, of every kind by turns, as long as somebody publishes.
fn take_all(broker: &Broker, publishing: &AtomicUsize) -> Vec<Taken> {
    let (runtime, mut all) = (runtime(), Vec::new());
    while publishing.load(Ordering::Acquire) > 0 {
        for patterns in ASKED {
            for start in [Start::Last, Start::Snapshot] {
                all.push(fetched(broker, &runtime, patterns, start));
                all.push(consumed(broker, &runtime, patterns, start));
            }
        }
    }
    all
}

/// What was taken of a broker while others published to it, and what they published.
fn run(broker: &Broker, load: Load) -> (Vec<Taken>, Vec<Published>) {
    let publishing = Arc::new(AtomicUsize::new(PUBLISHERS));
    let publisher = |by| {
        let (broker, publishing) = (broker.clone(), publishing.clone());
        thread::spawn(move || {
            let all = publish_all(&broker, by, load);
            publishing.fetch_sub(1, Ordering::AcqRel);
            all
        })
    };
    let publishers: Vec<JoinHandle<_>> = (0..PUBLISHERS).map(publisher).collect();
    let taken = take_all(broker, &publishing);
    (taken, publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect())
}

#[test]
fn a_snapshot_lacks_nothing_that_is_set_anew_meanwhile() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    let (taken, published) = run(&broker, Load { topic: |n| n % 30, keys: 6 });
    assert!(taken.iter().all(|taken| taken.lost_before == 0), "nothing is lost");
    judge(taken, published);
}

#[test]
fn a_snapshot_that_never_catches_up_lacks_nothing() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    // In no order, so that one that changed soon changes again.
    let (taken, published) = run(&broker, Load { topic: |n| n * n / 7 % 300, keys: 6 });
    assert!(taken.iter().all(|taken| taken.lost_before == 0), "nothing is lost");
    judge(taken, published);
}

#[test]
fn a_snapshot_tells_what_is_forgotten_meanwhile() {
    let broker = Broker::memory_with(Retention::default().with_messages(2).with_keys(3).with_topics(8));
    let (taken, published) = run(&broker, Load { topic: |n| n * n % 13, keys: 6 });
    assert!(taken.iter().any(|taken| taken.lost_before > 0), "topics are forgotten");
    judge(taken, published);
}

#[test]
fn a_snapshot_lacks_nothing_of_what_is_not_retained() {
    let broker = Broker::memory_with(Retention::default().with_bytes(1).with_topic_bytes(1));
    let (taken, published) = run(&broker, Load { topic: |n| n % 30, keys: 6 });
    assert!(taken.iter().all(|taken| taken.lost_before == 0), "nothing is lost");
    judge(taken, published);
}
