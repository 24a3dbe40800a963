//! Wakes those who wait for a source's head to rise.

use std::{
    mem,
    sync::{Arc as WakerArc, OnceLock},
    task::{Wake, Waker},
};

#[cfg(pushpull_loom)]
use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};
#[cfg(not(pushpull_loom))]
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
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
    SILENT.get_or_init(|| Waker::from(WakerArc::new(Silent)))
}

struct Silent;

impl Wake for Silent {
    fn wake(self: WakerArc<Self>) {}
}

impl Signal {
    /// Wakes all who wait now. Call it after the head was raised.
    pub fn raise(&self) {
        if !self.is_awaited() {
            return;
        }
        let woken = {
            let mut waiters = self.lock();
            // By a swap, which reads: who registers from now on sees all that was raised up to here, by others that found
            // nobody, too.
            self.waiting.swap(0, Ordering::AcqRel);
            waiters.round += 1;
            waiters.free.clear();
            mem::take(&mut waiters.wakers)
        };
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether [`Signal::raise`] would wake anybody: to be asked after the head was raised, as that. Who registers from
    /// now on sees the head as it is.
    pub fn is_awaited(&self) -> bool {
        // His registration reads the number that is written here, though it is the same. A load would need a fence,
        // which takes longer.
        self.waiting.compare_exchange(0, 0, Ordering::AcqRel, Ordering::Acquire).is_err()
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
                self.signal.waiting.fetch_add(1, Ordering::AcqRel);
            }
        }
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
            self.signal.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, not(pushpull_loom)))]
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

/// Every interleaving of a small model: `RUSTFLAGS="--cfg pushpull_loom" cargo test -p pushpull-core --lib loom`.
#[cfg(all(test, pushpull_loom))]
mod loom_tests {
    use std::{future::poll_fn, task::Poll};

    use loom::{future::block_on, sync::atomic::AtomicU64, thread};

    use super::*;

    fn wait_for(signal: Arc<Signal>, head: Arc<AtomicU64>, wanted: u64) {
        let mut waiter = Waiter::new(signal);
        block_on(poll_fn(|cx| {
            if head.load(Ordering::Acquire) < wanted {
                waiter.register(cx.waker());
            }
            if head.load(Ordering::Acquire) >= wanted { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    #[test]
    fn no_rise_is_missed() {
        loom::model(|| {
            let (signal, head) = (Arc::new(Signal::default()), Arc::new(AtomicU64::new(0)));
            let reader = thread::spawn({
                let (signal, head) = (signal.clone(), head.clone());
                move || wait_for(signal, head, 2)
            });
            for n in 1..=2 {
                head.store(n, Ordering::Release);
                signal.raise();
            }
            reader.join().unwrap();
        });
    }

    #[test]
    fn a_rise_that_found_nobody_is_seen_behind_another() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let (signal, head) = (Arc::new(Signal::default()), Arc::new(AtomicU64::new(0)));
            let mut leaver = Waiter::new(signal.clone());
            leaver.register(&Waker::from(WakerArc::new(Silent)));
            let raise = |head: Option<Arc<AtomicU64>>| {
                let signal = signal.clone();
                thread::spawn(move || {
                    head.inspect(|head| head.store(1, Ordering::Release));
                    signal.raise();
                })
            };
            let raisers = [raise(Some(head.clone())), raise(None)];
            drop(leaver);
            wait_for(signal.clone(), head.clone(), 1);
            raisers.map(|raiser| raiser.join().unwrap());
        });
    }

    #[test]
    fn a_waiter_that_leaves_disturbs_nobody() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let (signal, head) = (Arc::new(Signal::default()), Arc::new(AtomicU64::new(0)));
            let mut leaver = Waiter::new(signal.clone());
            leaver.register(&Waker::from(WakerArc::new(Silent)));
            let reader = thread::spawn({
                let (signal, head) = (signal.clone(), head.clone());
                move || wait_for(signal, head, 1)
            });
            let raiser = thread::spawn({
                let signal = signal.clone();
                move || {
                    head.store(1, Ordering::Release);
                    signal.raise();
                }
            });
            drop(leaver);
            reader.join().unwrap();
            raiser.join().unwrap();
        });
    }
}
