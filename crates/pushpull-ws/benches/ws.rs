//! WebSockets over loopback, a server and its subscribers on one thread: the kernel's part is in it.
//!
//! With one subscriber each frame is made; with 64 it is made once and kept for the other 63.
//! `cargo bench -p pushpull-ws --bench ws`
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod support;

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use support::{Rig, Wire};

const AT_ONCE: usize = 16;
const SUBSCRIBERS: [usize; 2] = [1, 64];
/// Frames of a client in one turn: less than what it takes before others have theirs.
const SAID: usize = 500;
/// Opcodes with the final bit (RFC 6455, 5.2).
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn main() {
    divan::main();
}

#[divan::bench(args = SUBSCRIBERS)]
fn raw(bencher: Bencher<'_, '_>, subscribers: usize) {
    deliver(bencher, Wire::Raw, subscribers);
}

#[divan::bench(args = SUBSCRIBERS)]
fn json(bencher: Bencher<'_, '_>, subscribers: usize) {
    deliver(bencher, Wire::Json, subscribers);
}

#[divan::bench(args = SUBSCRIBERS)]
fn proto(bencher: Bencher<'_, '_>, subscribers: usize) {
    deliver(bencher, Wire::Proto, subscribers);
}

#[divan::bench(args = SUBSCRIBERS)]
fn deflated(bencher: Bencher<'_, '_>, subscribers: usize) {
    deliver(bencher, Wire::Deflated, subscribers);
}

/// Masked frames read and unmasked: pongs nobody asked for, which are read and forgotten, and a ping that is answered.
#[divan::bench(args = [8, 125])]
fn decoded(bencher: Bencher<'_, '_>, size: usize) {
    let mut rig = Rig::new(Wire::Raw, 1, "");
    let mut said = masked(PONG, size).repeat(SAID - 1);
    said.extend(masked(PING, size));
    bencher.counter(ItemsCount::new(SAID)).counter(BytesCount::new(said.len())).bench_local(|| {
        rig.send(&said);
        rig.take(1);
    });
}

/// 16 messages of 1 KiB of JSON, each to all.
fn deliver(bencher: Bencher<'_, '_>, wire: Wire, subscribers: usize) {
    let quote = r#"{"symbol":"AAPL","price":189.3,"size":100},"#;
    let payload = format!("[{}null]", quote.repeat(1024 / quote.len()));
    let mut rig = Rig::new(wire, subscribers, payload);
    bencher.counter(ItemsCount::new(subscribers * AT_ONCE)).bench_local(|| {
        rig.publish(AT_ONCE);
        rig.take(AT_ONCE);
    });
}

fn masked(opcode: u8, size: usize) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let mut frame = vec![opcode, 0x80 | size as u8];
    frame.extend(key);
    frame.extend((0..size).map(|at| b'x' ^ key[at % 4]));
    frame
}
