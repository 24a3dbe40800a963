//! Sources that are passed on: any server half over any client half, and brokers in a tree.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod passing;
mod promises;
mod support;
mod tree;
