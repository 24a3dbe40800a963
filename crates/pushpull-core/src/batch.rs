//! Several deliveries at once.

use crate::{Cursor, Delivery};

/// Deliveries taken at once, and the place behind them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Batch {
    /// The deliveries, in order. The answer to a fetch holds events and gaps only.
    pub deliveries: Vec<Delivery>,
    /// Where to go on from; `None` in the middle of a snapshot.
    pub place: Option<Cursor>,
    /// Whether more was waiting when a bound cut it.
    pub more: bool,
    /// Whether the place that was asked for is so far behind (a quarter of the retained range) that a
    /// poller should be given the new one even if there is nothing new.
    pub stale: bool,
    /// Whether the overflow policy `close` was met: the last delivery is the gap, and nothing follows.
    pub closed: bool,
    /// How many events the answer to a fetch left out by conflation. A subscription tells it by
    /// [`conflated`](crate::Subscription::conflated).
    pub conflated: u64,
}

/// How much to take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// Most events. 0 takes gaps and places only.
    pub events: usize,
    /// Most payload bytes; one event is taken even if it is larger.
    pub bytes: usize,
}

impl Bounds {
    /// Bounds of `events` events and `bytes` payload bytes.
    pub const fn new(events: usize, bytes: usize) -> Self {
        Self { events, bytes }
    }

    /// The same, but no more than `events` events.
    #[must_use]
    pub fn at_most(self, events: u64) -> Self {
        Self { events: self.events.min(usize::try_from(events).unwrap_or(usize::MAX)), ..self }
    }
}

impl Default for Bounds {
    /// 256 events, 256 KiB.
    fn default() -> Self {
        Self::new(256, 256 * 1024)
    }
}

impl Batch {
    /// Empties it, keeping its room.
    pub fn clear(&mut self) {
        self.deliveries.clear();
        self.place = None;
        self.more = false;
        self.stale = false;
        self.closed = false;
        self.conflated = 0;
    }

    /// How many of its deliveries are events.
    pub fn events(&self) -> usize {
        self.deliveries.iter().filter(|delivery| matches!(delivery, Delivery::Event(_))).count()
    }
}
