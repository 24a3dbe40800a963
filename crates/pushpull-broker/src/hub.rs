//! The hub: what a broker retains of the sequence, and how entries come to it.

use std::{
    iter::Peekable,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pushpull_core::{
    Cursor, CursorStanding, EncodingAccount, Epoch, Epochs, Event, EventParts, Message, Prev, Topic,
    Topics as Wanted,
};
use tokio::time::Instant;

use crate::{
    Appended, Entry, Retention,
    interest::{Interest, Patterns},
    ring::Ring,
    topics::{TopicSlot, TopicState, Topics},
};

#[cfg(test)]
mod tests;

/// Most entries appended to a topic before its lock is let go.
const RUN: usize = 256;

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
    engine_up: AtomicBool,
    closed: AtomicBool,
    account: EncodingAccount,
    ring: Mutex<Ring>,
}

/// What was taken, for [`Hub::announce`].
#[derive(Debug, Default)]
pub(crate) struct Ingested {
    first: Option<Arc<TopicSlot>>,
    more: Vec<Arc<TopicSlot>>,
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
    pub(crate) fn ingest(&self, entries: impl IntoIterator<Item = Entry>) -> Ingested {
        self.ingest_to(&mut self.ring(), entries)
    }

    /// Takes `messages` as the next entries, of now by `clock_ms`, and tells the cursors of the first and the last.
    #[must_use]
    pub(crate) fn append(
        &self,
        topic: &Topic,
        messages: impl IntoIterator<Item = Message>,
        clock_ms: impl FnOnce() -> u64,
    ) -> (Appended, Ingested) {
        let mut ring = self.ring();
        // Asked here, so that time rises with seq, whoever appends at once.
        let (first, time_ms) = (self.head() + 1, clock_ms());
        let entry = |(seq, message)| Entry::new(seq, time_ms, topic.clone(), message);
        let ingested = self.ingest_to(&mut ring, (first..).zip(messages).map(entry));
        let appended = Appended::at(self.next_cursor(&ring, first), self.next_cursor(&ring, self.head()));
        (appended, ingested)
    }

    fn ingest_to(&self, ring: &mut Ring, entries: impl IntoIterator<Item = Entry>) -> Ingested {
        let mut entries = entries.into_iter().peekable();
        let mut ingested = Ingested::default();
        while let Some(entry) = entries.next() {
            let slot = self.ingest_run(ring, entry, &mut entries);
            match ingested.first {
                None => ingested.first = Some(slot),
                Some(_) => ingested.more.push(slot),
            }
        }
        if let Some(last) = ring.fresh.back().copied().filter(|_| ingested.first.is_some()) {
            if let Some(age) = self.retention.age {
                ring.log.date(last, Instant::now(), age);
            }
            self.head.store(last, Ordering::Release);
            ingested.forgotten = self.retain(ring);
        }
        ingested
    }

    /// Wakes who waits for what was taken.
    pub(crate) fn announce(&self, ingested: &Ingested) {
        for slot in ingested.first.iter().chain(&ingested.more) {
            slot.signal.raise();
            self.patterns.raise(&slot.topic, &slot.watchers);
        }
        ingested.forgotten.iter().for_each(|slot| self.topics.remove_idle(slot));
    }

    /// Takes `first`, and those of `more` that follow it on the same topic, which is let go now and then: its readers
    /// must not wait for a large batch.
    fn ingest_run(
        &self,
        ring: &mut Ring,
        mut first: Entry,
        more: &mut Peekable<impl Iterator<Item = Entry>>,
    ) -> Arc<TopicSlot> {
        let mut slot = match ring.log.newest_topic() {
            Some(slot) if slot.topic == first.topic => slot.clone(),
            _ => self.topics.slot(&first.topic),
        };
        loop {
            let mut state = slot.lock();
            if state.removed {
                drop(state);
                slot = self.topics.slot(&first.topic);
                continue;
            }
            let mut lost_to = self.append_to(ring, &slot, &mut state, first);
            let mut left = RUN - 1;
            while left > 0
                && let Some(entry) = more.next_if(|entry| entry.topic == slot.topic)
            {
                lost_to = self.append_to(ring, &slot, &mut state, entry).or(lost_to);
                left -= 1;
            }
            if let Some(lost_to) = lost_to {
                ring.note_loss(&slot, &mut state, lost_to);
            }
            drop(state);
            match more.next_if(|entry| entry.topic == slot.topic) {
                Some(next) => {
                    first = next;
                    slot.give_way();
                }
                None => return slot,
            }
        }
    }

    /// Appends `entry`. Returns up to where its topic lost events by it.
    fn append_to(
        &self,
        ring: &mut Ring,
        slot: &Arc<TopicSlot>,
        state: &mut TopicState,
        entry: Entry,
    ) -> Option<u64> {
        if let Some(prev) = entry.prev {
            ring.link(slot, state, prev);
        }
        let event = self.event(ring, slot, state, entry);
        ring.append(slot, state, event, self.retention.keys);
        let mut lost_to = None;
        while state.list.len() > self.retention.messages || state.bytes > self.retention.topic_bytes {
            let Some(seq) = ring.take_oldest(state) else { break };
            lost_to = Some(seq);
        }
        lost_to
    }

    fn event(&self, ring: &Ring, slot: &TopicSlot, state: &TopicState, entry: Entry) -> Event {
        let found = || match state.newest() {
            Some(newest) => Prev::At(newest.cursor()),
            None if state.forgotten_to == 0 => Prev::First,
            None => Prev::Unknown,
        };
        let Entry { seq, time_ms, message, prev, .. } = entry;
        let (cursor, prev) = (self.next_cursor(ring, seq), prev.unwrap_or_else(found));
        // Every publish may have brought a text of its own.
        let topic = slot.topic.clone();
        let parts = EventParts { topic, cursor, prev, time_ms, message };
        Event::keeping_encodings(parts, self.account.clone())
    }

    /// The cursor of a place that follows all others.
    fn next_cursor(&self, ring: &Ring, seq: u64) -> Cursor {
        ring.branches.newest(seq).unwrap_or_else(|| self.cursor(seq))
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
        let Some(old) = ring.log.take_old(now, age) else { return };
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
            published: ring.published,
            engine_up: self.is_engine_up(),
        }
    }
}
