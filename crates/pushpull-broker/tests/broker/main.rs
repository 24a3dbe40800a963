//! The promises of a broker over the memory engine, in process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod branch;
mod delivery;
mod earliest;
mod history;
mod judging;
mod model;
mod publish;
mod race;
mod relay;
mod retention;
mod rewinds;
mod scenarios;
mod scripted;
mod snapshot;
mod standing;
mod units;

use std::task::{Context, Poll};

use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Bounds, Consumer, Cursor, Delivery, Fetch, Link, Message, ProducerExt, Pull, PushExt, StartAt,
    Subscribe, Subscription, silent_waker,
};

/// A delivery in few letters: `e3` an event, `s3` one of a snapshot, `t3` a thinned one, `p3` a place,
/// `evicted 1..8@1` a gap (after, before, where to go on), `end` the end.
fn short(delivery: &Delivery) -> String {
    use pushpull_core::View;
    match delivery {
        Delivery::Event(event) => {
            let letter = match event.view() {
                View::Snapshot => 's',
                View::Thinned => 't',
                _ => 'e',
            };
            format!("{letter}{}", event.cursor().seq())
        }
        Delivery::Place(place) => format!("p{}", place.seq()),
        Delivery::Gap(gap) => {
            format!("{} {}..{}@{}", gap.reason, gap.after.seq(), gap.before.seq(), gap.cursor.seq())
        }
        Delivery::Link(Link::Ended { retry, .. }) => {
            format!("end{}", if retry.is_some() { "-retry" } else { "" })
        }
        other => format!("{other:?}"),
    }
}

fn joined(deliveries: &[Delivery]) -> String {
    deliveries.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// All that is there now.
fn drain(subscription: &mut Subscription) -> String {
    let mut taken = Vec::new();
    let mut cx = Context::from_waker(silent_waker());
    while let Poll::Ready(Some(delivery)) = Consumer::poll_next(subscription, &mut cx) {
        taken.push(delivery.unwrap());
    }
    joined(&taken)
}

/// One batch within `bounds`.
fn batch(subscription: &mut Subscription, bounds: Bounds) -> String {
    let mut out = Batch::default();
    let _ = subscription.poll_batch(&mut Context::from_waker(silent_waker()), bounds, &mut out);
    joined(&out.deliveries)
}

async fn publish(broker: &Broker, topic: &str, count: usize) -> Cursor {
    let mut last = broker.place();
    for _ in 0..count {
        last = broker.publish_one(&topic.parse().unwrap(), Message::text("x")).await.unwrap();
    }
    last
}

async fn publish_key(broker: &Broker, topic: &str, key: &str, payload: &'static str) -> Cursor {
    let message = Message::new(payload).with_content_type("text/plain").with_key(key);
    broker.publish_one(&topic.parse().unwrap(), message).await.unwrap()
}

fn asking(patterns: &str) -> Subscribe {
    let mut patterns = patterns.split(' ');
    let first = Subscribe::to(patterns.next().unwrap()).unwrap();
    patterns.fold(first, |subscribe, pattern| subscribe.and(pattern).unwrap())
}

async fn consume(broker: &Broker, patterns: &str, start: impl Into<StartAt>) -> Subscription {
    broker.consume(asking(patterns).from(start)).await.unwrap()
}

async fn fetch(broker: &Broker, fetch: Fetch) -> (String, Batch) {
    let batch = broker.fetch(&pushpull_core::Context::default(), fetch).await.unwrap();
    (joined(&batch.deliveries), batch)
}

fn fetching(patterns: &str, start: impl Into<StartAt>) -> Fetch {
    Fetch::like(&asking(patterns).from(start))
}

fn at(broker: &Broker, seq: u64) -> Cursor {
    Cursor::new(broker.place().epoch(), seq)
}

fn small(messages: usize) -> Broker {
    Broker::memory_with(Retention::default().with_messages(messages))
}
