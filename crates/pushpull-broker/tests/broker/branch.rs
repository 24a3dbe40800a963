//! An engine that tells its tail what it was told itself: places without entries, losses, another history.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use pushpull_broker::{Append, Appended, Broker, Capabilities, Engine, Entry, Retention, Tail};
use pushpull_core::{
    Batch, Bounds, Cursor, Delivery, Epoch, ErrorKind, Message, Prev, Problem, Producer as _, PublishError,
    PushExt, Start, Subscription, silent_waker,
};

use crate::{asking, batch, consume, drain, fetch, fetching};

/// An engine that appends nothing, and whose tail the test feeds.
#[derive(Debug, Default, Clone)]
struct Told(Arc<Mutex<Option<Tail>>>);

#[async_trait]
impl Engine for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    async fn open(&self, tail: Tail) -> Result<(), Problem> {
        *self.0.lock().unwrap() = Some(tail);
        Ok(())
    }

    async fn append(&self, _: Append) -> Result<Appended, PublishError> {
        Err(PublishError::not_applied(Problem::new(ErrorKind::Unsupported, "no")))
    }

    async fn probe(&self) -> Result<(), Problem> {
        Ok(())
    }
}

fn old(seq: u64) -> Cursor {
    Cursor::new(Epoch::from_random(1), seq)
}

fn new(seq: u64) -> Cursor {
    Cursor::new(Epoch::from_random(2), seq)
}

async fn unbegun() -> (Broker, Tail) {
    unbegun_with(Retention::default()).await
}

pub(crate) async fn unbegun_with(retention: Retention) -> (Broker, Tail) {
    let told = Told::default();
    let broker = Broker::open(told.clone(), retention).await.unwrap();
    let tail = told.0.lock().unwrap().clone().unwrap();
    (broker, tail)
}

async fn begun() -> (Broker, Tail) {
    let (broker, tail) = unbegun().await;
    tail.begin(old(0).epoch(), 0);
    (broker, tail)
}

fn entry(topic: &str, seq: u64) -> Entry {
    Entry::new(seq, 0, topic.parse().unwrap(), Message::text("x"))
}

fn keyed(seq: u64, key: &str, payload: &'static str) -> Entry {
    let message = Message::new(payload).with_content_type("text/plain").with_key(key);
    Entry::new(seq, 0, "a".parse().unwrap(), message)
}

/// Entries of `topic` at `seqs`, each after the one before; the first after `before`.
fn chained(topic: &str, before: Option<u64>, seqs: &[u64]) -> Vec<Entry> {
    let mut prev = before.map_or(Prev::First, |seq| Prev::At(old(seq)));
    let entry = |seq: &u64| entry(topic, *seq).with_prev(std::mem::replace(&mut prev, Prev::At(old(*seq))));
    seqs.iter().map(entry).collect()
}

async fn resumed(broker: &Broker, patterns: &str, place: Cursor) -> String {
    drain(&mut consume(broker, patterns, place).await)
}

#[tokio::test]
async fn a_rewind_is_told_once_to_who_was_told_what_is_lost() {
    let (broker, tail) = begun().await;
    tail.push((1..=5).map(|seq| entry("a", seq)).collect());
    for patterns in ["a", ">", "a b"] {
        let (broker, tail) = begun().await;
        tail.push((1..=5).map(|seq| entry("a", seq)).collect());
        let mut live = consume(&broker, patterns, old(0)).await;
        let mut slow = consume(&broker, patterns, old(0)).await;
        assert_eq!(drain(&mut live), "p0 e1 e2 e3 e4 e5");
        assert_eq!(batch(&mut slow, Bounds::new(2, usize::MAX)), "p0 e1 e2");
        tail.begin(new(0).epoch(), 4);
        assert_eq!(live.place(), Some(old(5)), "until it is told, its place is what it was");
        tail.push(vec![entry("a", 4), entry("b", 5)]);
        let b = if patterns == "a" { "" } else { " e5" };
        assert_eq!(drain(&mut live), format!("rewound 5..4@3 p3 e4{b}"));
        assert_eq!(drain(&mut slow), format!("e3 e4{b}"), "it had been told nothing that is lost");
        assert_eq!(live.place(), Some(new(5)));
        assert_eq!(drain(&mut live), "");
    }
    tail.begin(new(0).epoch(), 4);
    tail.push(vec![entry("a", 4)]);
    assert_eq!(resumed(&broker, "a", old(2)).await, "p2 e3 e4");
    assert_eq!(resumed(&broker, "a", old(5)).await, "rewound 5..4@3 p3 e4");
    assert_eq!(resumed(&broker, "a", new(5)).await, "reset 5..1@0 p0 e1 e2 e3 e4");
    let (all, page) = fetch(&broker, fetching(">", Start::Earliest)).await;
    assert_eq!((&*all, page.place), ("e1 e2 e3 e4", Some(new(4))));
    let prevs: Vec<_> =
        page.deliveries.into_iter().filter_map(Delivery::into_event).map(|event| event.prev()).collect();
    assert_eq!(prevs, [Prev::First, Prev::At(old(1)), Prev::At(old(2)), Prev::At(old(3))]);
}

#[tokio::test]
async fn a_topic_of_which_a_rewind_left_nothing_is_new_or_unknown() {
    let retention = Retention::default().with_messages(1);
    for (retention, prev) in [(Retention::default(), Prev::First), (retention, Prev::Unknown)] {
        let told = Told::default();
        let broker = Broker::open(told.clone(), retention).await.unwrap();
        let tail = told.0.lock().unwrap().clone().unwrap();
        tail.begin(old(0).epoch(), 0);
        tail.push(vec![entry("b", 1), entry("a", 2), entry("a", 3)]);
        tail.begin(new(0).epoch(), 2);
        tail.push(vec![entry("a", 2)]);
        let (_, page) = fetch(&broker, fetching("a", new(1)).with_limit(1)).await;
        let event = page.deliveries.into_iter().find_map(Delivery::into_event).unwrap();
        assert_eq!(event.prev(), prev);
    }
}

#[tokio::test]
async fn several_changes_of_history_are_told_as_one() {
    let (broker, tail) = begun().await;
    tail.push((1..=9).map(|seq| entry("a", seq)).collect());
    let mut live = consume(&broker, "a", Start::Latest).await;
    assert_eq!(drain(&mut live), "p9");
    tail.begin(Epoch::from_random(3), 8);
    tail.begin(Epoch::from_random(4), 5);
    assert_eq!(drain(&mut live), "rewound 9..5@4 p4");
    tail.restart(new(0).epoch(), 100, 103);
    tail.begin(Epoch::from_random(5), 102);
    assert_eq!(live.place(), Some(Cursor::new(Epoch::from_random(1), 4)));
    assert_eq!(drain(&mut live), "reset 4..104@100 p100");
    for round in 0..100 {
        tail.restart(Epoch::from_random(10 + round), 0, 0);
    }
    assert_eq!(
        drain(&mut live),
        "reset 0..1@0 p0",
        "so long ago that nobody knows what its place was called"
    );
}

#[tokio::test]
async fn a_restart_drops_everything_and_is_told_to_everybody() {
    let (broker, tail) = begun().await;
    tail.push((1..=5).map(|seq| entry("a", seq)).collect());
    let mut live = consume(&broker, ">", old(3)).await;
    let mut latest = broker.consume(asking("a").on_overflow(pushpull_core::Overflow::Latest)).await.unwrap();
    let mut closing = broker.consume(asking("a").on_overflow(pushpull_core::Overflow::Close)).await.unwrap();
    assert_eq!(
        (drain(&mut live), drain(&mut latest), drain(&mut closing)),
        ("p3 e4 e5".into(), "p5".into(), "p5".into())
    );
    tail.restart(new(0).epoch(), 1, 2);
    tail.push(vec![entry("a", 3)]);
    assert_eq!(drain(&mut live), "reset 5..3@1 p1 e3");
    assert_eq!(drain(&mut latest), "reset 5..3@1 skipped 1..4@3 p3");
    assert_eq!(drain(&mut closing), "reset 5..3@1 end");
    assert_eq!(broker.stats().retained_events, 1);
    assert_eq!(resumed(&broker, "a", old(2)).await, "reset 2..3@2 p2 e3");
    assert_eq!(resumed(&broker, "a", new(1)).await, "p1 evicted 1..3@1 e3");
    assert_eq!(resumed(&broker, "a", new(2)).await, "p2 e3");
}

#[tokio::test]
async fn a_snapshot_under_way_stays_whole_and_then_the_change_is_told() {
    let (broker, tail) = begun().await;
    tail.push(vec![keyed(1, "k", "1"), keyed(2, "l", "2"), keyed(3, "k", "3")]);
    let mut reader = consume(&broker, "a", Start::Snapshot).await;
    assert_eq!(batch(&mut reader, Bounds::new(1, usize::MAX)), "s2");
    tail.begin(new(0).epoch(), 3);
    assert_eq!(reader.place(), None);
    assert_eq!(batch(&mut reader, Bounds::default()), "s3 p3");
    assert_eq!(reader.place(), Some(old(3)));
    assert_eq!(drain(&mut reader), "rewound 3..3@2 p2");
    let mut anew = consume(&broker, "a", Start::Snapshot).await;
    assert_eq!(drain(&mut anew), "s1 s2 p2", "the key is again what it was");
}

#[tokio::test]
async fn a_snapshot_tells_its_place_however_often_history_changed_meanwhile() {
    let (broker, tail) = begun().await;
    tail.push(vec![keyed(1, "k", "1"), keyed(2, "l", "2")]);
    let mut reader = consume(&broker, "a", Start::Snapshot).await;
    assert_eq!(batch(&mut reader, Bounds::new(1, usize::MAX)), "s1");
    for round in 0..100 {
        tail.restart(Epoch::from_random(10 + round), 0, 0);
    }
    let mut out = Batch::default();
    let _ = reader.poll_batch(&mut Context::from_waker(silent_waker()), Bounds::default(), &mut out);
    assert!(matches!(out.deliveries[..], [Delivery::Event(_), Delivery::Place(place)] if place == old(2)));
    assert_eq!(drain(&mut reader), "reset 0..1@0 p0");
}

#[tokio::test]
async fn places_without_entries_are_complete() {
    let (broker, tail) = begun().await;
    tail.push(vec![entry("a", 10), entry("b", 20), entry("a", 30)]);
    tail.complete_to(45);
    tail.complete_to(40);
    for patterns in ["a", "*", "a b"] {
        let mut reader = consume(&broker, patterns, old(15)).await;
        let b = if patterns == "a" { "" } else { "e20 " };
        assert_eq!(drain(&mut reader), format!("p15 {b}e30"));
        assert_eq!(reader.place(), Some(old(45)));
    }
    let mut place = old(0);
    for (events, seq, more) in [("e10", 10, true), ("e20", 20, true), ("e30", 45, false), ("", 45, false)] {
        let (page, answer) = fetch(&broker, fetching(">", place).with_limit(1)).await;
        assert_eq!((&*page, answer.place, answer.more), (events, Some(old(seq)), more));
        place = old(seq);
    }
    tail.begin(new(0).epoch(), 46);
    tail.complete_to(50);
    assert_eq!((broker.place(), resumed(&broker, "a", old(45)).await), (new(50), "p45".into()));
    assert_eq!(resumed(&broker, "a", old(46)).await, "rewound 46..46@45 p45");
}

#[tokio::test]
async fn a_loss_that_was_told_is_told_on() {
    for (patterns, e20) in [("a", ""), (">", " e20"), ("a c", "")] {
        let (broker, tail) = begun().await;
        tail.push(chained("a", None, &[5]));
        let mut live = consume(&broker, patterns, old(5)).await;
        assert_eq!(drain(&mut live), "p5");
        tail.lose_to(29);
        tail.push(chained("b", Some(18), &[20]));
        tail.push(chained("a", Some(7), &[30]));
        assert_eq!(
            drain(&mut live),
            format!("lagged 5..{}@5{e20} e30", if patterns == "a" { 8 } else { 30 })
        );
        let mut back = consume(&broker, patterns, old(29)).await;
        assert_eq!(drain(&mut back), "p29 e30", "all that is lost lies before it");
    }
}

#[tokio::test]
async fn who_begins_behind_a_loss_leads_nobody_over_it() {
    let (broker, tail) = begun().await;
    tail.push(chained("a", None, &[40]));
    let mut live = consume(&broker, "a", old(40)).await;
    assert_eq!(drain(&mut live), "p40");
    tail.lose_to(50);
    let mut late = consume(&broker, "a", Start::Earliest).await;
    assert_eq!(drain(&mut late), "p39 e40");
    assert!(late.standing().is_none(), "what it waives lies behind its place");
    tail.push(vec![entry("a", 51).with_prev(Prev::Unknown)]);
    assert!(crate::standing::stride(&mut late).is_none());
    assert_eq!(drain(&mut late), "e51");
    assert_eq!(drain(&mut live), "lagged 40..51@40 e51");
    tail.push(chained("a", Some(51), &[52]));
    let stride = crate::standing::stride(&mut late).expect("it stands from then on");
    assert!(live.follow(&stride));
}

#[tokio::test]
async fn a_chain_shows_which_topic_lost_something() {
    let (broker, tail) = begun().await;
    tail.push(chained("a", None, &[1]));
    tail.push(chained("b", None, &[2]));
    tail.lose_to(9);
    assert_eq!(resumed(&broker, "a", old(2)).await, "p2 evicted 2..10@2", "nobody knows yet");
    tail.push(chained("a", Some(1), &[10]));
    tail.push(chained("b", Some(7), &[11]));
    tail.push(chained("c", None, &[12]));
    tail.push(chained("d", Some(6), &[13]));
    assert_eq!(resumed(&broker, "a", old(2)).await, "p2 e10");
    assert_eq!(resumed(&broker, "b", old(2)).await, "p2 evicted 2..8@2 e11");
    assert_eq!(resumed(&broker, "c", old(2)).await, "p2 e12");
    assert_eq!(resumed(&broker, "d", old(2)).await, "p2 evicted 2..7@2 e13");
    assert_eq!(resumed(&broker, "e", old(2)).await, "p2 evicted 2..10@2", "of this one nobody knows still");
    assert_eq!(resumed(&broker, "*", old(2)).await, "p2 evicted 2..10@2 e10 e11 e12 e13");
}

#[tokio::test]
async fn what_retention_drops_after_a_loss_that_was_none_stays_on_record() {
    let told = Told::default();
    let broker = Broker::open(told.clone(), Retention::default().with_messages(2)).await.unwrap();
    let tail = told.0.lock().unwrap().clone().unwrap();
    tail.begin(old(0).epoch(), 0);
    tail.push(chained("a", None, &[1, 2, 3]));
    tail.lose_to(9);
    tail.push(vec![entry("a", 10).with_prev(Prev::Unknown), entry("a", 11).with_prev(Prev::At(old(10)))]);
    assert_eq!(resumed(&broker, "a", old(1)).await, "p1 evicted 1..4@1 e10 e11");
    assert_eq!(resumed(&broker, "*", old(1)).await, "p1 evicted 1..10@1 e10 e11");
}

#[tokio::test]
async fn a_broken_chain_is_a_loss_though_nobody_told_it() {
    let (broker, tail) = begun().await;
    tail.push(chained("a", None, &[1, 2]));
    let mut live = [consume(&broker, "a", old(2)).await, consume(&broker, ">", old(2)).await];
    live.iter_mut().for_each(|live| assert_eq!(drain(live), "p2"));
    tail.push(chained("a", Some(4), &[6]));
    live.iter_mut().for_each(|live| assert_eq!(drain(live), "lagged 2..5@2 e6"));
    assert_eq!(resumed(&broker, "a", old(1)).await, "p1 evicted 1..5@1 e2 e6");
}

#[tokio::test]
async fn a_snapshot_begins_with_a_gap_unless_the_topic_is_known_from_its_first_event() {
    let (broker, tail) = unbegun().await;
    tail.restart(old(0).epoch(), 10, 20);
    tail.push(vec![keyed(21, "k", "1").with_prev(Prev::First)]);
    let mut whole = consume(&broker, "a", Start::Snapshot).await;
    assert_eq!(drain(&mut whole), "s21 p21");
    tail.push(vec![
        Entry::new(22, 0, "b".parse().unwrap(), Message::text("x").with_key("k"))
            .with_prev(Prev::At(old(15))),
    ]);
    assert_eq!(drain(&mut consume(&broker, "b", Start::Snapshot).await), "evicted 0..16@0 s22 p22");
    assert_eq!(drain(&mut consume(&broker, "b", Start::Last).await), "s22 p22");
    assert_eq!(drain(&mut consume(&broker, "c", Start::Last).await), "evicted 0..21@0 p22");
    tail.lose_to(30);
    assert_eq!(drain(&mut consume(&broker, "b", Start::Last).await), "evicted 0..31@0 s22 p22");
}

#[tokio::test]
async fn before_a_history_begins_everything_is_unavailable() {
    let (broker, tail) = unbegun().await;
    let refused = broker.consume(asking("a")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Unavailable, true));
    tail.restart(old(0).epoch(), 7, 7);
    assert_eq!(drain(&mut consume(&broker, "a", Start::Latest).await), "p7");
}

#[tokio::test]
async fn what_is_not_carried_is_refused() {
    let (broker, tail) = unbegun().await;
    tail.limit_to(asking("a b.*").topics);
    tail.begin(old(0).epoch(), 0);
    for (patterns, is_carried) in
        [("a", true), ("b.x", true), ("b.*", true), ("b.x.y", false), ("b.>", false), (">", false)]
    {
        let subscribed = broker.consume(asking(patterns)).await.map(drop).map_err(Problem::from);
        let fetched = {
            use pushpull_core::Pull as _;
            let request = fetching(patterns, Start::Latest);
            broker.fetch(&pushpull_core::Context::default(), request).await.map(drop).map_err(Problem::from)
        };
        for answer in [subscribed, fetched] {
            match answer {
                Ok(()) => assert!(is_carried, "{patterns}"),
                Err(problem) => {
                    assert!(!is_carried, "{patterns}");
                    let said = format!("bad-request: topic: {patterns} is not carried here, only a, b.*");
                    assert_eq!(problem.to_string(), said);
                }
            }
        }
    }
    let mut reader = consume(&broker, "a", Start::Latest).await;
    assert!(reader.retarget(asking("a c").topics).is_err());
    let cx = pushpull_core::Context::default();
    let refused = broker.publish(&cx, &"c".parse().unwrap(), &[Message::text("x")]).await.unwrap_err();
    assert_eq!((refused.kind(), refused.problem().parameter()), (ErrorKind::Invalid, Some("topic")));
}

/// Takes what is there. Seq falls only across a gap that says so, and no event is of a branch that it was told is lost.
fn take(subscription: &mut Subscription, last: &mut Cursor) -> bool {
    let mut out = Batch::default();
    let mut cx = Context::from_waker(silent_waker());
    let polled = subscription.poll_batch(&mut cx, Bounds::new(3, usize::MAX), &mut out);
    for delivery in &out.deliveries {
        match delivery {
            Delivery::Event(event) => {
                let (at, is) = (event.cursor(), std::str::from_utf8(event.payload()).unwrap().parse());
                assert_eq!(is, Ok(at.epoch().as_u64()), "an event keeps the epoch it was appended in");
                assert_eq!(at.seq(), last.seq() + 1, "after {last}: {at}");
                assert!(at.epoch().as_u64() >= last.epoch().as_u64(), "{at} after {last}");
                *last = at;
            }
            Delivery::Gap(gap) => {
                // Of what it was told so long ago that nobody knows, it is told a reset.
                let is_known = gap.after == Cursor::UNKNOWN
                    || (gap.after.seq() == last.seq() && gap.cursor.seq() < last.seq());
                assert!(gap.reason.may_fall() && is_known, "{gap} after {last}");
                *last = gap.cursor;
            }
            _ => {}
        }
    }
    if let Some(place) = subscription.place() {
        assert!(place.seq() >= last.seq(), "{place} before {last}");
    }
    matches!(polled, Poll::Ready(_))
}

/// Appends and rewinds by turns, mostly once the reader has looked again.
fn rewrite(tail: &Tail, looks: &AtomicU64) {
    let mut head = 0;
    for epoch in 1..1000u64 {
        let message = Message::text(epoch.to_string());
        for _ in 0..1 + epoch % 9 {
            head += 1;
            tail.push(vec![Entry::new(head, 0, "a".parse().unwrap(), message.clone())]);
        }
        let common = head - (epoch % 5).min(head);
        tail.begin(Epoch::from_random(epoch + 1), common + 1);
        head = common;
        let looked = looks.load(Ordering::Acquire);
        while epoch % 3 > 0 && looks.load(Ordering::Acquire) == looked {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_reader_during_rewinds_sees_one_history_at_a_time() {
    for patterns in ["a", ">", "a b"] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (broker, tail) = runtime.block_on(begun());
        let mut reader = runtime.block_on(consume(&broker, patterns, old(0)));
        let looks = Arc::new(AtomicU64::new(0));
        let writer = std::thread::spawn({
            let looks = looks.clone();
            move || rewrite(&tail, &looks)
        });
        let mut last = old(0);
        loop {
            let was_done = writer.is_finished();
            let moved = take(&mut reader, &mut last);
            looks.fetch_add(1, Ordering::AcqRel);
            if !moved && was_done {
                break;
            }
        }
        writer.join().unwrap();
        assert_eq!(last.seq(), broker.place().seq());
    }
}
