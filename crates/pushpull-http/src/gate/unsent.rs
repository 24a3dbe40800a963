//! What peers do not take: bytes that connections hold for them, all within one budget.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

/// Who made progress within this time is given up for nobody: many that wait for a moment, for one large event that they
/// share, are no danger.
const GRACE: Duration = Duration::from_secs(2);

/// The budget of all connections of a gate.
#[derive(Clone)]
pub(super) struct Unsent(Arc<Mutex<Held>>);

struct Held {
    limit: usize,
    bytes: usize,
    /// By when each last made progress: of two the one with the lower number longer ago.
    stalled: BTreeMap<u64, Stalled>,
    next: u64,
}

struct Stalled {
    bytes: usize,
    since: Instant,
    verdict: Arc<Verdict>,
}

struct Verdict {
    is_over: AtomicBool,
    waker: Waker,
}

/// A connection's part of the budget: bytes that wait for a peer who does not take them. Given back when dropped.
pub struct Holding {
    unsent: Unsent,
    at: u64,
    verdict: Arc<Verdict>,
}

impl Unsent {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Held { limit, bytes: 0, stalled: BTreeMap::new(), next: 0 })))
    }

    pub(super) fn hold(&self, bytes: usize, waker: &Waker) -> Holding {
        let verdict = Arc::new(Verdict { is_over: AtomicBool::new(false), waker: waker.clone() });
        let at = self.put(bytes, &verdict);
        Holding { unsent: self.clone(), at, verdict }
    }

    /// Puts it behind all others, and gives those up that made no progress for longest while there is too much.
    fn put(&self, bytes: usize, verdict: &Arc<Verdict>) -> u64 {
        let mut held = self.lock();
        let at = held.next;
        held.next += 1;
        held.bytes += bytes;
        let since = Instant::now();
        held.stalled.insert(at, Stalled { bytes, since, verdict: verdict.clone() });
        let mut given_up = Vec::new();
        while held.bytes > held.limit
            && let Some(oldest) = held.stalled.first_entry()
            && oldest.get().since + GRACE <= since
        {
            let Stalled { bytes, verdict, .. } = oldest.remove();
            held.bytes -= bytes;
            given_up.push(verdict);
        }
        drop(held);
        for verdict in given_up {
            verdict.is_over.store(true, Ordering::Release);
            verdict.waker.wake_by_ref();
        }
        at
    }

    fn take(&self, at: u64) {
        let mut held = self.lock();
        if let Some(stalled) = held.stalled.remove(&at) {
            held.bytes -= stalled.bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holding {
    /// Notes that the peer took some, and that `bytes` are left.
    pub fn progress(&mut self, bytes: usize) {
        self.unsent.take(self.at);
        if !self.is_over() {
            self.at = self.unsent.put(bytes, &self.verdict);
        }
    }

    /// Whether the connection is to be closed at once, since all hold too much and it made no progress for longest. Its
    /// task was woken then.
    pub fn is_over(&self) -> bool {
        self.verdict.is_over.load(Ordering::Acquire)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.unsent.take(self.at);
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    #[tokio::test(start_paused = true)]
    async fn who_made_no_progress_for_longest_is_given_up_first() {
        let (unsent, wakes) = (Unsent::new(100), Arc::new(Wakes::default()));
        let waker = Waker::from(wakes.clone());
        let mut first = unsent.hold(40, &waker);
        let second = unsent.hold(40, &waker);
        tokio::time::advance(GRACE).await;
        first.progress(30);
        let third = unsent.hold(20, &waker);
        assert_eq!(wakes.count(), 0, "90 of 100");
        let fourth = unsent.hold(30, &waker);
        assert_eq!(wakes.count(), 1);
        let over = |all: &[&Holding]| all.iter().map(|holding| holding.is_over()).collect::<Vec<_>>();
        assert_eq!(over(&[&first, &second, &third, &fourth]), [false, true, false, false]);
        assert_eq!(unsent.lock().bytes, 80);
        drop((first, second, third, fourth));
        // Two locks in one statement would wait for each other.
        assert_eq!(unsent.lock().bytes, 0);
        assert_eq!(unsent.lock().stalled.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_given_up_for_a_moment() {
        let unsent = Unsent::new(100);
        let mut first = unsent.hold(90, Waker::noop());
        let second = unsent.hold(90, Waker::noop());
        assert!(!first.is_over());
        tokio::time::advance(GRACE).await;
        let third = unsent.hold(1, Waker::noop());
        assert!(first.is_over() && !second.is_over() && !third.is_over());
        first.progress(10);
        assert!(first.is_over(), "for good");
        assert_eq!(unsent.lock().bytes, 91);
    }
}
