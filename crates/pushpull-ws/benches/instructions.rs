//! The hot functions whose instructions `cargo xtask instructions` counts: `instructions FUNCTION OPERATIONS`.
//!
//! It runs the function so many times and times nothing; the counts of two runs tell what one operation takes.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod support;

use std::{
    env,
    process::ExitCode,
    task::{Context, Poll},
};

use pushpull_broker::Broker;
use pushpull_core::{
    Batch, Bounds, Message, ProducerExt, PushExt, Start, Subscribe, Subscription, silent_waker,
};
use support::{Rig, TOPIC, Wire, ready};

const PAYLOAD: [u8; 128] = [b'7'; 128];
const SUBSCRIBERS: usize = 64;
const AT_ONCE: usize = 16;

/// A name, and what runs so many operations.
type Function = (&'static str, fn(usize));

const FUNCTIONS: [Function; 5] = [
    ("append", append),
    ("read", read),
    ("ws-encode", ws_encode),
    ("ws-deliver", ws_deliver),
    ("ws-deliver-batched", ws_deliver_batched),
];

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let function = arguments.next().unwrap_or_default();
    let known = FUNCTIONS.iter().find(|(name, _)| *name == function);
    let operations = arguments.next().and_then(|text| text.parse().ok());
    match (known, operations) {
        (Some((_, run)), Some(operations)) => run(operations),
        // As `cargo bench` starts it.
        _ if function == "--bench" => eprintln!("instructions are counted by `cargo xtask instructions`"),
        _ => {
            eprintln!("usage: instructions {} OPERATIONS", FUNCTIONS.map(|(name, _)| name).join("|"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One message published to the memory engine, whose topic is full: the oldest goes.
fn append(operations: usize) {
    let broker = full();
    publish(&broker, operations);
}

/// 64 retained events taken by a subscriber; a new one begins when one has come to the end.
fn read(operations: usize) {
    let broker = full();
    let mut batch = Batch::default();
    let mut reader = earliest(&broker);
    for _ in 0..operations {
        batch.clear();
        match take(&mut reader, &mut batch) {
            0 => panic!("there is nothing to take"),
            64 => {}
            _ => reader = earliest(&broker),
        }
    }
}

/// One message published, and told to one subscriber as a WebSocket's frame of JSON; 16 at once.
fn ws_encode(operations: usize) {
    deliver(1, AT_ONCE, operations);
}

/// One delivery of a frame of JSON, to one of 64 subscribers that wait for each message.
fn ws_deliver(operations: usize) {
    deliver(SUBSCRIBERS, 1, operations);
}

/// One delivery of a frame of JSON, to one of 64 subscribers that take 16 at once.
fn ws_deliver_batched(operations: usize) {
    deliver(SUBSCRIBERS, AT_ONCE, operations);
}

fn deliver(subscribers: usize, at_once: usize, deliveries: usize) {
    let mut rig = Rig::new(Wire::Json, subscribers, &PAYLOAD[..]);
    for _ in 0..deliveries / (subscribers * at_once) {
        rig.publish(at_once);
        rig.take(at_once);
    }
}

/// A broker whose topic has as many events as it keeps.
fn full() -> Broker {
    let broker = Broker::memory();
    publish(&broker, 10_000);
    broker
}

fn publish(broker: &Broker, count: usize) {
    let topic = TOPIC.parse().unwrap();
    for _ in 0..count {
        ready(broker.publish_one(&topic, Message::new(&PAYLOAD[..]))).unwrap();
    }
}

fn earliest(broker: &Broker) -> Subscription {
    let mut reader = ready(broker.consume(Subscribe::to(TOPIC).unwrap().from(Start::Earliest))).unwrap();
    // Its first word.
    take(&mut reader, &mut Batch::default());
    reader
}

fn take(reader: &mut Subscription, batch: &mut Batch) -> usize {
    let mut cx = Context::from_waker(silent_waker());
    match reader.poll_batch(&mut cx, Bounds::new(64, 64 * 1024), batch) {
        Poll::Ready(taken) => taken.unwrap().unwrap(),
        Poll::Pending => {}
    }
    batch.events()
}
