//! Those who wait for one signal.

use std::{
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use pushpull_core::{Signal, Waiter};

use super::{Sweeper, Swept, lock};

/// The connections of one worker that wait for one signal.
pub(super) struct Group {
    signal: Arc<Signal>,
    sweeper: Weak<Sweeper>,
    /// Whether it stands in the sweeper's queue.
    is_queued: AtomicBool,
    /// `None` once nobody is in it any more: it is left to whoever holds it.
    waiter: Mutex<Option<Waiter>>,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    all: Vec<Option<Weak<dyn Swept>>>,
    free: Vec<usize>,
}

/// A connection's place in a sweep. Given up when dropped.
pub struct Membership {
    group: Arc<Group>,
    at: usize,
}

impl Group {
    pub(super) fn new(signal: Arc<Signal>, sweeper: &Arc<Sweeper>) -> Arc<Self> {
        let group = Arc::new(Self {
            waiter: Mutex::new(Some(Waiter::new(signal.clone()))),
            signal,
            sweeper: Arc::downgrade(sweeper),
            is_queued: AtomicBool::new(false),
            members: Mutex::default(),
        });
        group.register();
        group
    }

    pub(super) fn key(&self) -> usize {
        Arc::as_ptr(&self.signal).addr()
    }

    pub(super) fn add(self: &Arc<Self>, member: Weak<dyn Swept>) -> Membership {
        let mut members = lock(&self.members);
        let at = match members.free.pop() {
            Some(at) => {
                members.all[at] = Some(member);
                at
            }
            None => {
                members.all.push(Some(member));
                members.all.len() - 1
            }
        };
        drop(members);
        Membership { group: self.clone(), at }
    }

    fn register(self: &Arc<Self>) {
        if let Some(waiter) = lock(&self.waiter).as_mut() {
            waiter.register(&Waker::from(self.clone()));
        }
    }

    /// Registers with the signal before anybody looks: what is published from now on queues it anew.
    pub(super) fn begin(self: &Arc<Self>) {
        self.is_queued.store(false, Ordering::Release);
        self.register();
    }

    /// Whether its signal was raised since it began.
    pub(super) fn is_queued(&self) -> bool {
        self.is_queued.load(Ordering::Acquire)
    }

    /// Queues it, since not all that is there was taken.
    pub(super) fn again(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel)
            && let Some(sweeper) = self.sweeper.upgrade()
        {
            sweeper.push(self.clone());
        }
    }

    /// Takes up to `most` members from `at` on into `chunk`, and says where the next are. `None` if there are none.
    pub(super) fn chunk(&self, at: usize, most: usize, chunk: &mut Vec<Arc<dyn Swept>>) -> Option<usize> {
        let members = lock(&self.members);
        let mut next = at;
        while next < members.all.len() && chunk.len() < most {
            chunk.extend(members.all[next].as_ref().and_then(Weak::upgrade));
            next += 1;
        }
        (next > at).then_some(next)
    }

    /// Ends it if nobody is in it. Called under the lock under which members are added.
    pub(super) fn close_if_empty(&self) -> bool {
        let members = lock(&self.members);
        let is_empty = members.free.len() == members.all.len();
        if is_empty {
            // Breaks the circle of the signal, the waker in it, and this.
            *lock(&self.waiter) = None;
        }
        is_empty
    }
}

impl Wake for Group {
    fn wake(self: Arc<Self>) {
        self.again();
    }
}

impl Membership {
    /// Whether it is of that signal.
    pub fn is_of(&self, signal: &Arc<Signal>) -> bool {
        Arc::ptr_eq(&self.group.signal, signal)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = lock(&self.group.members);
        members.all[self.at] = None;
        members.free.push(self.at);
        let is_empty = members.free.len() == members.all.len();
        drop(members);
        if is_empty && let Some(sweeper) = self.group.sweeper.upgrade() {
            sweeper.remove_empty(&self.group);
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Membership {
    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

#[cfg(test)]
impl Group {
    /// The places that there are, taken or not.
    pub(super) fn places(&self) -> usize {
        lock(&self.members).all.len()
    }
}
