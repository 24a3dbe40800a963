//! The counters of the wire contract, section 7.

mod process;
mod text;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use pushpull_core::{GapReason, Problem};

use crate::Transport;

pub use text::Exposition;

/// Upper bounds of the buckets of `pushpull_publish_seconds`, in seconds.
const BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// What the server counts. Cheap to clone (shared); every method is a few atomic additions.
///
/// No topic, client or cursor ever becomes a label.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    connections: [AtomicI64; Transport::ALL.len()],
    delivered: [AtomicU64; Transport::ALL.len()],
    gaps: [AtomicU64; GapReason::ALL.len()],
    rejected: [AtomicU64; Rejection::ALL.len()],
    published: AtomicU64,
    conflated: AtomicU64,
    publish_seconds: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    /// Of each bucket alone, not cumulative; the last is `+Inf`.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanos: AtomicU64,
}

/// Why a request was refused: the label `reason` of `pushpull_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// The connection limit.
    Full,
    /// The server is draining.
    Draining,
    /// A foreign browser origin.
    Origin,
    /// A request at fault.
    BadRequest,
    /// Who asks is not known.
    Unauthenticated,
    /// Who asks may not.
    Forbidden,
    /// A body over its limit.
    TooLarge,
    /// A producer over its rate, or a full idempotency window.
    RateLimit,
    /// A client that took too long.
    Timeout,
    /// The engine is down.
    Unavailable,
    /// All else.
    Other,
}

/// What only the source of the events knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// Events retained.
    pub retained_events: u64,
    /// Bytes they take, their kept encodings included.
    pub retained_bytes: u64,
    /// Topics known.
    pub topics: u64,
    /// Whether the engine is up.
    pub engine_up: bool,
    /// The engine's name: `memory`, `disk`, ...
    pub engine: &'static str,
    /// Messages published so far, by whatever way; `None`: what this server published is counted instead.
    pub published: Option<u64>,
}

/// A source that can be looked at.
#[async_trait]
pub trait Observed: Send + Sync + 'static {
    /// Its gauges. Must not wait.
    fn observe(&self) -> Observation;

    /// Proves that it works by a probe through the path that delivers.
    ///
    /// # Errors
    /// Why it does not.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn probe(&self) -> Result<(), Problem>;
}

impl Observation {
    /// All its gauges, of an engine without a name.
    pub fn new(retained_events: u64, retained_bytes: u64, topics: u64, engine_up: bool) -> Self {
        Self { retained_events, retained_bytes, topics, engine_up, engine: "", published: None }
    }

    /// The same, of a source that counts what is published.
    #[must_use]
    pub fn having_published(mut self, messages: u64) -> Self {
        self.published = Some(messages);
        self
    }

    /// The same, of the engine of that name.
    #[must_use]
    pub fn of_engine(mut self, name: &'static str) -> Self {
        self.engine = name;
        self
    }
}

impl Metrics {
    /// Counts `messages` published within `took`, from the whole request to the engine's acknowledgement.
    pub fn published(&self, messages: u64, took: Duration) {
        self.0.published.fetch_add(messages, Relaxed);
        self.0.publish_seconds.record(took);
    }

    /// Counts `events` written to consumers.
    pub fn delivered(&self, transport: Transport, events: u64) {
        self.0.delivered[transport as usize].fetch_add(events, Relaxed);
    }

    /// Counts a gap told.
    pub fn gap(&self, reason: GapReason) {
        if let Some(at) = GapReason::ALL.iter().position(|known| *known == reason) {
            self.0.gaps[at].fetch_add(1, Relaxed);
        }
    }

    /// Counts a request refused.
    pub fn rejected(&self, reason: Rejection) {
        self.0.rejected[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts `events` left out by conflation.
    pub fn conflated(&self, events: u64) {
        self.0.conflated.fetch_add(events, Relaxed);
    }

    /// Connections of that transport now.
    pub fn connections(&self, transport: Transport) -> u64 {
        self.0.connections[transport as usize].load(Relaxed).try_into().unwrap_or(0)
    }

    pub(crate) fn connected(&self, transport: Transport, change: i64) {
        self.0.connections[transport as usize].fetch_add(change, Relaxed);
    }
}

impl Histogram {
    fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[at].fetch_add(1, Relaxed);
        self.nanos.fetch_add(took.as_nanos().try_into().unwrap_or(u64::MAX), Relaxed);
    }
}

impl Rejection {
    /// Every reason there is.
    pub const ALL: [Self; 11] = [
        Self::Full,
        Self::Draining,
        Self::Origin,
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::TooLarge,
        Self::RateLimit,
        Self::Timeout,
        Self::Unavailable,
        Self::Other,
    ];

    /// The word in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Origin => "origin",
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::RateLimit => "rate_limit",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Other => "other",
        }
    }
}

impl From<&Problem> for Rejection {
    fn from(problem: &Problem) -> Self {
        use pushpull_core::ErrorKind as Kind;
        match problem.kind() {
            Kind::Invalid | Kind::Protocol | Kind::UnsupportedType | Kind::Conflict => Self::BadRequest,
            Kind::Unauthenticated => Self::Unauthenticated,
            Kind::Forbidden => Self::Forbidden,
            Kind::TooLarge => Self::TooLarge,
            Kind::Busy => Self::RateLimit,
            Kind::Timeout => Self::Timeout,
            Kind::Unavailable => Self::Unavailable,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
