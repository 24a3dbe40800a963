use std::time::Duration;

use pushpull_broker::{Broker, Retention};
use pushpull_core::{Context, ErrorKind, Message, Outcome, Producer, ProducerExt, Start};

use crate::{at, fetch, fetching};

#[tokio::test]
async fn a_batch_is_published_as_one() {
    let broker = Broker::memory();
    let topic = "a".parse().unwrap();
    let messages = ["1", "2", "3"].map(Message::new);
    let published = broker.publish(&Context::default(), &topic, &messages).await.unwrap();
    assert_eq!((published.first.seq(), published.last.seq(), published.count), (1, 3, 3));
    let bad = [Message::new("1"), Message::new("{").with_content_type("application/json")];
    let refused = broker.publish(&Context::default(), &topic, &bad).await.unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Invalid, Outcome::NotApplied));
    assert_eq!(
        broker.publish(&Context::default(), &topic, &[]).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(fetch(&broker, fetching("a", Start::Earliest)).await.0, "e1 e2 e3");
}

#[tokio::test]
async fn a_payload_has_its_limit() {
    let broker = Broker::memory_with(Retention::default().with_payload(4));
    let publish = async |payload: &'static str| {
        broker.publish_one(&"a".parse().unwrap(), Message::new(payload)).await.map_err(|error| error.kind())
    };
    assert_eq!(publish("1234").await, Ok(at(&broker, 1)));
    assert_eq!(publish("12345").await, Err(ErrorKind::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_within_the_window_returns_the_first_cursor() {
    let broker = Broker::memory_with(Retention::default().with_idempotency(Duration::from_secs(120), 2));
    let publish = async |id: &'static str, payload: &'static str| {
        let message = Message::new(payload).with_idempotency(id);
        let published = broker.publish_one(&"a".parse().unwrap(), message).await;
        published.map(|cursor| cursor.seq()).map_err(|error| (error.kind(), error.outcome()))
    };
    assert_eq!(publish("1", "x").await, Ok(1));
    assert_eq!(publish("1", "x").await, Ok(1));
    assert_eq!(publish("1", "y").await, Err((ErrorKind::Conflict, Outcome::NotApplied)));
    assert_eq!(publish("2", "x").await, Ok(2));
    assert_eq!(publish("3", "x").await, Err((ErrorKind::Busy, Outcome::NotApplied)));
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(publish("3", "x").await, Ok(3));
    assert_eq!(broker.stats().published, 3);
}
