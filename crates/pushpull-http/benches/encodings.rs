//! Queries, and events as JSON and protobuf: made once (`first`), or taken from the event that keeps them (`kept`).
//!
//! `cargo bench -p pushpull-http --features proto --bench encodings`
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use divan::{Bencher, black_box, counter::BytesCount};
use prost::Message as _;
use pushpull_core::{Cursor, EncodingAccount, Epoch, Event, EventParts, Message, Prev};
use pushpull_http::{
    Endpoint, Query,
    json::{event_json, parse_item},
    proto::{event_frame, frame_in, v1::ServerFrame},
};

/// Bytes of a payload.
const SIZES: [usize; 3] = [128, 1024, 16 * 1024];

fn main() {
    divan::main();
}

#[divan::bench(args = [
    "topic=quotes.AAPL",
    "topic=quotes.*&topic=news.%3E&after=6qz3k1-1042&overflow=latest&conflate=key&rate=2.5",
])]
fn query(raw: &str) -> Query {
    Query::parse(Some(black_box(raw)), Endpoint::Sse).unwrap()
}

#[divan::bench(args = SIZES)]
fn text_as_json_first(bencher: Bencher<'_, '_>, size: usize) {
    first(bencher, || Message::text("say \"so\"\n".repeat(size / 9)));
}

#[divan::bench(args = SIZES)]
fn json_as_json_first(bencher: Bencher<'_, '_>, size: usize) {
    first(bencher, || json(size));
}

#[divan::bench(args = SIZES)]
fn binary_as_json_first(bencher: Bencher<'_, '_>, size: usize) {
    first(bencher, || Message::new(vec![0xa5; size]));
}

#[divan::bench]
fn json_kept(bencher: Bencher<'_, '_>) {
    let event = event(json(1024));
    bencher.bench(|| event_json(black_box(&event)));
}

#[divan::bench(args = SIZES)]
fn json_read(bencher: Bencher<'_, '_>, size: usize) {
    let text = event_json(&event(json(size)));
    bencher.counter(BytesCount::new(text.len())).bench(|| parse_item(black_box(&text)).unwrap());
}

#[divan::bench(args = SIZES)]
fn protobuf_written(bencher: Bencher<'_, '_>, size: usize) {
    let event = event(json(size));
    bencher.counter(BytesCount::new(size)).bench(|| event_frame(black_box(&event)).encode_to_vec());
}

#[divan::bench(args = SIZES)]
fn protobuf_read(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = bytes::Bytes::from(event_frame(&event(json(size))).encode_to_vec());
    bencher
        .counter(BytesCount::new(size))
        .bench(|| frame_in(ServerFrame::decode(black_box(bytes.clone())).unwrap()).unwrap());
}

/// An event whose encodings were not made yet, each time.
fn first(bencher: Bencher<'_, '_>, message: impl Fn() -> Message + Sync) {
    bencher
        .with_inputs(|| event(message()))
        .input_counter(|event| BytesCount::new(event.payload().len()))
        .bench_local_refs(|event| event_json(event));
}

fn json(size: usize) -> Message {
    Message::json(&vec![1234.5; size / 7]).unwrap()
}

fn event(message: Message) -> Event {
    let at = |seq| Cursor::new(Epoch::from_random(7), seq);
    let parts = EventParts {
        topic: "quotes.AAPL".parse().unwrap(),
        cursor: at(1_234_567),
        prev: Prev::At(at(1_234_560)),
        time_ms: 1_760_000_000_000,
        message,
    };
    Event::keeping_encodings(parts, EncodingAccount::default())
}
