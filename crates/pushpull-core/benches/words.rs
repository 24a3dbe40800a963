//! Cursors, topics and patterns: read and written once a request, cursors once an event.
//!
//! `cargo bench -p pushpull-core --bench words`
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use divan::{Bencher, black_box};
use pushpull_core::{Cursor, Epoch, Pattern, Topic};

fn main() {
    divan::main();
}

fn cursor() -> Cursor {
    Cursor::new(Epoch::from_random(0x0123_4567_89ab_cdef), 1_234_567_890)
}

#[divan::bench]
fn cursor_written() -> String {
    black_box(cursor()).to_string()
}

#[divan::bench]
fn cursor_read(bencher: Bencher<'_, '_>) {
    let text = cursor().to_string();
    bencher.bench(|| black_box(&text[..]).parse::<Cursor>().unwrap());
}

#[divan::bench]
fn topic_read() -> Topic {
    black_box("quotes.nasdaq.AAPL").parse().unwrap()
}

#[divan::bench]
fn pattern_read() -> Pattern {
    black_box("quotes.*.AAPL").parse().unwrap()
}

#[divan::bench]
fn pattern_matched(bencher: Bencher<'_, '_>) {
    let (pattern, topic): (Pattern, Topic) =
        ("quotes.*.AAPL".parse().unwrap(), "quotes.nasdaq.AAPL".parse().unwrap());
    bencher.bench(|| black_box(&pattern).matches(black_box(&topic)));
}
