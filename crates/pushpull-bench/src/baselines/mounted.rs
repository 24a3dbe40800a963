//! pushpull in somebody else's server: mounted into axum, served by hyper, on tokio's scheduler.
//!
//! No peer, but what the standalone server is to be compared with: nothing of its listener is in it.

use std::io;

use axum::Router;
use clap::Args;
use pushpull::{Broker, Gate, Paths, Retention, Service};

/// The flags of the hub that figures need, with its names and defaults.
#[derive(Args, Debug)]
pub(crate) struct Limits {
    /// Most events of a topic.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    retain_messages: usize,
    /// Most bytes of events in all.
    #[arg(long, value_name = "N", default_value_t = 256 << 20)]
    retain_bytes: u64,
    /// Most bytes of one topic's events.
    #[arg(long, value_name = "N", default_value_t = 64 << 20)]
    retain_topic_bytes: u64,
    /// Most streams and waiting polls at once.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_connections: usize,
}

pub(crate) fn app(limits: &Limits) -> io::Result<Router> {
    let retention = Retention::default()
        .with_messages(limits.retain_messages)
        .with_bytes(limits.retain_bytes)
        .with_topic_bytes(limits.retain_topic_bytes);
    let gate = Gate::builder().with_max_connections(limits.max_connections).build();
    let gate = gate.map_err(io::Error::other)?;
    Ok(Router::new().fallback_service(Service::new(Broker::memory_with(retention), gate, Paths::default())))
}
