//! Beginning while another thread rewinds: whatever was told is of one history, and told void if that is left.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use pushpull_broker::{Broker, Entry, Retention, Tail};
use pushpull_core::{Cursor, Epoch, Message, Start, StartAt, Subscription};
use tokio::runtime::{Builder, Runtime};

use crate::{asking, branch::unbegun_with, consume, drain, fetch, fetching};

/// The newest place of every history.
const HEAD: u64 = 1000;

/// The last place that all histories share.
const COMMON: u64 = 499;

/// Most reads during one rewind.
const MOST: usize = 1000;

/// What `t1` has behind the common place.
const NEWS: &str = "e601 e801";

/// A hub that is to be rewound from [`HEAD`] to [`COMMON`]. Its many topics make that take its time.
struct Rewound {
    broker: Broker,
    tail: Tail,
}

/// What a reader was told at once, and by what it is told the rest.
struct Begun {
    asked: StartAt,
    told: String,
    subscription: Subscription,
}

/// How far readers have come, and when they are to stop.
#[derive(Default)]
struct Pace {
    rounds: AtomicUsize,
    is_over: AtomicBool,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn cursor(epoch: u64, seq: u64) -> Cursor {
    Cursor::new(Epoch::from_random(epoch), seq)
}

/// The common place, which is of the first epoch.
fn common() -> Cursor {
    cursor(1, COMMON)
}

impl Pace {
    /// Returns once `reader` has read so often, or failed.
    fn wait<T>(&self, reader: &JoinHandle<T>, rounds: usize) {
        let goal = self.rounds.load(Ordering::Acquire) + rounds;
        while self.rounds.load(Ordering::Acquire) < goal && !reader.is_finished() {
            std::thread::yield_now();
        }
    }

    /// Calls `read` until it is over, at most [`MOST`] times.
    fn read<T>(&self, mut read: impl FnMut() -> T) -> Vec<T> {
        let mut all = Vec::new();
        while !self.is_over.load(Ordering::Acquire) {
            if all.len() < MOST {
                all.push(read());
            }
            self.rounds.fetch_add(1, Ordering::AcqRel);
        }
        all
    }
}

impl Rewound {
    fn new() -> Self {
        let hub = Self::empty(Retention::default());
        hub.push(1..=HEAD);
        hub
    }

    fn empty(retention: Retention) -> Self {
        let (broker, tail) = runtime().block_on(unbegun_with(retention));
        tail.begin(Epoch::from_random(1), 1);
        Self { broker, tail }
    }

    /// Has dropped the records of topics that came up behind the common place, and has many that are left.
    fn forgetful() -> Self {
        let hub = Self::empty(Retention::default().with_topics(3200));
        hub.push(1..=COMMON);
        hub.push_alone(COMMON + 1..=700);
        hub.push(701..=HEAD);
        hub.push_alone(HEAD + 1..=HEAD + 3000);
        hub
    }

    fn push_alone(&self, seqs: RangeInclusive<u64>) {
        let entry = |seq: u64| Entry::new(seq, 0, format!("alone{seq}").parse().unwrap(), Message::text("x"));
        self.tail.push(seqs.map(entry).collect());
    }

    /// Pushes up to 8. Of two topics alone a record is kept: those of `p`, `q` and `r` are dropped, the last one's at 6.
    fn push_forgotten(&self) {
        let topics = ["keep", "p", "keep", "q", "keep", "r", "keep", "s"];
        (1..).zip(topics).for_each(|(seq, topic)| self.push_one(seq, topic));
    }

    fn push_one(&self, seq: u64, topic: &str) {
        self.tail.push(vec![Entry::new(seq, 0, topic.parse().unwrap(), Message::text("x"))]);
    }

    fn push(&self, seqs: RangeInclusive<u64>) {
        let entry = |seq: u64| {
            let topic = format!("t{}", seq % 200).parse().unwrap();
            Entry::new(seq, 0, topic, Message::text("x").with_key("k"))
        };
        self.tail.push(seqs.map(entry).collect());
    }

    /// Rewinds in the middle of what `read` does on another thread, and fills history up when that is done.
    fn during<T: Send + 'static>(&self, read: impl FnMut(&Broker, &Runtime) -> T + Send + 'static) -> Vec<T> {
        let pace = Arc::new(Pace::default());
        let reader = std::thread::spawn({
            let (pace, broker, mut read) = (pace.clone(), self.broker.clone(), read);
            move || {
                let runtime = runtime();
                pace.read(|| read(&broker, &runtime))
            }
        });
        pace.wait(&reader, 20);
        self.tail.begin(Epoch::from_random(2), COMMON + 1);
        pace.wait(&reader, 20);
        pace.is_over.store(true, Ordering::Release);
        let told = reader.join().unwrap();
        self.push(COMMON + 1..=HEAD);
        told
    }
}

impl Begun {
    async fn at(broker: &Broker, asked: StartAt) -> Self {
        let mut subscription = consume(broker, "t1", asked).await;
        Self { asked, told: drain(&mut subscription), subscription }
    }

    /// What it was told at once, and what it is told then, must be one of `all`.
    fn check(mut self, all: &[&str]) {
        let then = drain(&mut self.subscription);
        let told = format!("{} {then}", self.told);
        assert!(all.contains(&told.trim_end()), "{:?}: {told}, not one of {all:?}", self.asked);
    }
}

#[test]
fn whoever_begins_during_a_rewind_is_told_it_or_is_behind_it() {
    let (news, void) = (format!("p499 {NEWS}"), format!("rewound {HEAD}..500@499 p499 {NEWS}"));
    for _ in 0..100 {
        let hub = Rewound::new();
        let lost = cursor(1, 800);
        let starts = [Start::Latest.into(), StartAt::After(lost), Start::Last.into(), Start::Snapshot.into()];
        let mut turn = starts.into_iter().cycle();
        let begun = hub.during(move |broker, runtime| {
            let asked = turn.next().unwrap();
            runtime.block_on(Begun::at(broker, asked))
        });
        for one in begun {
            match one.asked {
                StartAt::Start(Start::Latest) => {
                    one.check(&[&format!("p1000 {void}"), &news, &void]);
                }
                StartAt::After(_) => one.check(&[
                    &format!("p800 e801 {void}"),
                    &format!("p800 rewound 800..500@499 {news}"),
                    &format!("rewound 800..500@499 {news}"),
                ]),
                _ => one.check(&[&format!("s801 p1000 {void}"), &format!("s401 {news}")]),
            }
        }
    }
}

#[test]
fn an_answer_during_a_rewind_is_of_one_history() {
    for _ in 0..100 {
        let hub = Rewound::new();
        let [head, lost] = [HEAD, 800].map(|seq| cursor(1, seq));
        let starts = [StartAt::After(lost), StartAt::After(common()), Start::Last.into()];
        let mut turn = starts.into_iter().cycle();
        let answers = hub.during(move |broker, runtime| {
            let asked = turn.next().unwrap();
            let (told, batch) = runtime.block_on(fetch(broker, fetching("t1", asked)));
            (asked, told, batch.place.unwrap())
        });
        for (asked, told, place) in answers {
            let (before, then) = match asked {
                StartAt::After(cursor) if cursor == lost => ("e801", "rewound 800..500@499"),
                StartAt::After(_) => (NEWS, ""),
                StartAt::Start(_) => ("s801", "s401"),
            };
            let meanwhile = format!("{before} rewound 1000..500@499");
            let all = [(before, head), (then, common()), (&*meanwhile, common())];
            assert!(all.contains(&(&told, place)), "{asked:?}: {told} at {place}, not one of {all:?}");
        }
    }
}

#[test]
fn a_topic_that_comes_up_during_a_rewind_is_told_no_loss() {
    for _ in 0..40 {
        let hub = Rewound::forgetful();
        // Those who subscribe to more do not begin anew.
        let pool: Vec<_> =
            (0..1000).map(|_| runtime().block_on(consume(&hub.broker, "t1", common()))).collect();
        let (mut pool, mut count) = (pool.into_iter(), 0);
        let begun = hub.during(move |_, _| {
            count += 1;
            let (topic, mut subscription) = (format!("new{count}"), pool.next().unwrap());
            subscription.retarget(asking(&topic).topics).unwrap();
            (topic, subscription)
        });
        for (topic, _stays) in &begun {
            let mut back = runtime().block_on(consume(&hub.broker, topic, common()));
            assert_eq!(drain(&mut back), "p499", "{topic} of {}", begun.len());
        }
    }
}

#[test]
fn the_newest_place_is_of_one_history() {
    const REWINDS: u64 = 500_000;
    let (broker, tail) = runtime().block_on(unbegun_with(Retention::default()));
    tail.begin(Epoch::from_random(1), 1);
    tail.complete_to(COMMON);
    let writer = std::thread::spawn(move || {
        for epoch in 2..REWINDS {
            tail.begin(Epoch::from_random(epoch), COMMON + 1);
            tail.complete_to(HEAD + epoch);
        }
    });
    let runtime = runtime();
    let mut was_done = false;
    while !was_done {
        was_done = writer.is_finished();
        let latest = runtime.block_on(fetch(&broker, fetching("t1", Start::Latest))).1;
        for place in [broker.place(), latest.place.unwrap()] {
            let head = HEAD + place.epoch().as_u64();
            assert!(place == common() || place.seq() == head, "{place} is neither {} nor {head}", common());
        }
    }
    writer.join().unwrap();
}

#[test]
fn what_a_pattern_from_earliest_loses_behind_a_rewind_is_told_though_less_was_gone_before() {
    for (patterns, is_early) in [(">", true), ("keep *", true), (">", false)] {
        let hub = Rewound::empty(Retention::default().with_topics(2));
        hub.push_forgotten();
        let begin = || runtime().block_on(consume(&hub.broker, patterns, Start::Earliest));
        let early = is_early.then(begin);
        // Its place lies before what is left.
        hub.tail.begin(Epoch::from_random(2), 4);
        let mut earliest = early.unwrap_or_else(begin);
        for (seq, topic) in [(4, "t"), (5, "keep"), (6, "u")] {
            hub.push_one(seq, topic);
        }
        assert_eq!(drain(&mut earliest), "p0 evicted 0..5@0 e1 e3 e5 e6", "{patterns} {is_early}");
    }
}

#[test]
fn what_a_topic_lost_is_told_though_a_rewind_drops_its_record() {
    for patterns in [">", "t *"] {
        let hub = Rewound::empty(Retention::default().with_messages(2).with_topics(2));
        // The record of `q` is dropped.
        [(1, "t"), (2, "q"), (9, "t"), (10, "s")].iter().for_each(|(seq, topic)| hub.push_one(*seq, topic));
        let mut earliest = runtime().block_on(consume(&hub.broker, patterns, Start::Earliest));
        // It pushes the first one out.
        hub.push_one(11, "t");
        hub.tail.begin(Epoch::from_random(2), 6);
        assert_eq!(drain(&mut earliest), "p0 evicted 0..3@0", "{patterns}");
    }
}

#[test]
fn what_was_gone_before_earliest_began_is_not_told_behind_a_rewind() {
    for (patterns, expected) in [(">", "p0 e1 e3"), ("keep *", "p0 e1 e3"), ("s.*", "p0")] {
        let hub = Rewound::empty(Retention::default().with_topics(2));
        hub.push_forgotten();
        let mut earliest = runtime().block_on(consume(&hub.broker, patterns, Start::Earliest));
        hub.tail.begin(Epoch::from_random(2), 4);
        assert_eq!(drain(&mut earliest), expected, "{patterns}");
    }
}
