//! A connection between its own task and the sweep, whoever comes first.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, TryLockError, Weak,
        atomic::{AtomicU8, Ordering, fence},
    },
    task::{Context, Poll, Waker},
};

use pushpull_core::Standing;

use super::{Membership, Round, Swept, lock};
use crate::Gate;

/// A sweep came by while the connection's task, or another sweep, was at it.
const MISSED: u8 = 1;
/// It panicked in a sweep, and must not go on.
const BROKEN: u8 = 2;

/// What a connection does by its own task and in a sweep: see [`Connection`].
pub trait Served: Send + Sized + 'static {
    /// What it comes to.
    type Output;

    /// Its place between the two.
    fn post(&mut self) -> &mut Post;

    /// Its task wakes by another waker than before.
    fn on_new_waker(&mut self);

    /// A turn of its own task.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Self::Output>;

    /// Writes what is new, as far as it can be written at once. Must not wait: `cx` is its task's, which is woken
    /// afterwards where `true` says that there is something for it to do.
    fn sweep(&mut self, round: &mut Round, cx: &mut Context<'_>) -> bool;
}

/// A connection, as its task and the sweep share it.
// In this order the sweep finds what it turns to first of all in one line of the cache.
#[repr(C)]
pub struct Connection<T> {
    word: AtomicU8,
    served: Mutex<T>,
}

/// A connection's place between its task and the sweep.
#[derive(Debug, Default)]
pub struct Post {
    membership: Option<Membership>,
    /// Its task's.
    waker: Option<Waker>,
}

impl<T: Served> Connection<T> {
    /// What `make` makes of its own address, by which it joins a sweep.
    pub fn new(make: impl FnOnce(&Weak<Self>) -> T) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { word: AtomicU8::new(0), served: Mutex::new(make(me)) })
    }

    /// The connection, while nobody else is at it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.served)
    }

    /// A turn of its own task, or two where a sweep came by in the first: what that came for may have come after the look
    /// at it.
    ///
    /// # Panics
    /// If it panicked in a sweep: it ends as it would have by its own task.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<T::Output> {
        for _ in 0..2 {
            let mut served = self.lock();
            assert!(self.word.load(Ordering::Acquire) & BROKEN == 0, "a connection panicked in a sweep");
            if served.post().remember(cx.waker()) {
                served.on_new_waker();
            }
            let polled = served.poll(cx);
            drop(served);
            fence(Ordering::SeqCst);
            if polled.is_ready() || self.word.fetch_and(!MISSED, Ordering::SeqCst) & MISSED == 0 {
                return polled;
            }
        }
        // Others have their turn before the third.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells who is at it, its task or another sweep, that a sweep came by; or takes it, if that one may have gone before it
    /// was told.
    #[cold]
    fn leave_word(&self) -> Option<MutexGuard<'_, T>> {
        self.word.fetch_or(MISSED, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.served.try_lock().ok()
    }

    fn serve(&self, mut served: MutexGuard<'_, T>, round: &mut Round) {
        let Some(waker) = served.post().waker.take() else { return };
        let swept = catch_unwind(AssertUnwindSafe(|| served.sweep(round, &mut Context::from_waker(&waker))));
        if swept.is_err() {
            self.word.fetch_or(BROKEN, Ordering::Release);
        }
        if swept.unwrap_or(true) {
            waker.wake_by_ref();
        }
        served.post().waker = Some(waker);
    }

    /// Has its task look at the word that was left. Whoever is at it meanwhile does so anyway.
    #[cold]
    fn pass_word(&self) {
        if let Ok(mut served) = self.served.try_lock()
            && let Some(waker) = &served.post().waker
        {
            waker.wake_by_ref();
        }
    }
}

impl<T: Served> Swept for Connection<T> {
    fn sweep(&self, round: &mut Round) {
        let served = match self.served.try_lock() {
            Ok(served) => Some(served),
            Err(TryLockError::WouldBlock) => self.leave_word(),
            Err(TryLockError::Poisoned(_)) => None,
        };
        // Without it somebody is at it, and looks at the word; or it is no more.
        let Some(served) = served else { return };
        self.serve(served, round);
        fence(Ordering::SeqCst);
        // Of another sweep: that of a group which it joined after this one had set out.
        if self.word.load(Ordering::SeqCst) & MISSED != 0 {
            self.pass_word();
        }
    }
}

impl Post {
    /// Whether it is another than before.
    fn remember(&mut self, waker: &Waker) -> bool {
        let is_new = !self.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        if is_new {
            self.waker = Some(waker.clone());
        }
        is_new
    }

    /// Joins the sweep of those who stand with `standing` as the member that `me` gives, or leaves it where it stands with
    /// nobody. Whether it is swept from now on: then look for news after it, with the
    /// [silent waker](pushpull_core::silent_waker).
    pub fn stand(
        &mut self,
        gate: &Gate,
        standing: Option<&Standing>,
        me: impl FnOnce() -> Weak<dyn Swept>,
    ) -> bool {
        match standing {
            None => self.membership = None,
            Some(standing) => {
                if !self.membership.as_ref().is_some_and(|known| known.is_of(&standing.signal)) {
                    self.membership = gate.sweep(standing, me());
                }
            }
        }
        self.is_swept()
    }

    /// Whether it is swept.
    pub fn is_swept(&self) -> bool {
        self.membership.is_some()
    }

    /// Leaves the sweep.
    pub fn leave(&mut self) {
        self.membership = None;
    }
}

impl<T> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::wakes::Wakes;

    /// Is met by a sweep in each of its first turns.
    struct Met {
        post: Post,
        me: Weak<Connection<Self>>,
        meets: usize,
        turns: usize,
        sweeps: Arc<AtomicUsize>,
        is_fragile: bool,
        /// Is met by another sweep in each of its own, which finds nothing.
        is_rivalled: bool,
    }

    impl Served for Met {
        type Output = ();

        fn post(&mut self) -> &mut Post {
            &mut self.post
        }

        fn on_new_waker(&mut self) {}

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
            self.turns += 1;
            if self.turns <= self.meets {
                self.me.upgrade().unwrap().sweep(&mut Round::default());
            }
            Poll::Pending
        }

        fn sweep(&mut self, _: &mut Round, _: &mut Context<'_>) -> bool {
            assert!(!self.is_fragile, "as planned");
            self.sweeps.fetch_add(1, Ordering::Relaxed);
            if self.is_rivalled {
                self.me.upgrade().unwrap().sweep(&mut Round::default());
            }
            !self.is_rivalled
        }
    }

    fn met(meets: usize, is_fragile: bool) -> (Arc<Connection<Met>>, Arc<AtomicUsize>, Arc<Wakes>) {
        let sweeps = Arc::new(AtomicUsize::new(0));
        let counted = sweeps.clone();
        let connection = Connection::new(|me| Met {
            post: Post::default(),
            me: me.clone(),
            meets,
            turns: 0,
            sweeps: counted,
            is_fragile,
            is_rivalled: false,
        });
        (connection, sweeps, Arc::default())
    }

    #[test]
    fn a_sweep_that_meets_the_task_leaves_word_and_is_looked_after() {
        for (meets, turns, wakes) in [(0, 1, 0), (1, 2, 0), (2, 2, 1), (9, 2, 1)] {
            let (connection, sweeps, woken) = met(meets, false);
            let waker = Waker::from(woken.clone());
            assert!(connection.poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(connection.lock().turns, turns, "met {meets} times");
            assert_eq!(woken.count(), wakes, "others come before the third");
            assert_eq!(sweeps.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_sweep_wakes_the_task_where_something_is_left_for_it() {
        let (connection, sweeps, woken) = met(0, false);
        connection.sweep(&mut Round::default());
        assert_eq!(sweeps.load(Ordering::Relaxed), 0, "not before its task has looked");
        let waker = Waker::from(woken.clone());
        let _ = connection.poll(&mut Context::from_waker(&waker));
        connection.sweep(&mut Round::default());
        assert_eq!((sweeps.load(Ordering::Relaxed), woken.count()), (1, 1));
    }

    #[test]
    fn a_sweep_that_meets_another_has_the_task_look() {
        let (connection, sweeps, woken) = met(0, false);
        connection.lock().is_rivalled = true;
        let waker = Waker::from(woken.clone());
        let _ = connection.poll(&mut Context::from_waker(&waker));
        connection.sweep(&mut Round::default());
        assert_eq!((sweeps.load(Ordering::Relaxed), woken.count()), (1, 1));
        let _ = connection.poll(&mut Context::from_waker(&waker));
        assert_eq!(connection.lock().turns, 3, "once more, and then all is looked at");
        let _ = connection.poll(&mut Context::from_waker(&waker));
        assert_eq!(connection.lock().turns, 4);
    }

    #[test]
    fn who_panics_in_a_sweep_ends_alone() {
        let (connection, _, woken) = met(0, true);
        let waker = Waker::from(woken.clone());
        let _ = connection.poll(&mut Context::from_waker(&waker));
        connection.sweep(&mut Round::default());
        assert_eq!(woken.count(), 1, "its task is told");
        let ended = catch_unwind(AssertUnwindSafe(|| connection.poll(&mut Context::from_waker(&waker))));
        assert!(ended.is_err());
    }
}
