//! Those who wait for one signal.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    hint::black_box,
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
    /// Those at the end are never free.
    all: Vec<Option<Weak<dyn Swept>>>,
    /// The lowest first, so that the end comes free. Some may lie beyond it.
    free: BinaryHeap<Reverse<usize>>,
    count: usize,
}

impl Members {
    fn add(&mut self, member: Weak<dyn Swept>) -> usize {
        self.count += 1;
        match self.free.pop() {
            Some(Reverse(at)) if at < self.all.len() => {
                self.all[at] = Some(member);
                at
            }
            _ => {
                // What is free beyond the end is free no more.
                self.free.clear();
                self.all.push(Some(member));
                self.all.len() - 1
            }
        }
    }

    fn remove(&mut self, at: usize) {
        self.count -= 1;
        self.all[at] = None;
        self.free.push(Reverse(at));
        while matches!(self.all.last(), Some(None)) {
            self.all.pop();
        }
        if self.all.len() < self.all.capacity() / 4 {
            self.all.shrink_to(self.all.len() * 2);
            self.free.retain(|Reverse(at)| *at < self.all.len());
            self.free.shrink_to(self.free.len() * 2);
        }
    }
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
        let at = lock(&self.members).add(member);
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
        // Looked at together they come to the cache side by side, where taken one by one each would be waited for.
        let begun = members.all.get(at..).unwrap_or_default().iter().take(most);
        black_box(begun.flatten().map(Weak::strong_count).sum::<usize>());
        let mut next = at;
        while next < members.all.len() && chunk.len() < most {
            chunk.extend(members.all[next].as_ref().and_then(Weak::upgrade));
            next += 1;
        }
        (next > at).then_some(next)
    }

    /// Ends it if nobody is in it. Called under the lock under which members are added.
    pub(super) fn close_if_empty(&self) -> bool {
        let is_empty = lock(&self.members).count == 0;
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
        members.remove(self.at);
        let is_empty = members.count == 0;
        drop(members);
        match self.group.sweeper.upgrade() {
            Some(sweeper) if is_empty => sweeper.remove_empty(&self.group),
            None if is_empty => _ = self.group.close_if_empty(),
            _ => {}
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
