//! The hub: what a broker retains of the sequence, and how entries come to it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pushpull_core::{
    Cursor, CursorStanding, EncodingAccount, Epoch, Epochs, Event, EventParts, Prev, Topics as Wanted,
};
use tokio::time::Instant;

use crate::{
    Entry, Retention,
    interest::{Interest, Patterns},
    log::Kept,
    ring::Ring,
    topics::{TopicSlot, TopicState, Topics},
};

/// What a broker's subscriptions read.
///
/// Locks are taken in this order: the ring, the map of topics, a topic. A reader loads the head first, then
/// reads what lies at or before it.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) retention: Retention,
    pub(crate) topics: Arc<Topics>,
    pub(crate) patterns: Arc<Patterns>,
    pub(crate) epochs: RwLock<Epochs>,
    pub(crate) head: AtomicU64,
    /// Twice how often history turned out to be another; odd while it is being changed, under the lock of the ring. A
    /// read during which it was even, and stayed the same, was of one history.
    pub(crate) generation: AtomicU64,
    has_begun: AtomicBool,
    /// What is delivered at all; unset: everything.
    pub(crate) scope: OnceLock<Wanted>,
    published: AtomicU64,
    engine_up: AtomicBool,
    closed: AtomicBool,
    account: EncodingAccount,
    ring: Mutex<Ring>,
}

/// What was taken, for [`Hub::announce`].
#[derive(Debug, Default)]
pub(crate) struct Ingested {
    touched: Vec<Arc<TopicSlot>>,
    forgotten: Vec<Arc<TopicSlot>>,
}

impl Hub {
    pub(crate) fn new(retention: Retention) -> Self {
        Self {
            retention,
            topics: Arc::default(),
            patterns: Arc::default(),
            epochs: RwLock::new(Epochs::new(Epoch::NEVER, 0)),
            head: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            has_begun: AtomicBool::new(false),
            scope: OnceLock::new(),
            published: AtomicU64::new(0),
            engine_up: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            account: EncodingAccount::default(),
            ring: Mutex::default(),
        }
    }

    /// The newest place.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The place before the earliest event retained.
    pub(crate) fn floor(&self) -> u64 {
        self.ring().log.oldest().map_or_else(|| self.head(), |(seq, _)| seq.saturating_sub(1))
    }

    pub(crate) fn cursor(&self, seq: u64) -> Cursor {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner).cursor(seq)
    }

    /// The newest place, as a cursor.
    pub(crate) fn place(&self) -> Cursor {
        self.of_one_history(|| self.cursor(self.head()))
    }

    pub(crate) fn judge(&self, cursor: Cursor) -> CursorStanding {
        let epochs = || self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        self.of_one_history(|| epochs().judge(cursor, self.head()))
    }

    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn interest(&self, wanted: &Wanted) -> Interest {
        Interest::new(wanted, &self.topics, &self.patterns)
    }

    /// Whether there is a history: before it begins, no place can be told or judged.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    pub(crate) fn set_begun(&self) {
        self.has_begun.store(true, Ordering::Release);
    }

    pub(crate) fn set_engine_up(&self, up: bool) {
        self.engine_up.store(up, Ordering::Relaxed);
    }

    pub(crate) fn is_engine_up(&self) -> bool {
        self.engine_up.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends every subscription.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.topics.raise_all();
        self.patterns.raise_all();
    }

    /// Takes `entries`, in order, and raises the head once. [`Hub::announce`] wakes who waits for them.
    #[must_use]
    pub(crate) fn ingest(&self, entries: Vec<Entry>) -> Ingested {
        let Some(last) = entries.last().map(|entry| entry.seq) else { return Ingested::default() };
        let count = entries.len() as u64;
        let mut touched: Vec<Arc<TopicSlot>> = Vec::with_capacity(1);
        let mut ring = self.ring();
        for entry in entries {
            let slot = match touched.last() {
                Some(slot) if slot.topic == entry.topic => slot.clone(),
                _ => self.topics.slot(&entry.topic),
            };
            let slot = self.append(&mut ring, slot, entry);
            if !touched.last().is_some_and(|known| Arc::ptr_eq(known, &slot)) {
                touched.push(slot);
            }
        }
        if self.retention.age.is_some() {
            ring.log.date(last, Instant::now());
        }
        self.head.store(last, Ordering::Release);
        self.published.fetch_add(count, Ordering::Relaxed);
        let forgotten = self.retain(&mut ring);
        Ingested { touched, forgotten }
    }

    /// Wakes who waits for what was taken.
    pub(crate) fn announce(&self, ingested: &Ingested) {
        for slot in &ingested.touched {
            slot.signal.raise();
            self.patterns.raise(&slot.topic, &slot.watchers);
        }
        ingested.forgotten.iter().for_each(|slot| self.topics.remove_idle(slot));
    }

    fn append(&self, ring: &mut Ring, mut slot: Arc<TopicSlot>, entry: Entry) -> Arc<TopicSlot> {
        loop {
            let mut state = slot.lock();
            if !state.removed {
                self.append_to(ring, &slot, &mut state, entry);
                drop(state);
                return slot;
            }
            drop(state);
            slot = self.topics.slot(&entry.topic);
        }
    }

    fn append_to(&self, ring: &mut Ring, slot: &Arc<TopicSlot>, state: &mut TopicState, entry: Entry) {
        let seq = entry.seq;
        if let Some(prev) = entry.prev {
            ring.link(slot, state, prev);
        }
        let event = self.event(state, entry);
        if state.last_seq == 0 {
            ring.records.insert(seq, slot.clone());
        }
        let weight = event.weight() as u64;
        state.last_seq = seq;
        slot.newest_seq.store(seq, Ordering::Release);
        state.bytes += weight;
        state.list.push_back((seq, event.clone()));
        ring.bytes += weight;
        ring.keep_apart(state, &event, self.retention.keys);
        ring.fresh.push_back(seq);
        ring.log.push(seq, Kept { event, slot: slot.clone() });
        while state.list.len() > self.retention.messages || state.bytes > self.retention.topic_bytes {
            ring.evict_oldest_of(slot, state);
        }
    }

    fn event(&self, state: &TopicState, entry: Entry) -> Event {
        let found = || match state.last_seq {
            0 if state.forgotten_to == 0 => Prev::First,
            0 => Prev::Unknown,
            seq => Prev::At(self.cursor(seq)),
        };
        let Entry { seq, time_ms, topic, message, prev } = entry;
        let prev = prev.unwrap_or_else(found);
        let parts = EventParts { topic, cursor: self.cursor(seq), prev, time_ms, message };
        Event::keeping_encodings(parts, self.account.clone())
    }

    /// Holds the broker-wide bounds. Returns the topics that were forgotten.
    fn retain(&self, ring: &mut Ring) -> Vec<Arc<TopicSlot>> {
        let limits = &self.retention;
        while ring.fresh.len() > limits.encoded_messages || self.account.bytes() > limits.encoded_bytes {
            let Some(seq) = ring.fresh.pop_front() else { break };
            if let Some(event) = ring.log.at(seq) {
                event.forget_encodings();
            }
        }
        while ring.bytes + self.account.bytes() > limits.bytes && ring.evict_oldest() {}
        if let Some(age) = limits.age {
            self.expire(ring, age);
        }
        let mut forgotten = Vec::new();
        while ring.records.len() > limits.topics || ring.kept_bytes > limits.kept_bytes {
            match self.forget_oldest(ring) {
                Some(slot) => forgotten.push(slot),
                None => break,
            }
        }
        forgotten
    }

    fn expire(&self, ring: &mut Ring, age: Duration) {
        let now = Instant::now();
        let Some(old) = ring.log.take_old(|at| now.duration_since(at) >= age) else { return };
        while ring.log.oldest().is_some_and(|(seq, _)| seq <= old) {
            ring.evict_oldest();
        }
    }

    /// Lets what is too old go, before somebody reads.
    pub(crate) fn expire_now(&self) {
        if let Some(age) = self.retention.age {
            self.expire(&mut self.ring(), age);
        }
    }

    /// Drops the record of the topic that was published to longest ago. The topic of the newest event stays.
    fn forget_oldest(&self, ring: &mut Ring) -> Option<Arc<TopicSlot>> {
        while ring.records.len() > 1 {
            let (known, slot) = ring.records.pop_first()?;
            let mut state = slot.lock();
            if state.last_seq > known {
                let newest = state.last_seq;
                drop(state);
                ring.records.insert(newest, slot);
                continue;
            }
            self.topics.forget_to(state.last_seq);
            self.patterns.forget_to(state.last_seq, &slot.topic, &slot.watchers);
            ring.forget(&slot, &mut state);
            drop(state);
            return Some(slot);
        }
        None
    }

    pub(crate) fn stats(&self) -> crate::Stats {
        self.expire_now();
        let ring = self.ring();
        crate::Stats {
            retained_events: ring.log.len() as u64,
            retained_bytes: ring.bytes + self.account.bytes(),
            topics: ring.records.len() as u64,
            published: self.published.load(Ordering::Relaxed),
            engine_up: self.is_engine_up(),
        }
    }
}
