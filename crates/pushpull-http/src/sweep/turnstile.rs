//! Tasks that a source woke all at once, let through a few at a time.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use tokio::{runtime::Handle, task::yield_now};

use super::lock;

/// Tasks let through before others have their turn.
const TOGETHER: usize = 8;

/// Where the tasks of one runtime wait for their turn.
#[derive(Default)]
pub(super) struct Turnstile {
    waiting: Mutex<Waiting>,
    /// How many were let through.
    through: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Waker>,
    /// How many ever came.
    came: u64,
    is_running: bool,
}

/// A task's place among those that wait to go on.
pub struct Turn {
    number: u64,
    turnstile: Arc<Turnstile>,
}

impl Turnstile {
    /// A place behind all others; `waker` is woken when it is its turn.
    pub(super) fn wait(self: &Arc<Self>, waker: &Waker, runtime: &Handle) -> Turn {
        let mut waiting = lock(&self.waiting);
        let number = waiting.came;
        waiting.came += 1;
        waiting.queue.push_back(waker.clone());
        if !std::mem::replace(&mut waiting.is_running, true) {
            runtime.spawn(let_through(self.clone()));
        }
        Turn { number, turnstile: self.clone() }
    }

    /// Those whose turn it is; `None`, and the end of the task, if nobody waits.
    fn next(&self) -> Option<Vec<Waker>> {
        let mut waiting = lock(&self.waiting);
        let count = TOGETHER.min(waiting.queue.len());
        let next: Vec<Waker> = waiting.queue.drain(..count).collect();
        if next.is_empty() {
            waiting.is_running = false;
            waiting.queue = VecDeque::new();
            return None;
        }
        self.through.fetch_add(count as u64, Ordering::Release);
        Some(next)
    }
}

async fn let_through(turnstile: Arc<Turnstile>) {
    while let Some(next) = turnstile.next() {
        next.into_iter().for_each(Waker::wake);
        yield_now().await;
    }
}

impl Turn {
    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.turnstile.through.load(Ordering::Acquire) > self.number
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("has_come", &self.has_come()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    #[tokio::test]
    async fn a_few_go_on_at_a_time_in_the_order_in_which_they_came() {
        let (turnstile, wakes) = (Arc::new(Turnstile::default()), Arc::new(Wakes::default()));
        let waker = Waker::from(wakes.clone());
        let turns: Vec<Turn> = (0..20).map(|_| turnstile.wait(&waker, &Handle::current())).collect();
        let come = || turns.iter().take_while(|turn| turn.has_come()).count();
        assert_eq!(come(), 0);
        for expected in [8, 16, 20, 20] {
            yield_now().await;
            assert_eq!((come(), wakes.count()), (expected, expected));
            assert!(turns.iter().skip(expected).all(|turn| !turn.has_come()));
        }
        assert!(!lock(&turnstile.waiting).is_running, "nobody waits");
        let late = turnstile.wait(&waker, &Handle::current());
        yield_now().await;
        assert!(late.has_come());
    }
}
