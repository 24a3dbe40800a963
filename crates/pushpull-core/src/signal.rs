//! Wakes those who wait for a source's head to rise.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering, fence},
    },
    task::{Wake, Waker},
};

/// Wakes those who wait for a source's head to rise.
///
/// The source raises its head, then calls [`Signal::raise`]. A reader looks, finds nothing, registers with
/// [`Waiter::register`], and looks once more. Either the second look finds what is new, or the wake-up
/// comes.
#[derive(Debug, Default)]
pub struct Signal {
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// Counts wake-ups, so that a waiter knows whether its slot is still its own.
    round: u64,
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// A place among those who wait for a [`Signal`]. Given up when dropped.
#[derive(Debug)]
pub struct Waiter {
    signal: Arc<Signal>,
    at: Option<(u64, usize)>,
}

/// A waker that wakes nobody and that no [`Waiter`] registers: for whoever looks at what is there now, or
/// waits for [`Signal`]s himself. ([`Waker::noop`] has no identity that could be told reliably.)
pub fn silent_waker() -> &'static Waker {
    static SILENT: OnceLock<Waker> = OnceLock::new();
    SILENT.get_or_init(|| Waker::from(Arc::new(Silent)))
}

struct Silent;

impl Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

impl Signal {
    /// Wakes all who wait now. Call it after the head was raised.
    pub fn raise(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let woken = {
            let mut waiters = self.lock();
            self.waiting.store(0, Ordering::Relaxed);
            waiters.round += 1;
            waiters.free.clear();
            mem::take(&mut waiters.wakers)
        };
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// A waiter for `signal`, not registered yet.
    pub fn new(signal: Arc<Signal>) -> Self {
        Self { signal, at: None }
    }

    /// The signal it waits for.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Has `waker` woken by the next [`Signal::raise`]. Look once more afterwards, before going to sleep.
    /// The [`silent_waker`] is not registered.
    pub fn register(&mut self, waker: &Waker) {
        if waker.will_wake(silent_waker()) {
            return;
        }
        let mut waiters = self.signal.lock();
        match self.at {
            Some((round, slot)) if round == waiters.round => {
                if !waiters.wakers[slot].as_ref().is_some_and(|known| known.will_wake(waker)) {
                    waiters.wakers[slot] = Some(waker.clone());
                }
            }
            _ => {
                self.at = Some((waiters.round, waiters.add(waker.clone())));
                self.signal.waiting.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(waiters);
        fence(Ordering::SeqCst);
    }
}

impl Waiters {
    fn add(&mut self, waker: Waker) -> usize {
        if let Some(slot) = self.free.pop() {
            self.wakers[slot] = Some(waker);
            return slot;
        }
        self.wakers.push(Some(waker));
        self.wakers.len() - 1
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some((round, slot)) = self.at else { return };
        let mut waiters = self.signal.lock();
        if round == waiters.round {
            waiters.wakers[slot] = None;
            waiters.free.push(slot);
            self.signal.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicU32,
        task::{Context, Poll},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_waiter_is_woken_once_a_registration() {
        let signal = Arc::new(Signal::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut waiter = Waiter::new(signal.clone());
        signal.raise();
        waiter.register(&waker);
        waiter.register(&waker);
        assert_eq!(signal.waiting(), 1);
        signal.raise();
        signal.raise();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        waiter.register(&waker);
        drop(waiter);
        assert_eq!(signal.waiting(), 0);
        signal.raise();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn places_are_used_again() {
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(Arc::new(Count::default()));
        for _ in 0..100 {
            let mut waiter = Waiter::new(signal.clone());
            waiter.register(&waker);
        }
        assert_eq!(signal.lock().wakers.len(), 1);
        Waiter::new(signal.clone()).register(silent_waker());
        assert_eq!(signal.waiting(), 0);
    }

    #[tokio::test]
    async fn no_rise_is_missed() {
        let signal = Arc::new(Signal::default());
        let head = Arc::new(AtomicU32::new(0));
        let (raiser, raised) = (signal.clone(), head.clone());
        let thread = std::thread::spawn(move || {
            for n in 1..=20_000 {
                raised.store(n, Ordering::Release);
                raiser.raise();
            }
        });
        let mut waiter = Waiter::new(signal);
        let wait = |cx: &mut Context<'_>| {
            if head.load(Ordering::Acquire) < 20_000 {
                waiter.register(cx.waker());
            }
            if head.load(Ordering::Acquire) == 20_000 { Poll::Ready(()) } else { Poll::Pending }
        };
        std::future::poll_fn(wait).await;
        thread.join().unwrap();
    }
}
