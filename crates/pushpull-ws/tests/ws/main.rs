//! Both halves over the broker and real sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod deflate;
mod frames;
mod handshake;
mod http2;
mod json;
mod lifecycle;
mod peer;
mod proto;
mod raw;
