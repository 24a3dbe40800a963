//! Both halves over the broker, and each against stock clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod client;
mod generated;
mod health;
mod mount;
mod python;
mod small;
mod soak;
mod status;
mod stream;
mod support;
#[cfg(feature = "tls")]
mod tls;
