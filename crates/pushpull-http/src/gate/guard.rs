//! The count of connections, and each one's place in it.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Gate;
use crate::Transport;

/// How many connections there are, and may be.
#[derive(Debug)]
pub(super) struct Slots {
    taken: AtomicUsize,
    limit: usize,
}

/// A connection's place in the count and in the gauge of its transport. Dropping it gives both back, and lets
/// a drain know.
pub struct ConnectionGuard {
    gate: Gate,
    transport: Transport,
    is_counted: bool,
    _live: TaskTrackerToken,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken.load(Relaxed) >= self.limit
    }
}

impl Gate {
    pub(super) fn reserve_slot(&self, transport: Transport) -> Option<ConnectionGuard> {
        let slots = &self.0.slots;
        let raise = |taken| (taken < slots.limit).then_some(taken + 1);
        slots.taken.fetch_update(Relaxed, Relaxed, raise).ok()?;
        let live = self.0.drain.live();
        Some(ConnectionGuard { gate: self.clone(), transport, is_counted: false, _live: live })
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
            self.gate.0.metrics.connected(self.transport, 1);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.gate.0.slots.taken.fetch_sub(1, Relaxed);
        if self.is_counted {
            self.gate.0.metrics.connected(self.transport, -1);
        }
    }
}

impl fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionGuard").field("transport", &self.transport).finish_non_exhaustive()
    }
}
