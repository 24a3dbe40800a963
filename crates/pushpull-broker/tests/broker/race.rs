//! Reading while another thread appends and evicts: nothing is lost in silence.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Bounds, Conflate, Delivery, Fetch, FormatKey, Message, Overflow, Producer as _, Pull as _,
    PushExt, Start, Subscribe, Subscription, silent_waker,
};

use crate::asking;

const BATCHES: u64 = 4000;

/// Publishes batches of 1 to 7 messages, by turns to `a` and `b.x`.
fn publish_all(broker: &Broker) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let topics = ["a".parse().unwrap(), "b.x".parse().unwrap()];
    for n in 0..BATCHES {
        let messages: Vec<_> = (0..=n % 7).map(|_| Message::text("x")).collect();
        let context = pushpull_core::Context::default();
        runtime.block_on(broker.publish(&context, &topics[n as usize % 2], &messages)).unwrap();
    }
}

/// Up to where everything came or was told, and before which place gaps were told.
#[derive(Default)]
struct Known {
    covered: u64,
    lost_before: u64,
}

/// Takes what is there; `false` if there is nothing.
fn take(subscription: &mut Subscription, known: &mut Known) -> bool {
    let mut batch = Batch::default();
    let mut cx = Context::from_waker(silent_waker());
    let polled = subscription.poll_batch(&mut cx, Bounds::new(3, usize::MAX), &mut batch);
    let Known { covered, lost_before } = known;
    for delivery in &batch.deliveries {
        match delivery {
            Delivery::Event(event) => {
                let seq = event.cursor().seq();
                assert!(seq > *covered, "{seq} came again or out of order");
                assert!(seq == *covered + 1 || seq <= *lost_before, "{covered} to {seq} in silence");
                *covered = seq;
            }
            Delivery::Gap(gap) => {
                *lost_before = gap.before.seq().max(*lost_before);
                *covered = gap.cursor.seq().max(*covered);
            }
            _ => {}
        }
    }
    matches!(polled, Poll::Ready(_))
}

/// All events are asked for, so every seq must come, or lie in a gap that was told before it.
fn consume_all(broker: &Broker, request: Subscribe) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut subscription = runtime.block_on(broker.consume(request.from(Start::Latest))).unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let publisher = std::thread::spawn({
        let (broker, is_done) = (broker.clone(), is_done.clone());
        move || {
            publish_all(&broker);
            is_done.store(true, Ordering::Release);
        }
    });
    let mut known = Known::default();
    loop {
        let was_done = is_done.load(Ordering::Acquire);
        if !take(&mut subscription, &mut known) && was_done {
            break;
        }
    }
    publisher.join().unwrap();
    assert_eq!(known.covered, broker.place().seq());
}

#[test]
fn what_an_append_evicts_under_a_reader_is_told() {
    for messages in [1, 4] {
        for asked in ["a b.x", "*  b.*", ">", "a b.>"] {
            for overflow in [Overflow::Gap, Overflow::Latest] {
                let broker = Broker::memory_with(Retention::default().with_messages(messages));
                consume_all(&broker, asking(&asked.replace("  ", " ")).on_overflow(overflow));
            }
        }
    }
}

#[test]
fn what_begins_at_the_newest_and_does_not_wait_brings_the_place_alone() {
    let broker = Broker::memory();
    let is_done = Arc::new(AtomicBool::new(false));
    let publisher = std::thread::spawn({
        let (broker, is_done) = (broker.clone(), is_done.clone());
        move || {
            publish_all(&broker);
            is_done.store(true, Ordering::Release);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let context = pushpull_core::Context::default();
    let mut newest = 0;
    let mut ask = || {
        let batch = runtime.block_on(broker.fetch(&context, Fetch::new(asking("a b.x").topics))).unwrap();
        assert!(batch.deliveries.is_empty(), "{:?} came before the starting place", batch.deliveries);
        let place = batch.place.unwrap().seq();
        assert!(place >= newest, "{place} was told after {newest}");
        newest = place;
    };
    while !is_done.load(Ordering::Acquire) {
        ask();
    }
    publisher.join().unwrap();
    ask();
    assert_eq!(newest, (0..BATCHES).map(|n| n % 7 + 1).sum::<u64>(), "all that was published");
}

#[test]
fn a_conflated_answer_holds_no_key_twice() {
    let broker = Broker::memory();
    let start = broker.place();
    let is_done = Arc::new(AtomicBool::new(false));
    let publisher = std::thread::spawn({
        let (broker, is_done) = (broker.clone(), is_done.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (topic, context) = ("a".parse().unwrap(), pushpull_core::Context::default());
            for _ in 0..5 * BATCHES {
                let messages = [Message::text("x").with_key("k")];
                runtime.block_on(broker.publish(&context, &topic, &messages)).unwrap();
            }
            is_done.store(true, Ordering::Release);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let context = pushpull_core::Context::default();
    let mut asked = Fetch::new(asking("a").topics).from(start);
    asked.conflate = Conflate::Key;
    while !is_done.load(Ordering::Acquire) {
        let batch = runtime.block_on(broker.fetch(&context, asked.clone())).unwrap();
        let events = batch.deliveries.iter().filter(|delivery| matches!(delivery, Delivery::Event(_)));
        assert!(events.count() <= 1, "{:?}", batch.deliveries);
        asked = asked.from(batch.place.unwrap());
    }
    publisher.join().unwrap();
}

/// Encodes all that comes in two forms, and holds on to some of it, until it is over.
fn encode_all(broker: &Broker, is_done: &AtomicBool) {
    static FORMS: [FormatKey; 2] = [FormatKey::new("one of a race"), FormatKey::new("another of a race")];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut subscription = runtime.block_on(broker.consume(asking(">").from(Start::Earliest))).unwrap();
    let mut cx = Context::from_waker(silent_waker());
    let mut held = VecDeque::new();
    while !is_done.load(Ordering::Acquire) {
        let mut batch = Batch::default();
        let _ = subscription.poll_batch(&mut cx, Bounds::new(8, usize::MAX), &mut batch);
        for delivery in batch.deliveries {
            if let Delivery::Event(event) = delivery {
                FORMS.iter().for_each(|form| _ = event.encoded(form, |_| Bytes::from_static(&[0; 100])));
                held.push_back(event);
            }
        }
        held.drain(..held.len().saturating_sub(6));
    }
}

#[test]
fn what_encodings_take_is_known_whoever_makes_them_while_they_are_forgotten() {
    let retention = Retention::default().with_messages(8).with_encodings(12, 1500);
    let (broker, fresh) = (Broker::memory_with(retention.clone()), Broker::memory_with(retention));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        (0..2).for_each(|_| _ = scope.spawn(|| encode_all(&broker, &is_done)));
        (0..3).for_each(|_| publish_all(&broker));
        is_done.store(true, Ordering::Release);
    });
    // Nobody encodes any of these.
    publish_all(&broker);
    publish_all(&fresh);
    assert_eq!(broker.stats().retained_bytes, fresh.stats().retained_bytes);
}
