//! What breaks the usual designs.

use std::{num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use pushpull_broker::{Append, Appended, Broker, Capabilities, Engine, Entry, Retention, Tail};
use pushpull_core::{
    Bounds, Conflate, Cursor, Delivery, Epoch, Message, Overflow, Pattern, Prev, Problem, Producer as _,
    ProducerExt, PublishError, PushExt, Start,
};

use crate::{asking, at, batch, consume, drain, fetch, fetching, publish, publish_key, small};

#[tokio::test]
async fn whoever_is_connected_is_told_no_gap_for_records_that_are_dropped() {
    let broker = Broker::memory_with(Retention::default().with_topics(2));
    publish(&broker, "old", 1).await;
    let mut idle = Vec::new();
    for asked in ["quiet.a", "quiet.*", "quiet.a quiet.b.>", "none quiet.a"] {
        idle.push(consume(&broker, asked, Start::Latest).await);
    }
    let mut hurt = consume(&broker, "churn.*", Start::Latest).await;
    for n in 0..10 {
        publish(&broker, &format!("churn.t{n}"), 1).await;
    }
    publish(&broker, "quiet.a", 1).await;
    for consumer in &mut idle {
        assert_eq!(drain(consumer), "p1 e12");
    }
    assert_eq!(drain(&mut hurt), "p1 evicted 1..11@1 e11", "the records were of what it asked for");
    assert_eq!(
        drain(&mut consume(&broker, "quiet.b", at(&broker, 1)).await),
        "p1 evicted 1..11@1",
        "of who was away nobody can know"
    );
}

#[tokio::test]
async fn a_topic_that_is_waited_for_keeps_its_history_known() {
    let broker = Broker::memory_with(Retention::default().with_topics(1));
    let mut waiting = consume(&broker, "a", Start::Latest).await;
    publish(&broker, "a", 2).await;
    assert_eq!(drain(&mut waiting), "p0 e1 e2");
    publish(&broker, "b", 5).await;
    publish(&broker, "a", 1).await;
    assert_eq!(drain(&mut waiting), "e8");
    assert_eq!(drain(&mut consume(&broker, "a", at(&broker, 1)).await), "p1 evicted 1..3@1 e8");
    assert_eq!(drain(&mut consume(&broker, "a", at(&broker, 2)).await), "p2 e8", "b's loss is not its own");
}

#[tokio::test]
async fn a_snapshot_after_its_record_was_dropped_begins_with_a_gap() {
    let broker = Broker::memory_with(Retention::default().with_topics(1));
    publish_key(&broker, "q", "a", "1").await;
    publish(&broker, "other", 1).await;
    publish_key(&broker, "q", "b", "1").await;
    assert_eq!(drain(&mut consume(&broker, "q", Start::Snapshot).await), "evicted 0..2@0 s3 p3");
    assert_eq!(drain(&mut consume(&broker, "q", Start::Last).await), "s3 p3", "its newest is known");
}

#[tokio::test]
async fn a_snapshot_cut_in_the_middle_is_answered_by_a_new_one() {
    let broker = Broker::memory_with(Retention::default().with_keys(3));
    for key in ["x", "a", "b", "c"] {
        publish_key(&broker, "q", key, "1").await;
    }
    let mut cut = consume(&broker, "q", Start::Snapshot).await;
    assert!(matches!(cut.next().await, Some(Ok(Delivery::Gap(_)))));
    assert_eq!(cut.place(), None, "no place to resume from, not even the gap's");
    assert_eq!(
        batch(&mut consume(&broker, "q", Start::Snapshot).await, Bounds::new(1, 9)),
        "evicted 0..2@0 s2"
    );
    publish_key(&broker, "q", "a", "").await;
    assert_eq!(drain(&mut consume(&broker, "q", Start::Snapshot).await), "evicted 0..2@0 s3 s4 p5");
}

#[tokio::test]
async fn a_snapshot_leaves_out_what_was_unsubscribed_meanwhile() {
    let broker = Broker::memory();
    publish_key(&broker, "q", "a", "1").await;
    publish_key(&broker, "r", "a", "1").await;
    let mut subscription = consume(&broker, "q r", Start::Snapshot).await;
    assert_eq!(batch(&mut subscription, Bounds::new(1, 9)), "s1");
    subscription.retarget(Pattern::new("q").unwrap().into()).unwrap();
    publish(&broker, "r", 1).await;
    publish(&broker, "q", 1).await;
    assert_eq!(drain(&mut subscription), "p2 e4");
}

#[tokio::test]
async fn without_credit_the_place_is_honest_and_losses_are_told() {
    let broker = small(2);
    let window = NonZeroU32::new(1).unwrap();
    let topic = "a.t";
    for asked in [asking(topic), asking("a.t b"), asking("a.*"), asking(topic).conflate_by_key()] {
        let before = broker.place();
        let mut subscription = broker.consume(asked.with_window(window)).await.unwrap();
        publish(&broker, topic, 2).await;
        let (first, second) = (before.seq() + 1, before.seq() + 2);
        assert_eq!(drain(&mut subscription), format!("p{} e{first}", before.seq()));
        publish(&broker, "none", 3).await;
        assert_eq!(drain(&mut subscription), "");
        assert_eq!(subscription.place(), Some(at(&broker, first)), "a heartbeat tells no more");
        publish(&broker, topic, 2).await;
        let lost = format!("lagged {first}..{}@{first}", second + 1);
        assert_eq!(drain(&mut subscription), lost, "a gap needs no credit");
        assert_eq!(subscription.place(), Some(at(&broker, first)));
        subscription.grant(9);
        assert_eq!(drain(&mut subscription), format!("e{} e{}", second + 4, second + 5));
    }
}

#[tokio::test]
async fn a_quiet_poller_outlives_retention() {
    let broker = small(100);
    publish(&broker, "quiet", 1).await;
    let mut place = broker.place();
    for _ in 0..100 {
        publish(&broker, "busy", 9).await;
        let (told, answer) = fetch(&broker, fetching("quiet", place)).await;
        assert_eq!(told, "");
        // A 304 keeps the poller's place; only a stale one is replaced.
        place = if answer.stale { answer.place.unwrap() } else { place };
    }
    publish(&broker, "quiet", 1).await;
    assert_eq!(fetch(&broker, fetching("quiet", place)).await.0, "e902");
    assert!(place.seq() > 700);
}

#[tokio::test]
async fn a_quiet_poller_outlives_the_records_of_others() {
    let broker = Broker::memory_with(Retention::default().with_topics(4));
    let mut place = broker.place();
    for n in 0..100 {
        publish(&broker, &format!("t{n}"), 1).await;
        let (told, answer) = fetch(&broker, fetching("quiet", place)).await;
        assert_eq!(told, "", "at {n}");
        place = if answer.stale { answer.place.unwrap() } else { place };
    }
}

#[tokio::test]
async fn who_comes_back_after_close_is_closed_again() {
    let broker = small(2);
    publish(&broker, "a", 5).await;
    let close = || asking("a").from(at(&broker, 1)).on_overflow(Overflow::Close);
    for _ in 0..2 {
        let mut closed = broker.consume(close()).await.unwrap();
        assert_eq!(drain(&mut closed), "p1 evicted 1..4@1 end");
        assert_eq!(closed.place(), Some(at(&broker, 1)));
        assert!(closed.next().await.is_none());
    }
}

#[tokio::test]
async fn conflation_of_two_topics_hides_no_break_of_the_chain() {
    let broker = Broker::memory();
    let mut thin = broker.consume(asking("x y").conflate_by_key()).await.unwrap();
    for topic in ["x", "y", "x", "y", "z"] {
        publish_key(&broker, topic, "k", "1").await;
    }
    publish(&broker, "y", 1).await;
    assert_eq!(batch(&mut thin, Bounds::new(1, 99)), "p0 t3");
    assert_eq!(thin.place(), Some(at(&broker, 3)));
    assert_eq!(drain(&mut thin), "t4 e6", "4 follows 2, which was left out before the cut");
    publish_key(&broker, "y", "k", "1").await;
    assert_eq!(drain(&mut thin), "e7");
    let mut asked = fetching("x y", at(&broker, 6));
    asked.conflate = Conflate::Key;
    assert_eq!(fetch(&broker, asked).await.0, "t7", "6 may have been left out of the answer before");
}

#[tokio::test]
async fn prev_proves_the_chain_that_is_plain() {
    let broker = Broker::memory();
    let mut thin = broker.consume(asking("x y").conflate_by_key()).await.unwrap();
    let mut seen: Option<Cursor> = None;
    let (mut proved, mut unknown) = (0, 0);
    for n in 0..50 {
        publish_key(&broker, ["x", "y"][n % 2], "k", "1").await;
        publish_key(&broker, "x", ["k", "l", "m"][n % 3], "1").await;
        let mut cx = std::task::Context::from_waker(pushpull_core::silent_waker());
        let mut out = pushpull_core::Batch::default();
        let _ = thin.poll_batch(&mut cx, Bounds::new([0, 1, 99][n % 3], 99), &mut out);
        for event in out.deliveries.into_iter().filter_map(Delivery::into_event) {
            if event.topic().as_str() != "x" {
                continue;
            }
            match event.prev() {
                Prev::Unknown => unknown += 1,
                prev => {
                    assert_eq!(prev, seen.map_or(Prev::First, Prev::At), "{event:?}");
                    proved += 1;
                }
            }
            seen = Some(event.cursor());
        }
    }
    assert!(proved > 20 && unknown > 20, "{proved} were proved, {unknown} follow what was left out");
}

#[tokio::test]
async fn unsubscribing_tells_no_gap_again() {
    let broker = small(2);
    publish(&broker, "a", 5).await;
    publish(&broker, "b", 1).await;
    let mut subscription = consume(&broker, "a b", at(&broker, 0)).await;
    assert_eq!(batch(&mut subscription, Bounds::new(0, 0)), "p0 evicted 0..4@0");
    subscription.retarget(Pattern::new("a").unwrap().into()).unwrap();
    assert_eq!(drain(&mut subscription), "e4 e5");
    let mut earliest = consume(&broker, "a b", Start::Earliest).await;
    assert_eq!(batch(&mut earliest, Bounds::new(0, 0)), "p3");
    earliest.retarget(Pattern::new("a").unwrap().into()).unwrap();
    assert_eq!(drain(&mut earliest), "e4 e5");
}

#[tokio::test]
async fn subscribing_more_hides_no_gap() {
    let broker = small(2);
    publish(&broker, "b", 5).await;
    let mut subscription = consume(&broker, "a", at(&broker, 0)).await;
    assert_eq!(batch(&mut subscription, Bounds::new(0, 0)), "p0");
    publish(&broker, "a", 1).await;
    assert_eq!(batch(&mut subscription, Bounds::new(0, 0)), "");
    let place = subscription.place().unwrap().seq();
    subscription.retarget(asking("a b").topics).unwrap();
    let told = drain(&mut subscription);
    assert_eq!(told, if place < 3 { "evicted 0..4@0 e4 e5 e6" } else { "e6" });
}

#[tokio::test]
async fn a_rare_pattern_finds_its_loss_among_many() {
    let broker = small(1);
    publish(&broker, "rare.one", 2).await;
    for n in 0..3000 {
        publish(&broker, &format!("t.n{n}"), 2).await;
    }
    assert_eq!(drain(&mut consume(&broker, "rare.*", at(&broker, 0)).await), "p0 evicted 0..2@0 e2");
    assert_eq!(drain(&mut consume(&broker, "rarer.*", at(&broker, 0)).await), "p0");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_fetch_is_answered_when_the_broker_closes() {
    let broker = Broker::memory();
    let started = tokio::time::Instant::now();
    let waiting = tokio::spawn({
        let broker = broker.clone();
        let long = fetching("a", Start::Latest).with_wait(Duration::from_secs(60));
        async move { fetch(&broker, long).await }
    });
    tokio::task::yield_now().await;
    broker.close();
    let (told, answer) = waiting.await.unwrap();
    assert_eq!((told.as_str(), answer.place), ("", Some(at(&broker, 0))));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[test]
fn one_id_published_at_once_is_appended_once() {
    let broker = Broker::memory();
    let publishing = || {
        let broker = broker.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let message = |n: usize| Message::new("x").with_idempotency(n.to_string());
            let topic = "a".parse().unwrap();
            let publish = |n| broker.publish_one(&topic, message(n));
            (0..200).map(|n| runtime.block_on(publish(n)).unwrap().seq()).collect::<Vec<_>>()
        })
    };
    let [one, two] = [publishing(), publishing()].map(|thread| thread.join().unwrap());
    assert_eq!(one, two);
    assert_eq!((broker.stats().published, broker.place().seq()), (200, 200));
}

#[tokio::test]
async fn a_batch_is_repeated_whole_by_its_id() {
    let broker = Broker::memory();
    let context = pushpull_core::Context::default();
    let topic = "a".parse().unwrap();
    let batch = |texts: [&'static str; 2]| texts.map(|text| Message::new(text).with_idempotency("1"));
    let first = broker.publish(&context, &topic, &batch(["1", "2"])).await.unwrap();
    assert_eq!(broker.publish(&context, &topic, &batch(["1", "2"])).await.unwrap(), first);
    let other = broker.publish(&context, &topic, &batch(["1", "3"])).await.unwrap_err();
    assert_eq!(other.kind(), pushpull_core::ErrorKind::Conflict);
    let bad = Message::new("{").with_content_type("application/json").with_idempotency("2");
    assert!(broker.publish_one(&topic, bad).await.is_err());
    let good = Message::new("{}").with_content_type("application/json").with_idempotency("2");
    assert_eq!(broker.publish_one(&topic, good).await.unwrap().seq(), 3, "a refused publish uses no id up");
}

/// An engine with a history of two epochs: 1 from the start, 2 from seq 4.
#[derive(Debug)]
struct TwoEpochs;

#[async_trait]
impl Engine for TwoEpochs {
    fn name(&self) -> &'static str {
        "two-epochs"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    async fn open(&self, tail: Tail) -> Result<(), Problem> {
        let entry = |seq| Entry::new(seq, 0, "a".parse().unwrap(), Message::new("x"));
        tail.begin(Epoch::from_random(1), 0);
        tail.push((1..=3).map(entry).collect());
        tail.begin(Epoch::from_random(2), 4);
        tail.push((4..=5).map(entry).collect());
        Ok(())
    }

    async fn append(&self, _: Append) -> Result<Appended, PublishError> {
        Err(PublishError::not_applied(Problem::new(pushpull_core::ErrorKind::Unavailable, "down")))
    }

    async fn probe(&self) -> Result<(), Problem> {
        Ok(())
    }
}

#[tokio::test]
async fn a_lost_branch_is_rewound_to_the_last_common_place() {
    let broker = Broker::open(TwoEpochs, Retention::default()).await.unwrap();
    let cursor = |epoch, seq| Cursor::new(Epoch::from_random(epoch), seq);
    assert_eq!(broker.place(), cursor(2, 5));
    assert_eq!(
        drain(&mut consume(&broker, "a", cursor(1, 2)).await),
        "p2 e3 e4 e5",
        "an older epoch is good"
    );
    assert_eq!(drain(&mut consume(&broker, "a", cursor(1, 9)).await), "rewound 9..4@3 p3 e4 e5");
    assert_eq!(drain(&mut consume(&broker, "quiet", cursor(1, 4)).await), "rewound 4..4@3 p3");
    assert_eq!(drain(&mut consume(&broker, "a", cursor(2, 6)).await), "reset 6..1@0 p0 e1 e2 e3 e4 e5");
    let batch = [Message::new("1"), Message::new("2")];
    let refused = broker.publish(&pushpull_core::Context::default(), &"a".parse().unwrap(), &batch).await;
    assert_eq!(refused.unwrap_err().kind(), pushpull_core::ErrorKind::Unsupported, "all or none it cannot");
}

#[tokio::test]
async fn much_is_scanned_for_little_in_portions() {
    let broker = Broker::memory();
    publish(&broker, "busy", 3000).await;
    publish(&broker, "rare.one", 1).await;
    let (told, answer) = fetch(&broker, fetching("rare.*", at(&broker, 0))).await;
    let place = answer.place.unwrap();
    assert_eq!((told.as_str(), answer.more), ("", true));
    assert!((1..3000).contains(&place.seq()), "{place}");
    let long = fetching("rare.*", at(&broker, 0)).with_wait(Duration::from_secs(30));
    let (told, answer) = fetch(&broker, long).await;
    assert_eq!((told.as_str(), answer.place, answer.more), ("e3001", Some(at(&broker, 3001)), false));
    let mut stream = consume(&broker, "rare.*", at(&broker, 0)).await;
    assert!(matches!(stream.next().await, Some(Ok(Delivery::Place(_)))));
    let Some(Ok(Delivery::Event(event))) = stream.next().await else { panic!("an event") };
    assert_eq!(event.cursor(), at(&broker, 3001), "it goes on without being woken from outside");
}
