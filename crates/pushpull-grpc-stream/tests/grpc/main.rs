//! Both halves over the broker, and each against stock clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod generated;
