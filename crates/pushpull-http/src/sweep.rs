//! One writer for many: subscriptions that stand together are served by a sweep, not each by a wake-up of its own.
//!
//! A source's signal wakes one task, whatever the number of its subscribers. The task goes through them, writes to each
//! directly, and lets others run after every [`CHUNK`]: a publisher is answered in the middle of a sweep, and what he
//! publishes goes along with the rest of it. Bytes are joined once for all that stand at the same place.
//!
//! ```text
//!  Signal ──wakes──> Group (one signal, one worker) ──queued at──> Sweeper (a task a worker)
//!                      │ members                                      │ for each chunk: a Round
//!                      └─ Weak<dyn Swept> <───────── sweep(&mut Round) ┘
//! ```
//!
//! What a connection cannot take at once is left to its own task, which also reads, keeps time, and serves whatever does
//! not stand with others.

mod alarm;
mod connection;
mod group;
mod nudged;
mod round;
mod turnstile;

use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{self, Poll, Waker},
};

use pushpull_core::{Signal, Standing};
use tokio::{
    runtime::{Handle, Id, RuntimeFlavor},
    task::{coop::unconstrained, yield_now},
};

use crate::Drain;
use alarm::Wheel;
pub use alarm::{Alarm, Moment};
pub use connection::{Connection, Post, Served};
use group::Group;
pub use group::Membership;
pub use nudged::Nudged;
pub use round::{Round, Taken};
pub use turnstile::Turn;
use turnstile::Turnstile;

/// Connections served before others have their turn.
const CHUNK: usize = 24;

/// A connection that a sweep serves.
pub trait Swept: Send + Sync {
    /// Writes what is new, as far as it can be written at once. Must not wait, and leaves what it cannot do to the
    /// connection's own task.
    fn sweep(&self, round: &mut Round);

    /// Its part of a turn, behind which others have theirs: 1 is a write, 24 all of it.
    fn weight(&self) -> usize {
        1
    }
}

/// The sweepers of every runtime that serves connections of one gate. Each has as many as the runtime has workers.
pub(crate) struct Sweeps {
    drain: Drain,
    runtimes: Mutex<HashMap<Id, Arc<Shards>>>,
}

struct Shards {
    all: Vec<Arc<Sweeper>>,
    next: AtomicUsize,
    wheel: Arc<Wheel>,
    turnstile: Arc<Turnstile>,
}

/// One task's part of the work: groups of connections, and those of them that have news.
pub(crate) struct Sweeper {
    groups: Mutex<HashMap<usize, Arc<Group>>>,
    queue: Mutex<Queue>,
    /// Whether its task runs: it ends when no group is left, and is started by the next.
    is_running: AtomicBool,
}

#[derive(Default)]
struct Queue {
    ready: Vec<Arc<Group>>,
    waker: Option<Waker>,
}

impl Sweeps {
    pub(crate) fn new(drain: Drain) -> Self {
        Self { drain, runtimes: Mutex::default() }
    }

    /// Has `member` swept whenever the signal of `standing` is raised, from now on: look once more after it. `None`
    /// outside a runtime.
    pub(crate) fn join(&self, standing: &Standing, member: std::sync::Weak<dyn Swept>) -> Option<Membership> {
        let (handle, shards) = self.here()?;
        let next = shards.next.fetch_add(1, Ordering::Relaxed);
        let sweeper = &shards.all[next % shards.all.len()];
        let membership = sweeper.join(&standing.signal, member);
        if !sweeper.is_running.swap(true, Ordering::AcqRel) {
            handle.spawn(unconstrained(sweep(sweeper.clone())));
        }
        Some(membership)
    }

    /// An alarm of the runtime that it is called on.
    pub(crate) fn alarm(&self) -> Alarm {
        Alarm::new(self.here().map(|(_, shards)| shards.wheel.clone()))
    }

    /// A place among the tasks of the runtime that wait to go on. `None` outside a runtime.
    pub(crate) fn turn(&self, waker: &Waker) -> Option<Turn> {
        self.here().map(|(handle, shards)| shards.turnstile.wait(waker, &handle))
    }

    fn here(&self) -> Option<(Handle, Arc<Shards>)> {
        let handle = Handle::try_current().ok()?;
        let mut runtimes = lock(&self.runtimes);
        let shards =
            runtimes.entry(handle.id()).or_insert_with(|| Arc::new(Shards::of(&handle, self.drain.clone())));
        let shards = shards.clone();
        Some((handle, shards))
    }
}

impl Shards {
    fn of(handle: &Handle, drain: Drain) -> Self {
        let workers = match handle.runtime_flavor() {
            RuntimeFlavor::CurrentThread => 1,
            _ => handle.metrics().num_workers(),
        };
        let sweeper = || {
            Arc::new(Sweeper {
                groups: Mutex::default(),
                queue: Mutex::default(),
                is_running: AtomicBool::new(false),
            })
        };
        Self {
            all: (0..workers.max(1)).map(|_| sweeper()).collect(),
            next: AtomicUsize::new(0),
            wheel: Arc::new(Wheel::new(handle.clone(), drain)),
            turnstile: Arc::default(),
        }
    }
}

impl Sweeper {
    fn join(self: &Arc<Self>, signal: &Arc<Signal>, member: std::sync::Weak<dyn Swept>) -> Membership {
        let mut groups = lock(&self.groups);
        let group =
            groups.entry(Arc::as_ptr(signal).addr()).or_insert_with(|| Group::new(signal.clone(), self));
        // Under the lock of the groups, as leaving is: a group in which somebody is stays.
        group.add(member)
    }

    /// Takes `group` off the list if nobody is in it.
    fn remove_empty(&self, group: &Group) {
        let mut groups = lock(&self.groups);
        // Another may stand in its place by now.
        let is_known = groups.get(&group.key()).is_some_and(|known| std::ptr::eq(&**known, group));
        if is_known && group.close_if_empty() {
            groups.remove(&group.key());
        }
        let is_idle = groups.is_empty();
        drop(groups);
        if is_idle {
            // To end.
            self.wake();
        }
    }

    fn push(&self, group: Arc<Group>) {
        lock(&self.queue).ready.push(group);
        self.wake();
    }

    fn wake(&self) {
        let waker = lock(&self.queue).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The groups that have news; `None` once there are no groups at all.
    async fn next(&self) -> Option<Vec<Arc<Group>>> {
        poll_fn(|cx| {
            let mut queue = lock(&self.queue);
            if !queue.ready.is_empty() {
                return Poll::Ready(Some(std::mem::take(&mut queue.ready)));
            }
            queue.waker = Some(cx.waker().clone());
            drop(queue);
            let groups = lock(&self.groups);
            if groups.is_empty() {
                // Whoever joins now is behind this, and starts another task.
                self.is_running.store(false, Ordering::Release);
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }
}

/// Sweeps until no group is left.
async fn sweep(sweeper: Arc<Sweeper>) {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut round = Round::default();
    let mut served = 0;
    while let Some(groups) = sweeper.next().await {
        for group in groups {
            group.begin();
            let mut at = 0;
            while let Some(next) = group.chunk(at, CHUNK, &mut chunk) {
                at = next;
                for member in chunk.drain(..) {
                    member.sweep(&mut round);
                    served += member.weight();
                    if served >= CHUNK {
                        served = 0;
                        yield_now().await;
                        if group.is_queued() {
                            // Something was published meanwhile: what was made before is short of it.
                            round.clear();
                        }
                    }
                }
                if round.take_more() {
                    group.again();
                }
            }
            round.clear();
        }
    }
}

/// Asks for another turn, behind the other tasks and all that waits for a socket. Waking oneself would come before the
/// sockets: a runtime in which some task is always ready looks at them once in dozens of polls.
pub fn yield_turn(cx: &mut task::Context<'_>) {
    let _ = pin!(yield_now()).poll(cx);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Sweeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeps").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
