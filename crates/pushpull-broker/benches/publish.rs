//! Publishing in process: `cargo bench -p pushpull-broker --bench publish`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench stops at what goes wrong")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use futures_util::FutureExt;
use pushpull_broker::{Append, Appended, Broker, Capabilities, Engine, Entry, Retention, Tail};
use pushpull_core::{
    Context, Epoch, Message, Problem, Producer, PublishError, PushExt, Subscribe, Subscription, Topic,
};

const PAYLOAD: [u8; 128] = [b'x'; 128];

fn main() {
    divan::main();
}

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|_| Message::new(Bytes::copy_from_slice(&PAYLOAD))).collect()
}

fn topics(count: usize) -> Vec<Topic> {
    (0..count).map(|n| format!("bench.{n}").parse().unwrap()).collect()
}

/// A broker that retains as much of `topics` as it ever will, so that every message pushes one out.
fn full(topics: &[Topic], retention: Retention) -> Broker {
    let most = retention.messages;
    let broker = Broker::memory_with(retention);
    for topic in topics {
        publish(&broker, topic, &messages(most));
    }
    broker
}

fn publish(broker: &Broker, topic: &Topic, messages: &[Message]) {
    let cx = Context::default();
    broker.publish(&cx, topic, messages).now_or_never().unwrap().unwrap();
}

/// One topic with nobody who listens, so many messages a call.
#[divan::bench(args = [1, 16, 100], sample_count = 1000, sample_size = 100)]
fn no_subscribers(bencher: Bencher<'_, '_>, count: usize) {
    let topics = topics(1);
    let broker = full(&topics, Retention::default());
    let bencher = bencher.counter(ItemsCount::new(count)).with_inputs(|| messages(count));
    bencher.bench_local_refs(|messages| publish(&broker, &topics[0], messages));
}

/// The same, if all payloads lie in one buffer, so that none is freed when it is pushed out.
#[divan::bench(args = [1, 16, 100], sample_count = 1000, sample_size = 100)]
fn no_subscribers_one_buffer(bencher: Bencher<'_, '_>, count: usize) {
    let topics = topics(1);
    let broker = full(&topics, Retention::default());
    let payload = Bytes::from(PAYLOAD.to_vec());
    let messages = || -> Vec<_> { (0..count).map(|_| Message::new(payload.clone())).collect() };
    let bencher = bencher.counter(ItemsCount::new(count)).with_inputs(messages);
    bencher.bench_local_refs(|messages| publish(&broker, &topics[0], messages));
}

/// The same, if nothing is pushed out yet.
#[divan::bench(args = [1, 16], sample_count = 400, sample_size = 100)]
fn no_subscribers_with_room(bencher: Bencher<'_, '_>, count: usize) {
    let topics = topics(1);
    let broker = Broker::memory_with(Retention::default().with_messages(10_000_000).with_bytes(8 << 30));
    let bencher = bencher.counter(ItemsCount::new(count)).with_inputs(|| messages(count));
    bencher.bench_local_refs(|messages| publish(&broker, &topics[0], messages));
}

/// The same with JSON, which is checked.
#[divan::bench(args = [1, 16], sample_count = 400, sample_size = 100)]
fn json(bencher: Bencher<'_, '_>, count: usize) {
    let topics = topics(1);
    let broker = full(&topics, Retention::default());
    let quote = |_| Message::json(&[("symbol", "AAPL"), ("price", "189.30"), ("venue", "XNAS")]).unwrap();
    let bencher = bencher.counter(ItemsCount::new(count));
    let bencher = bencher.with_inputs(|| (0..count).map(quote).collect::<Vec<_>>());
    bencher.bench_local_refs(|messages| publish(&broker, &topics[0], messages));
}

fn subscribe(broker: &Broker, topic: &str) -> Subscription {
    broker.consume(Subscribe::to(topic).unwrap()).now_or_never().unwrap().unwrap()
}

/// A thousand topics in turn, with one subscriber each that registered no waker (0) or did (1).
#[divan::bench(args = [0, 1], sample_count = 1000, sample_size = 100)]
fn thousand_topics(bencher: Bencher<'_, '_>, waits: usize) {
    let topics = topics(1000);
    let broker = full(&topics, Retention::default().with_messages(100));
    let mut subscriptions: Vec<_> = topics.iter().map(|topic| subscribe(&broker, topic.as_str())).collect();
    for subscription in subscriptions.iter_mut().take(1000 * waits) {
        while subscription.next().now_or_never().is_some() {}
    }
    let mut turn = topics.iter().cycle();
    let bencher = bencher.counter(ItemsCount::new(1usize));
    let bencher = bencher.with_inputs(|| (turn.next().unwrap(), messages(1)));
    bencher.bench_local_refs(|(topic, messages)| publish(&broker, topic, messages));
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
        tail.begin(Epoch::from_random(1), 1);
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

/// What an engine hands to the tail: the ring's append alone.
#[divan::bench(args = [1, 16, 100], sample_count = 1000, sample_size = 100)]
fn ring_append(bencher: Bencher<'_, '_>, count: usize) {
    let topic = &topics(1)[0];
    let engine = Captured::default();
    let _broker = Broker::open(engine.clone(), Retention::default()).now_or_never().unwrap().unwrap();
    let tail = engine.0.lock().unwrap().take().unwrap();
    let mut seqs = 1..;
    let mut entries = |count| -> Vec<Entry> {
        let messages = messages(count).into_iter().map(|message| message.check().unwrap());
        messages.zip(&mut seqs).map(|(message, seq)| Entry::new(seq, 0, topic.clone(), message)).collect()
    };
    tail.push(entries(20_000));
    let bencher = bencher.counter(ItemsCount::new(count)).with_inputs(|| entries(count));
    bencher.bench_local_values(|entries| tail.push(entries));
}
