//! The end of service: told to every connection, waited for, and enforced.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Tells every connection of a [`Gate`](crate::Gate) to come to its end. Cheap to clone (shared).
///
/// Draining begins once and is never taken back.
#[derive(Clone)]
pub struct Drain(Arc<Shared>);

struct Shared {
    /// The same as `begun`, without a lock: every request asks.
    is_draining: AtomicBool,
    begun: CancellationToken,
    aborted: CancellationToken,
    live: TaskTracker,
    spread: Duration,
}

impl Drain {
    /// One whose clients are told to come back within `spread`.
    pub(crate) fn new(spread: Duration) -> Self {
        let live = TaskTracker::new();
        live.close();
        let (begun, aborted) = (CancellationToken::new(), CancellationToken::new());
        Self(Arc::new(Shared { is_draining: AtomicBool::new(false), begun, aborted, live, spread }))
    }

    /// Begins: new requests are refused, connections tell their clients where to resume, and end.
    pub fn begin(&self) {
        self.0.is_draining.store(true, Ordering::Release);
        self.0.begun.cancel();
    }

    /// Whether it has begun.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Acquire)
    }

    /// Returns once it has begun.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.0.begun.cancelled().await;
    }

    /// Begins, and tells connections that have not ended to drop what they hold: the deadline has passed.
    pub fn abort(&self) {
        self.begin();
        self.0.aborted.cancel();
    }

    /// Whether [`Drain::abort`] was called.
    pub fn is_aborted(&self) -> bool {
        self.is_draining() && self.0.aborted.is_cancelled()
    }

    /// Returns once [`Drain::abort`] was called.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn aborted(&self) {
        self.0.aborted.cancelled().await;
    }

    /// Returns once no connection is left.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn idle(&self) {
        self.0.live.wait().await;
    }

    /// Begins, waits until no connection is left or `deadline` has passed, and then aborts what is left.
    /// `true` if all ended by themselves.
    ///
    /// # Cancel safety
    /// Dropping the future leaves draining begun.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.begin();
        let ended = tokio::time::timeout(deadline, self.idle()).await.is_ok();
        if !ended {
            self.abort();
        }
        ended
    }

    /// How long one client should stay away: random for each, so that a fleet does not come back in step.
    pub fn retry_hint(&self) -> Duration {
        let floor = self.0.spread / 10;
        floor + (self.0.spread - floor).mul_f64(fastrand::f64())
    }

    pub(crate) fn live(&self) -> TaskTrackerToken {
        self.0.live.token()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("draining", &self.is_draining())
            .field("live", &self.0.live.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_spread_over_the_window() {
        let drain = Drain::new(Duration::from_secs(5));
        let hints: Vec<_> = (0..200).map(|_| drain.retry_hint()).collect();
        assert!(
            hints.iter().all(|hint| (Duration::from_millis(500)..=Duration::from_secs(5)).contains(hint))
        );
        assert!(
            hints.iter().max().unwrap().saturating_sub(*hints.iter().min().unwrap()) > Duration::from_secs(2)
        );
        assert_eq!(Drain::new(Duration::ZERO).retry_hint(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn finishing_waits_for_the_live_and_no_longer_than_the_deadline() {
        let drain = Drain::new(Duration::ZERO);
        let live = drain.live();
        let other = drain.clone();
        let ended = tokio::spawn(async move {
            other.cancelled().await;
            drop(live);
        });
        assert!(!drain.is_draining());
        assert!(drain.finish(Duration::from_secs(10)).await);
        ended.await.unwrap();
        let stuck = drain.live();
        assert!(!drain.finish(Duration::from_secs(10)).await);
        drain.aborted().await;
        drop(stuck);
        drain.idle().await;
    }
}
