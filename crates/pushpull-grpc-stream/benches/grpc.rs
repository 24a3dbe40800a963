//! The body of a `Subscribe` call, without a server under it: events taken and written as messages.
//!
//! `first` makes each message; `kept` takes those that another call had made.
//! `cargo bench -p pushpull-grpc-stream --bench grpc`
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use divan::{Bencher, counter::ItemsCount};
use http_body_util::{BodyExt, Full};
use prost::Message as _;
use pushpull_broker::Broker;
use pushpull_core::{Message, ProducerExt, Start, Subscribe};
use pushpull_grpc_stream::GrpcService;
use pushpull_http::{Body, Gate, proto::ask_subscribe};
use tower_service::Service;

const EVENTS: usize = 256;

fn main() {
    divan::main();
}

#[divan::bench]
fn first(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let _entered = runtime.enter();
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(|| opened(&published())).bench_local_refs(read_all);
}

#[divan::bench]
fn kept(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let broker = published();
    read_all(&mut opened(&broker));
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(|| opened(&broker)).bench_local_refs(read_all);
}

fn opened(broker: &Broker) -> Body {
    let asked = ask_subscribe(&Subscribe::to("a").unwrap().from(Start::Earliest)).encode_to_vec();
    let mut message = vec![0];
    message.extend((asked.len() as u32).to_be_bytes());
    message.extend(asked);
    let request = http::Request::post("/pushpull.v1.Delivery/Subscribe")
        .header("content-type", "application/grpc")
        .body(Full::<bytes::Bytes>::from(message))
        .unwrap();
    let mut service = GrpcService::new(Arc::new(broker.clone()), Gate::open());
    ready(service.call(request)).unwrap().into_body()
}

/// Reads until all events have come.
fn read_all(body: &mut Body) -> usize {
    let mut bytes = 0;
    while bytes < EVENTS * 128 {
        bytes += ready(body.frame()).unwrap().unwrap().into_data().unwrap().len();
    }
    bytes
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
