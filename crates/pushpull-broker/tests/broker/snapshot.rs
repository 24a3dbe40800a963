use pushpull_broker::{Broker, Retention};
use pushpull_core::{Bounds, Delivery, Link, PushExt, Start};

use crate::{asking, at, batch, consume, drain, fetch, fetching, publish, publish_key};

#[tokio::test]
async fn a_snapshot_is_one_unit_and_then_live() {
    let broker = Broker::memory();
    for (key, payload) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "")] {
        publish_key(&broker, "q.x", key, payload).await;
    }
    publish(&broker, "q.x", 1).await;
    publish_key(&broker, "q.y", "a", "1").await;
    let mut subscription = consume(&broker, "q.*", Start::Snapshot).await;
    publish_key(&broker, "q.x", "a", "3").await;
    assert_eq!(subscription.place(), None, "no place before it is complete");
    assert_eq!(batch(&mut subscription, Bounds::new(2, usize::MAX)), "s3 s4");
    assert_eq!(subscription.place(), None);
    assert_eq!(batch(&mut subscription, Bounds::new(2, usize::MAX)), "s7 p7");
    assert_eq!(subscription.place(), Some(at(&broker, 7)));
    assert_eq!(drain(&mut subscription), "e8");
    let (told, answer) = fetch(&broker, fetching("q.x q.*", Start::Snapshot).with_limit(1)).await;
    assert_eq!((told.as_str(), answer.place, answer.more), ("s4 s7 s8", Some(at(&broker, 8)), false));
}

#[tokio::test]
async fn last_is_each_topics_newest() {
    let broker = Broker::memory();
    publish(&broker, "a", 2).await;
    publish(&broker, "b", 1).await;
    publish_key(&broker, "c", "k", "").await;
    assert_eq!(drain(&mut consume(&broker, ">", Start::Last).await), "s2 s3 s4 p4");
    assert_eq!(drain(&mut consume(&broker, "none", Start::Last).await), "p4");
    assert_eq!(
        drain(&mut consume(&broker, "a b", Start::Snapshot).await),
        "p4",
        "keyless events are in none"
    );
}

#[tokio::test]
async fn a_snapshot_that_lost_keys_begins_with_a_gap() {
    let broker = Broker::memory_with(Retention::default().with_keys(2));
    for key in ["a", "b", "c"] {
        publish_key(&broker, "q", key, "1").await;
    }
    assert_eq!(drain(&mut consume(&broker, "q", Start::Snapshot).await), "evicted 0..2@0 s2 s3 p3");
}

#[tokio::test]
async fn a_snapshot_outlives_the_log() {
    let broker = Broker::memory_with(Retention::default().with_messages(1));
    publish_key(&broker, "q", "a", "1").await;
    publish_key(&broker, "q", "b", "1").await;
    publish(&broker, "q", 3).await;
    assert_eq!(drain(&mut consume(&broker, "q", Start::Snapshot).await), "s1 s2 p5");
}

#[tokio::test]
async fn a_snapshot_that_the_brokers_end_cuts_has_no_place() {
    let broker = Broker::memory();
    publish_key(&broker, "a", "k", "1").await;
    publish_key(&broker, "a", "l", "1").await;
    let request = asking("a").from(Start::Snapshot).with_window(std::num::NonZeroU32::MIN);
    let mut subscription = broker.consume(request).await.unwrap();
    assert!(matches!(subscription.next().await, Some(Ok(Delivery::Event(event))) if event.is_snapshot()));
    broker.close();
    let end = subscription.next().await;
    assert!(matches!(end, Some(Ok(Delivery::Link(Link::Ended { cursor: None, .. })))), "{end:?}");
    assert_eq!(subscription.place(), None);
    assert!(subscription.next().await.is_none());
    assert_eq!(subscription.place(), None);
}
