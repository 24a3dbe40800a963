//! No allocation a subscriber a message: what a server allocates for a message is the same, however many take it.
//!
//! This binary counts every allocation of its process. The subscribers are plain sockets of the test's own thread,
//! which read into buffers that are there before anything is counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod subscribers;

use std::{
    alloc::System,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    thread,
};

use pushpull::{Broker, Message, ProducerExt, Server, Topic};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::{runtime, sync::oneshot};

use subscribers::{Subscribers, Wire};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The tests of this binary count in turns.
static TURN: Mutex<()> = Mutex::new(());

const FEW: usize = 200;
const MANY: usize = 400;
/// Rounds before the counted ones: what is made once is made then.
const WARM_UP: usize = 32;
const ROUNDS: usize = 64;
/// Most allocations a further subscriber a message. One each would be 1; a buffer that grows now and then is none.
const BOUND: f64 = 0.05;

#[test]
fn a_raw_websocket_takes_a_message_without_an_allocation() {
    holds(Wire::Raw);
}

#[test]
fn a_websocket_takes_a_frame_of_json_without_an_allocation() {
    holds(Wire::Json);
}

#[test]
fn a_websocket_takes_a_frame_of_protobuf_without_an_allocation() {
    holds(Wire::Proto);
}

#[test]
fn an_event_stream_takes_a_message_without_an_allocation() {
    holds(Wire::Sse);
}

/// One message at a time, as at low rates, and several at once, as under load.
fn holds(wire: Wire) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for at_once in [1, 8] {
        let (few, many) = (allocations(wire, FEW, at_once), allocations(wire, MANY, at_once));
        let messages = ROUNDS * at_once;
        assert!(few >= messages, "{few} allocations for {messages} messages: they are not counted");
        let further = many as f64 - few as f64;
        let each = further / (messages * (MANY - FEW)) as f64;
        eprintln!(
            "{wire:?}, {at_once} at once: {few} by {FEW}, {many} by {MANY} subscribers, {each:.4} each"
        );
        assert!(
            each < BOUND,
            "{wire:?}, {at_once} at once: {each:.3} allocations a further subscriber a message \
             ({few} by {FEW} subscribers, {many} by {MANY}, {messages} messages)"
        );
    }
}

/// How many allocations the counted rounds took, of `at_once` messages each, to so many subscribers.
fn allocations(wire: Wire, subscribers: usize, at_once: usize) -> usize {
    let broker = Broker::memory();
    let served = Served::start(&broker);
    let mut subscribers = Subscribers::connect(served.address, wire, subscribers);
    let mut publisher = Publisher::new(broker);
    for _ in 0..WARM_UP {
        subscribers.wait_for(&publisher.publish(at_once));
    }
    let region = Region::new(COUNTED);
    for _ in 0..ROUNDS {
        subscribers.wait_for(&publisher.publish(at_once));
    }
    let counted = region.change();
    drop(subscribers);
    served.stop();
    counted.allocations + counted.reallocations
}

/// Publishes numbered messages.
struct Publisher {
    broker: Broker,
    topic: Topic,
    runtime: runtime::Runtime,
    number: usize,
}

impl Publisher {
    fn new(broker: Broker) -> Self {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        Self { broker, topic: subscribers::TOPIC.parse().unwrap(), runtime, number: 0 }
    }

    /// Publishes so many messages, and returns what the last one has in it and no other.
    fn publish(&mut self, count: usize) -> String {
        let mut mark = String::new();
        for _ in 0..count {
            self.number += 1;
            mark = format!("number {:08} of", self.number);
            let message = Message::text(format!("{mark} many that are all of the same length"));
            self.runtime.block_on(self.broker.publish_one(&self.topic, message)).unwrap();
        }
        mark
    }
}

/// A server on a thread of its own.
struct Served {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Served {
    fn start(broker: &Broker) -> Self {
        let (shutdown, stopped) = oneshot::channel::<()>();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bound = runtime.block_on(Server::new(broker.clone()).bind("127.0.0.1:0")).unwrap();
        let address = bound.local_addr();
        let serve = async move {
            bound.serve_until(async { stopped.await.unwrap_or_default() }).await;
        };
        Self { address, shutdown, thread: thread::spawn(move || runtime.block_on(serve)) }
    }

    fn stop(self) {
        self.shutdown.send(()).unwrap();
        self.thread.join().unwrap();
    }
}
