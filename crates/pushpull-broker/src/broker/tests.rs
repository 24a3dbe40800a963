//! A poller who missed nothing is answered as he would be by a look at everything.

use std::sync::{Mutex, atomic::AtomicUsize, atomic::Ordering};

use futures_util::FutureExt;
use proptest::prelude::*;
use pushpull_core::{Epoch, Overflow, Topics};

use super::*;
use crate::{Capabilities, Entry};

/// What an engine tells its tail, and a poll now and then.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// On one of three topics, so far behind the newest.
    Push(u8, u64),
    CompleteTo(u64),
    LoseTo(u64),
    /// So far before the place behind the newest.
    Begin(u64),
    Restart(u64, u64),
    /// Of these topics, from so far before the newest, in the epoch so many before the newest.
    Poll(usize, u64, usize),
}

const ASKED: [&str; 6] = ["a", "a b", "d", ">", "a *", "*.x"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..3, 1u64..3).prop_map(|(topic, by)| Step::Push(topic, by)),
        1 => (1u64..3).prop_map(Step::CompleteTo),
        1 => (0u64..4).prop_map(Step::LoseTo),
        1 => (0u64..4).prop_map(Step::Begin),
        1 => (0u64..4, 0u64..4).prop_map(|(floor, lost)| Step::Restart(floor, lost)),
        8 => (0..ASKED.len(), 0u64..6, 0usize..3).prop_map(|(asked, behind, epoch)| Step::Poll(asked, behind, epoch)),
    ]
}

#[derive(Debug, Clone, Default)]
struct Captured(Arc<Mutex<Option<Tail>>>);

#[async_trait]
impl Engine for Captured {
    fn name(&self) -> &'static str {
        "captured"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    async fn open(&self, tail: Tail) -> Result<(), Problem> {
        *self.0.lock().unwrap() = Some(tail);
        Ok(())
    }

    async fn append(&self, append: Append) -> Result<Appended, PublishError> {
        unreachable!("{append:?} by an engine that only feeds")
    }

    async fn probe(&self) -> Result<(), Problem> {
        Ok(())
    }
}

/// A broker whose tail is told what to do, and the epochs it had.
struct Told {
    broker: Broker,
    tail: Tail,
    epochs: Vec<Epoch>,
}

impl Told {
    fn new() -> Self {
        let engine = Captured::default();
        let retention = Retention::default().with_messages(2).with_topics(2);
        let broker = Broker::open(engine.clone(), retention).now_or_never().unwrap().unwrap();
        let tail = engine.0.lock().unwrap().take().unwrap();
        let mut told = Self { broker, tail, epochs: Vec::new() };
        let epoch = told.epoch();
        told.tail.begin(epoch, 1);
        told
    }

    fn epoch(&mut self) -> Epoch {
        self.epochs.push(Epoch::from_random(self.epochs.len() as u64 + 1));
        self.epochs[self.epochs.len() - 1]
    }

    fn tell(&mut self, step: Step) {
        let head = self.broker.place().seq();
        match step {
            Step::Push(topic, by) => {
                let topic = ["a", "b", "c.x"][usize::from(topic)].parse().unwrap();
                self.tail.push(vec![Entry::new(head + by, 0, topic, Message::text("x").check().unwrap())]);
            }
            Step::CompleteTo(by) => self.tail.complete_to(head + by),
            Step::LoseTo(by) => self.tail.lose_to(head + by),
            Step::Begin(back) => {
                let epoch = self.epoch();
                self.tail.begin(epoch, (head + 1).saturating_sub(back).max(1));
            }
            Step::Restart(floor, lost) => {
                let epoch = self.epoch();
                self.tail.restart(epoch, floor, floor + lost);
            }
            Step::Poll(..) => {}
        }
    }

    fn cursor(&self, behind: u64, epoch: usize) -> Cursor {
        let epoch = self.epochs[self.epochs.len().saturating_sub(1 + epoch)];
        Cursor::new(epoch, (self.broker.place().seq() + 1).saturating_sub(behind))
    }
}

fn told(batch: &Batch) -> String {
    format!("{batch:?}")
}

static AT_ONCE: AtomicUsize = AtomicUsize::new(0);

/// The same poll, answered both ways.
fn poll(broker: &Broker, request: &Fetch) {
    let Some(at_once) = broker.nothing_new(request) else { return };
    let answer = broker.begin(request.clone()).now_or_never().unwrap().unwrap();
    let looked = answer.finish(broker.is_stale(request.start));
    assert_eq!(told(&at_once), told(&looked), "{request:?}");
    AT_ONCE.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_poll_without_news_is_answered_as_by_a_look() {
    proptest!(|(steps in prop::collection::vec(step(), 0..60))| {
        let mut engine = Told::new();
        for step in steps {
            if let Step::Poll(asked, behind, epoch) = step {
                let topics: Vec<_> = ASKED[asked].split(' ').map(|entry| entry.parse().unwrap()).collect();
                let request =
                    Fetch::new(Topics::new(topics).unwrap()).from(engine.cursor(behind, epoch));
                for overflow in [Overflow::Gap, Overflow::Latest, Overflow::Close] {
                    let mut request = request.clone();
                    request.overflow = overflow;
                    poll(&engine.broker, &request);
                }
            }
            engine.tell(step);
        }
    });
    let at_once = AT_ONCE.load(Ordering::Relaxed);
    assert!(at_once > 1000, "hardly anybody was answered at once: {at_once}");
}

#[test]
fn who_missed_nothing_is_told_the_newest_place_at_once() {
    let mut engine = Told::new();
    [0, 1, 1].into_iter().for_each(|topic| engine.tell(Step::Push(topic, 1)));
    let asks = |topics: &str, seq: u64| {
        let cursor = Cursor::new(engine.epochs[0], seq);
        let topics = topics.split(' ').map(|entry| entry.parse().unwrap()).collect::<Vec<_>>();
        let answered = engine.broker.nothing_new(&Fetch::new(Topics::new(topics).unwrap()).from(cursor));
        answered.map(|batch| batch.place.unwrap().seq())
    };
    let place = engine.broker.place().seq();
    assert_eq!(asks("a", place - 2), Some(place), "others moved on");
    assert_eq!(asks("a b", place), Some(place));
    assert_eq!(asks("> d", place), Some(place));
    assert_eq!(asks("a b", place - 1), None, "there is news");
    assert_eq!(asks(">", place - 1), None, "there may be");
    assert_eq!(asks("a", place + 1), None, "it lies ahead");
}
