//! The count of connections, and each one's place in it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{Drain, Metrics, Transport};

/// How many connections there are, and may be.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// A connection's place in the count and in the gauge of its transport. Dropping it gives both back, and lets
/// a drain know.
pub struct ConnectionGuard {
    slots: Slots,
    metrics: Metrics,
    transport: Transport,
    is_counted: bool,
    _live: TaskTrackerToken,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken.load(Relaxed) >= self.limit
    }

    pub(super) fn reserve(
        &self,
        transport: Transport,
        metrics: &Metrics,
        drain: &Drain,
    ) -> Option<ConnectionGuard> {
        let raise = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, raise).ok()?;
        let (slots, metrics) = (self.clone(), metrics.clone());
        Some(ConnectionGuard { slots, metrics, transport, is_counted: false, _live: drain.live() })
    }
}

impl ConnectionGuard {
    /// The transport it is counted under.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Shows it in the gauge: before, it only holds its place while the request is looked at.
    pub(super) fn count(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.metrics.connected(self.transport, 1);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.slots.taken.fetch_sub(1, Relaxed);
        if self.is_counted {
            self.metrics.connected(self.transport, -1);
        }
    }
}

impl fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionGuard").field("transport", &self.transport).finish_non_exhaustive()
    }
}
