//! A stream's body, without a server under it: events taken and written as blocks, 256 at once.
//!
//! `first` makes each block; `kept` takes those that another stream had made. `cargo bench -p pushpull-sse --bench sse`
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use http_body_util::BodyExt;
use pushpull_broker::Broker;
use pushpull_core::{Message, ProducerExt};
use pushpull_http::{Body, Gate};
use pushpull_sse::SseService;
use tower_service::Service;

const EVENTS: usize = 256;

fn main() {
    divan::main();
}

#[divan::bench(args = ["raw", "json"])]
fn first(bencher: Bencher<'_, '_>, format: &str) {
    let runtime = runtime();
    let _entered = runtime.enter();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| opened(&published(), format))
        .bench_local_refs(next_block);
}

#[divan::bench(args = ["raw", "json"])]
fn kept(bencher: Bencher<'_, '_>, format: &str) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let broker = published();
    next_block(&mut opened(&broker, format));
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| opened(&broker, format))
        .bench_local_refs(next_block);
}

/// A body whose first block is read.
fn opened(broker: &Broker, format: &str) -> Body {
    let place = pushpull_core::Cursor::new(broker.place().epoch(), 0);
    let uri = format!("/sse?topic=a&format={format}&after={place}");
    let request = http::Request::builder().uri(uri).body(()).unwrap();
    let mut service = SseService::new(Arc::new(broker.clone()), Gate::open());
    ready(service.call(request)).unwrap().into_body()
}

fn next_block(body: &mut Body) -> Bytes {
    let block = ready(body.frame()).unwrap().unwrap().into_data().unwrap();
    assert!(block.len() > EVENTS * 128);
    block
}

fn published() -> Broker {
    let broker = Broker::memory();
    let topic = "a".parse().unwrap();
    for _ in 0..EVENTS {
        ready(broker.publish_one(&topic, Message::text("7".repeat(128)))).unwrap();
    }
    broker
}

/// Whose clock the bodies go by.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}
