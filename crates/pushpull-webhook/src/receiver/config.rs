//! What a receiver goes by.

use std::time::Duration;

/// What [`Receiver`](crate::Receiver) goes by.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    pub(super) tolerance: Duration,
    pub(super) replay_ids: usize,
    pub(super) deliveries: usize,
    pub(super) hold: Duration,
    pub(super) body: usize,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            tolerance: Duration::from_secs(300),
            replay_ids: 100_000,
            deliveries: 64,
            hold: Duration::from_secs(10),
            body: 8 * 1024 * 1024,
        }
    }
}

impl ReceiverConfig {
    /// How far a delivery's timestamp may lie from this clock, either way. Default: 5 minutes.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Most ids remembered of what was taken, each for twice the tolerance. Default: 100,000.
    #[must_use]
    pub fn with_replay_ids(mut self, ids: usize) -> Self {
        self.replay_ids = ids;
        self
    }

    /// Most deliveries at once (at least 1), those that wait for the consumer included; more are answered with 503.
    /// Default: 64.
    #[must_use]
    pub fn with_deliveries(mut self, deliveries: usize) -> Self {
        self.deliveries = deliveries;
        self
    }

    /// How long a delivery may take to come and to be taken before it is answered with 503: less than its sender
    /// waits. Default: 10 s.
    #[must_use]
    pub fn with_hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Most bytes of a delivery. Default: 8 MiB, a payload of 1 MiB escaped at worst.
    #[must_use]
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }
}
