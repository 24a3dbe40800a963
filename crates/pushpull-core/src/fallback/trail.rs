//! What the walks found, shared with the subscription they are for.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Announced refusals in a row after which a way that never opened is passed over.
const CHANCES: u32 = 3;

/// The count of a way that has been open.
const OPENED: u32 = u32::MAX;

/// The way that is taken, and how the ways answered. One walk at a time writes to it.
#[derive(Debug)]
pub(super) struct Trail {
    at: AtomicUsize,
    /// For each way the refusals in a row, or [`OPENED`].
    refusals: Box<[AtomicU32]>,
}

impl Trail {
    pub(super) fn new(ways: usize) -> Self {
        Self { at: AtomicUsize::new(0), refusals: (0..ways).map(|_| AtomicU32::new(0)).collect() }
    }

    pub(super) fn at(&self) -> usize {
        self.at.load(Ordering::Relaxed)
    }

    /// Stands at `way`, whether it is open or not.
    pub(super) fn stand(&self, way: usize) {
        self.at.store(way, Ordering::Relaxed);
    }

    /// `way` is open, and taken.
    pub(super) fn open(&self, way: usize) {
        self.refusals[way].store(OPENED, Ordering::Relaxed);
        self.stand(way);
    }

    /// The source asks at `way` to come back later. Whether that is to be done: one that was open once is the
    /// right one, and one that never was may always say so.
    pub(super) fn refuse(&self, way: usize) -> bool {
        let count = &self.refusals[way];
        match count.load(Ordering::Relaxed) {
            OPENED => true,
            before if before + 1 < CHANCES => {
                count.store(before + 1, Ordering::Relaxed);
                true
            }
            _ => {
                count.store(0, Ordering::Relaxed);
                false
            }
        }
    }
}
