//! When a polling consumer asks.

use std::time::Duration;

use crate::{Backoff, Fetch};

/// No pause is longer: what a clock can still add.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a polling consumer asks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Schedule {
    /// The time between two questions when nothing waits. Default: 1 s.
    pub interval: Duration,
    /// The part of the interval by which each wait is randomly shortened or lengthened, 0..=1. Default: 0.1.
    pub jitter: f64,
    /// How long the source may wait for a first event (long polling). Default: not at all.
    pub wait: Duration,
    /// How long a question may take beyond `wait`. Default: 10 s.
    pub deadline: Duration,
    /// Most events an answer. Default: 1000.
    pub limit: usize,
    /// The delays after a failure.
    pub backoff: Backoff,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            jitter: 0.1,
            wait: Duration::ZERO,
            deadline: Duration::from_secs(10),
            limit: Fetch::MAX_LIMIT,
            backoff: Backoff::default(),
        }
    }
}

impl Schedule {
    /// Asks every `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { interval, ..Self::default() }
    }

    /// Lets the source wait up to `wait` (at most 60 s) for a first event, and asks again at once.
    pub fn long_poll(wait: Duration) -> Self {
        Self { interval: Duration::ZERO, jitter: 0.0, wait: wait.min(Fetch::MAX_WAIT), ..Self::default() }
    }

    /// How long a question that does not wait may take.
    pub(crate) fn answer_time(&self) -> Duration {
        self.deadline.min(LONGEST_PAUSE)
    }

    pub(crate) fn pause(&self) -> Duration {
        let jitter = if self.jitter.is_nan() { 0.0 } else { self.jitter.clamp(0.0, 1.0) };
        self.interval.min(LONGEST_PAUSE).mul_f64(1.0 + jitter * (fastrand::f64() * 2.0 - 1.0))
    }
}
