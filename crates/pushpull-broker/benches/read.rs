//! Reading what is retained: `cargo bench -p pushpull-broker --bench read`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench stops at what goes wrong")]

use std::task;

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use futures_util::FutureExt;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Bounds, Cursor, Delivery, Event, FormatKey, Message, ProducerExt, PushExt, Start, StartAt,
    Subscribe, Subscription, Topic, silent_waker,
};

const READ: usize = 10_000;
const BOUNDS: Bounds = Bounds::new(256, 64 * 1024);

static FORM: FormatKey = FormatKey::new("bench");

fn main() {
    divan::main();
}

/// A broker that retains so many messages of 128 bytes, of so many topics in turn, and all their encodings.
fn holding(topics: usize, messages: usize) -> Broker {
    let retention = Retention::default()
        .with_messages(2_000_000)
        .with_bytes(8 << 30)
        .with_topic_bytes(8 << 30)
        .with_encodings(2_000_000, 8 << 30);
    let broker = Broker::memory_with(retention);
    let topics: Vec<Topic> = (0..topics).map(|n| format!("bench.{n}").parse().unwrap()).collect();
    for topic in topics.iter().cycle().take(messages) {
        let message = Message::new(Bytes::copy_from_slice(&[b'x'; 128]));
        broker.publish_one(topic, message).now_or_never().unwrap().unwrap();
    }
    broker
}

/// The place before the newest `READ` messages.
fn behind(broker: &Broker) -> StartAt {
    let place = broker.place();
    Cursor::new(place.epoch(), place.seq() - READ as u64).into()
}

fn subscribe(broker: &Broker, pattern: &str, start: StartAt) -> Subscription {
    let mut request = Subscribe::to(pattern).unwrap();
    request.start = start;
    broker.consume(request).now_or_never().unwrap().unwrap()
}

fn encoded(event: &Event) -> usize {
    event.encoded(&FORM, |event| Bytes::copy_from_slice(event.payload())).len()
}

/// Reads to the end of the first `READ` events. Returns their bytes.
fn read(subscription: &mut Subscription, batch: &mut Batch, size: impl Fn(&Event) -> usize) -> usize {
    let mut cx = task::Context::from_waker(silent_waker());
    let (mut events, mut bytes) = (0, 0);
    while events < READ {
        batch.clear();
        assert!(subscription.poll_batch(&mut cx, BOUNDS, batch).is_ready());
        for delivery in &batch.deliveries {
            if let Delivery::Event(event) = delivery {
                events += 1;
                bytes += size(event);
            }
        }
    }
    bytes
}

fn bench(
    bencher: Bencher<'_, '_>,
    broker: &Broker,
    pattern: &str,
    start: StartAt,
    size: impl Fn(&Event) -> usize,
) {
    let mut batch = Batch::default();
    read(&mut subscribe(broker, pattern, start), &mut batch, &size);
    let bencher = bencher.counter(ItemsCount::new(READ));
    let bencher = bencher.with_inputs(|| subscribe(broker, pattern, start));
    bencher.bench_local_refs(|subscription| read(subscription, &mut batch, &size));
}

const RETAINED: [usize; 4] = [10_000, 100_000, 1_000_000, 2_000_000];

/// The newest 10,000 of so many events of one topic, with their kept encodings.
#[divan::bench(args = RETAINED, sample_count = 100, sample_size = 1)]
fn exact_encoded(bencher: Bencher<'_, '_>, retained: usize) {
    let broker = holding(1, retained);
    bench(bencher, &broker, "bench.0", behind(&broker), encoded);
}

/// The same without looking at what was read.
#[divan::bench(args = RETAINED, sample_count = 100, sample_size = 1)]
fn exact(bencher: Bencher<'_, '_>, retained: usize) {
    let broker = holding(1, retained);
    bench(bencher, &broker, "bench.0", behind(&broker), |_| 1);
}

/// The oldest 10,000.
#[divan::bench(args = RETAINED, sample_count = 100, sample_size = 1)]
fn exact_earliest(bencher: Bencher<'_, '_>, retained: usize) {
    let broker = holding(1, retained);
    bench(bencher, &broker, "bench.0", Start::Earliest.into(), |_| 1);
}

/// The newest 10,000 by a pattern that matches all of a hundred topics.
#[divan::bench(args = RETAINED, sample_count = 100, sample_size = 1)]
fn pattern(bencher: Bencher<'_, '_>, retained: usize) {
    let broker = holding(100, retained);
    bench(bencher, &broker, "bench.*", behind(&broker), |_| 1);
}
