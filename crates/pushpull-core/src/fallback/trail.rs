//! What the walks found, shared with the subscription they are for.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use crate::Problem;

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
    /// The ways that the last walk passed over, and why.
    passed: Mutex<Vec<(usize, Problem)>>,
}

impl Trail {
    pub(super) fn new(ways: usize) -> Self {
        let refusals = (0..ways).map(|_| AtomicU32::new(0)).collect();
        Self { at: AtomicUsize::new(0), refusals, passed: Mutex::default() }
    }

    pub(super) fn at(&self) -> usize {
        self.at.load(Ordering::Relaxed)
    }

    /// A walk begins: what was passed over before is told, or never will be.
    pub(super) fn begin(&self) {
        self.passed().clear();
    }

    pub(super) fn pass(&self, way: usize, cause: Problem) {
        self.passed().push((way, cause));
    }

    pub(super) fn take_passed(&self) -> Vec<(usize, Problem)> {
        std::mem::take(&mut self.passed())
    }

    fn passed(&self) -> MutexGuard<'_, Vec<(usize, Problem)>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
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
