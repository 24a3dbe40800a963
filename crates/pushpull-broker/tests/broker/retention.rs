use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use pushpull_broker::{Broker, Entry, Retention};
use pushpull_core::{Delivery, Epoch, FormatKey, Message, ProducerExt, Start};

use crate::{at, branch::unbegun_with, consume, drain, fetch, fetching, publish, publish_key, small};

#[tokio::test]
async fn holes_around_retained_events_are_told() {
    let broker = small(3);
    publish(&broker, "quiet", 1).await;
    publish(&broker, "busy", 10).await;
    publish(&broker, "quiet", 1).await;
    // Kept: quiet 1 and 12, busy 9, 10, 11.
    assert_eq!(
        drain(&mut consume(&broker, ">", at(&broker, 0)).await),
        "p0 evicted 0..9@0 e1 e9 e10 e11 e12"
    );
    assert_eq!(drain(&mut consume(&broker, "quiet", at(&broker, 0)).await), "p0 e1 e12");
    assert_eq!(drain(&mut consume(&broker, "quiet *.x", at(&broker, 0)).await), "p0 e1 e12");
    assert_eq!(drain(&mut consume(&broker, "*", at(&broker, 8)).await), "p8 e9 e10 e11 e12");
    assert_eq!(drain(&mut consume(&broker, "*", at(&broker, 7)).await), "p7 evicted 7..9@7 e9 e10 e11 e12");
    assert_eq!(drain(&mut consume(&broker, ">", Start::Earliest).await), "p0 e1 e9 e10 e11 e12");
}

#[tokio::test]
async fn a_quiet_topic_evicted_whole_is_told_by_its_record() {
    let broker = Broker::memory_with(Retention::default().with_bytes(4000).with_topic_bytes(4000));
    publish(&broker, "quiet", 1).await;
    publish(&broker, "busy", 100).await;
    assert_eq!(drain(&mut consume(&broker, "quiet", at(&broker, 0)).await), "p0 evicted 0..2@0");
    assert_eq!(drain(&mut consume(&broker, "quiet", at(&broker, 1)).await), "p1");
    assert_eq!(drain(&mut consume(&broker, "other", at(&broker, 0)).await), "p0", "nothing of it is gone");
    assert_eq!(
        fetch(&broker, fetching("quiet", Start::Last)).await.0,
        "s1",
        "its newest event outlives bytes"
    );
    assert!(broker.stats().retained_bytes <= 4000);
}

#[tokio::test]
async fn a_dropped_record_is_told_to_whoever_may_have_lost() {
    let broker = Broker::memory_with(Retention::default().with_topics(2));
    publish(&broker, "old", 2).await;
    let mut waiting = consume(&broker, "old", Start::Latest).await;
    assert_eq!(drain(&mut waiting), "p2");
    publish(&broker, "b", 1).await;
    publish(&broker, "c", 1).await;
    assert_eq!(broker.stats().topics, 2);
    assert_eq!(drain(&mut consume(&broker, "old", at(&broker, 0)).await), "p0 evicted 0..3@0");
    assert_eq!(
        drain(&mut consume(&broker, "never", at(&broker, 1)).await),
        "p1 evicted 1..3@1",
        "nobody can know"
    );
    assert_eq!(drain(&mut consume(&broker, "never", at(&broker, 2)).await), "p2");
    assert_eq!(drain(&mut consume(&broker, ">", at(&broker, 0)).await), "p0 evicted 0..3@0 e3 e4");
    assert_eq!(drain(&mut waiting), "");
    publish(&broker, "old", 1).await;
    assert_eq!(drain(&mut waiting), "e5", "who waits for a forgotten topic hears it when it is back");
    assert_eq!(drain(&mut consume(&broker, "old", at(&broker, 0)).await), "p0 evicted 0..3@0 e5");
    assert_eq!(fetch(&broker, fetching("b", Start::Last)).await.0, "evicted 0..4@0", "b went in its stead");
}

#[tokio::test]
async fn no_topic_evicts_the_others_beyond_its_own_bound() {
    let retention = Retention::default().with_bytes(1 << 20).with_topic_bytes(100_000);
    let broker = Broker::memory_with(retention);
    publish(&broker, "quiet", 3).await;
    let big = "x".repeat(1000);
    for _ in 0..2000 {
        broker.publish_one(&"busy".parse().unwrap(), Message::text(big.clone())).await.unwrap();
    }
    assert_eq!(drain(&mut consume(&broker, "quiet", at(&broker, 0)).await), "p0 e1 e2 e3");
    let stats = broker.stats();
    assert!(stats.retained_bytes < 110_000 && stats.retained_events > 50, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn age_goes_by_monotonic_time() {
    let broker = Broker::memory_with(Retention::default().with_age(Duration::from_secs(10)));
    publish(&broker, "a", 2).await;
    tokio::time::advance(Duration::from_secs(6)).await;
    publish(&broker, "a", 1).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(drain(&mut consume(&broker, "a", at(&broker, 0)).await), "p0 evicted 0..3@0 e3");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(broker.stats().retained_events, 0);
    assert_eq!(fetch(&broker, fetching("a", Start::Last)).await.0, "s3", "the newest outlives its age");
}

#[tokio::test]
async fn a_log_full_of_holes_stays_small_and_right() {
    let broker = small(5);
    publish(&broker, "quiet", 1).await;
    for n in 0..20_000 {
        publish(&broker, ["busy", "busier"][n % 2], 1).await;
    }
    let told = drain(&mut consume(&broker, ">", at(&broker, 0)).await);
    let tail: Vec<_> = (19_992..=20_001).map(|seq| format!("e{seq}")).collect();
    assert_eq!(told, format!("p0 evicted 0..19992@0 e1 {}", tail.join(" ")));
}

#[tokio::test]
async fn kept_apart_is_bounded_too() {
    let broker = Broker::memory_with(Retention::default().with_kept_bytes(2000).with_messages(1));
    for n in 0..100 {
        publish_key(&broker, &format!("t{n}"), "k", "1").await;
    }
    let stats = broker.stats();
    assert!((1..10).contains(&stats.topics), "{stats:?}");
    assert_eq!(stats.retained_events, stats.topics);
    assert_eq!(fetch(&broker, fetching("t99", Start::Last)).await.0, "s100");
}

/// A payload that counts how many of its kind there are.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn payload(count: &Arc<AtomicUsize>) -> Bytes {
        count.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Self(count.clone()))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        b"payload"
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn what_is_evicted_is_held_by_nobody() {
    let broker = Broker::memory_with(Retention::default().with_messages(3).with_keys(2));
    let alive = Arc::new(AtomicUsize::new(0));
    let mut stalled = consume(&broker, "a *", Start::Latest).await;
    drain(&mut stalled);
    for n in 0..100 {
        let message = Message::new(Counted::payload(&alive)).with_key(format!("k{n}"));
        broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    }
    assert_eq!(alive.load(Ordering::Relaxed), 3, "the keys kept apart are among them");
    drop((broker, stalled));
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn only_the_newest_events_keep_their_encodings() {
    static FORM: FormatKey = FormatKey::new("form");
    let broker = Broker::memory_with(Retention::default().with_encodings(2, 1000));
    let mut subscription = consume(&broker, "a", Start::Latest).await;
    publish(&broker, "a", 4).await;
    let before = broker.stats().retained_bytes;
    let mut kept = Vec::new();
    while kept.len() < 4 {
        if let Some(Ok(Delivery::Event(event))) = subscription.next().await {
            event.encoded(&FORM, |_| Bytes::from_static(&[0; 100]));
            kept.push(event);
        }
    }
    assert_eq!(broker.stats().retained_bytes - before, 200);
    publish(&broker, "a", 1).await;
    kept[3].encoded(&FORM, |_| panic!("it was kept"));
    assert_eq!(kept[2].encoded(&FORM, |_| Bytes::new()), "", "it was forgotten");
}

#[tokio::test]
async fn events_keep_their_encodings_again_where_history_went_back_to() {
    static FORM: FormatKey = FormatKey::new("form of another history");
    let (broker, tail) = unbegun_with(Retention::default().with_encodings(2, 1000)).await;
    let push = |seq: u64| {
        tail.push(vec![Entry::new(seq, 0, "a".parse().unwrap(), Message::text("x"))]);
    };
    let held = || {
        let before = broker.stats().retained_bytes;
        let mut reader = consume(&broker, "a", Start::Earliest).now_or_never().unwrap();
        while let Some(Some(Ok(delivery))) = reader.next().now_or_never() {
            if let Delivery::Event(event) = delivery {
                event.encoded(&FORM, |_| Bytes::from_static(&[0; 100]));
            }
        }
        broker.stats().retained_bytes - before
    };
    tail.begin(Epoch::from_random(1), 1);
    (1..=20).for_each(push);
    assert_eq!(held(), 200);
    tail.begin(Epoch::from_random(2), 6);
    assert_eq!(held(), 0, "what is left is older");
    (6..=7).for_each(push);
    assert_eq!(held(), 200, "rewound");
    tail.restart(Epoch::from_random(3), 1, 1);
    (2..=3).for_each(push);
    assert_eq!(held(), 200, "another history");
}

#[tokio::test]
async fn what_goes_after_earliest_began_is_told_though_another_topic_lost_newer_events() {
    for patterns in ["a b", ">", "a *"] {
        let broker = Broker::memory_with(Retention::default().with_messages(2));
        publish(&broker, "a", 1).await;
        publish(&broker, "b", 4).await;
        let mut untouched = consume(&broker, patterns, Start::Earliest).await;
        assert_eq!(drain(&mut untouched), "p0 e1 e4 e5", "what was gone is not asked for: {patterns}");
        let mut earliest = consume(&broker, patterns, Start::Earliest).await;
        publish(&broker, "a", 2).await;
        assert_eq!(drain(&mut earliest), "p0 evicted 0..2@0 e4 e5 e6 e7", "{patterns}");
        assert_eq!(drain(&mut untouched), "e6 e7", "{patterns}");
    }
}
