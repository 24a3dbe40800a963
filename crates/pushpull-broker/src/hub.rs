//! The hub: what a broker retains of the sequence, and how entries come to it.

use std::{
    iter,
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
    log::Kept,
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
    pub(crate) account: EncodingAccount,
    ring: Mutex<Ring>,
}

/// What was taken, for [`Hub::announce`].
#[derive(Debug, Default)]
pub(crate) struct Ingested {
    /// The topics of all but the last entries.
    topics: Vec<Arc<TopicSlot>>,
    /// The topic of the last ones, if anybody waits.
    awaited: Option<Arc<TopicSlot>>,
    forgotten: Vec<Arc<TopicSlot>>,
}

/// An entry of a topic. What becomes its message is copied to where it is to stay, and nowhere before.
struct Arrival<M> {
    seq: u64,
    time_ms: u64,
    message: M,
    prev: Option<Prev>,
}

impl Arrival<Message> {
    /// The topic of `entry`, and the rest of it.
    fn of(entry: Entry) -> (Topic, Self) {
        let Entry { seq, time_ms, topic, message, prev } = entry;
        (topic, Self { seq, time_ms, message, prev })
    }
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
        let interest = Interest::new(wanted, &self.topics, &self.patterns);
        if !interest.is_exact() {
            // See `Patterns::is_used`.
            drop(self.ring());
        }
        interest
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
        let ring = &mut self.ring();
        let mut entries = entries.into_iter().peekable();
        let mut ingested = Ingested::default();
        let mut last = None;
        while let Some(entry) = entries.next() {
            ingested.topics.extend(last.take());
            let (topic, first) = Arrival::of(entry);
            let more = iter::from_fn(|| entries.next_if(|entry| entry.topic == topic));
            last = Some(self.ingest_run(ring, &topic, first, more.map(|entry| Arrival::of(entry).1)));
        }
        if let Some(last) = last {
            self.raise_head(ring, last, &mut ingested);
        }
        ingested
    }

    /// Takes `messages` as the next entries, of now by `clock_ms`, and tells the cursors of the first and the last.
    #[must_use]
    pub(crate) fn append(
        &self,
        topic: &Topic,
        messages: impl IntoIterator<Item: Into<Message>>,
        clock_ms: impl FnOnce() -> u64,
    ) -> (Appended, Ingested) {
        let ring = &mut self.ring();
        // Asked here, so that time rises with seq, whoever appends at once.
        let (first, time_ms) = (self.head() + 1, clock_ms());
        let arrival = |(seq, message)| Arrival { seq, time_ms, message, prev: None };
        let mut arrivals = (first..).zip(messages).map(arrival);
        let mut ingested = Ingested::default();
        if let Some(arrival) = arrivals.next() {
            let slot = self.ingest_run(ring, topic, arrival, arrivals);
            self.raise_head(ring, slot, &mut ingested);
        }
        let appended = Appended::at(self.next_cursor(ring, first), self.next_cursor(ring, self.head()));
        (appended, ingested)
    }

    /// Raises the head to the newest entry, which is of the topic `last`, and holds the bounds.
    fn raise_head(&self, ring: &mut Ring, last: Arc<TopicSlot>, ingested: &mut Ingested) {
        let Some(head) = ring.fresh.back().copied() else { return };
        if let Some(age) = self.retention.age {
            ring.log.date(head, Instant::now(), age);
        }
        self.head.store(head, Ordering::Release);
        // Mostly nobody waits; then the next publish finds its topic here, and nothing is counted up and down.
        if last.signal.is_awaited() || self.patterns.is_used() {
            ingested.awaited = Some(last.clone());
        }
        ring.current = Some(last);
        ingested.forgotten = self.retain(ring);
    }

    /// Wakes who waits for what was taken.
    pub(crate) fn announce(&self, ingested: &Ingested) {
        for slot in ingested.topics.iter().chain(&ingested.awaited) {
            slot.signal.raise();
            self.patterns.raise(&slot.topic, &slot.watchers);
        }
        ingested.forgotten.iter().for_each(|slot| self.topics.remove_idle(slot));
    }

    /// Takes `first` and `more` of `topic`, which is let go now and then: its readers must not wait for a large batch.
    fn ingest_run<M: Into<Message>>(
        &self,
        ring: &mut Ring,
        topic: &Topic,
        mut first: Arrival<M>,
        mut more: impl Iterator<Item = Arrival<M>>,
    ) -> Arc<TopicSlot> {
        let current = ring.current.take_if(|slot| slot.topic == *topic);
        let mut slot = current.unwrap_or_else(|| self.topics.slot(topic));
        loop {
            let mut state = slot.lock();
            if state.removed {
                drop(state);
                slot = self.topics.slot(topic);
                continue;
            }
            let mut lost_to = self.append_to(ring, &slot, &mut state, first);
            for arrival in more.by_ref().take(RUN - 1) {
                lost_to = self.append_to(ring, &slot, &mut state, arrival).or(lost_to);
            }
            if let Some(lost_to) = lost_to {
                ring.note_loss(&slot, &mut state, lost_to);
            }
            drop(state);
            match more.next() {
                Some(next) => {
                    first = next;
                    slot.give_way();
                }
                None => return slot,
            }
        }
    }

    /// Appends `arrival`. Returns up to where its topic lost events by it.
    fn append_to<M: Into<Message>>(
        &self,
        ring: &mut Ring,
        slot: &Arc<TopicSlot>,
        state: &mut TopicState,
        arrival: Arrival<M>,
    ) -> Option<u64> {
        if let Some(prev) = arrival.prev {
            ring.link(slot, state, prev);
        }
        let is_full = state.list.len() >= self.retention.messages;
        // Taken out before the new one comes, which has its memory then.
        let (mut lost_to, oldest) = match is_full.then(|| ring.take_oldest(state)).flatten() {
            Some((seq, kept)) => (Some(seq), kept),
            None => (None, None),
        };
        let kept = self.kept(ring, slot, state, arrival, oldest);
        ring.append(kept, state, self.retention.keys);
        while state.list.len() > self.retention.messages || state.bytes > self.retention.topic_bytes {
            let Some(seq) = ring.drop_oldest(state) else { break };
            lost_to = Some(seq);
        }
        lost_to
    }

    /// What the log has of `arrival`, in the place of the topic's `oldest`, if that goes.
    fn kept<M: Into<Message>>(
        &self,
        ring: &Ring,
        slot: &Arc<TopicSlot>,
        state: &TopicState,
        arrival: Arrival<M>,
        oldest: Option<Kept>,
    ) -> Kept {
        let found = || match state.newest() {
            Some(newest) => Prev::At(newest.cursor()),
            None if state.forgotten_to == 0 => Prev::First,
            None => Prev::Unknown,
        };
        let Arrival { seq, time_ms, message, prev } = arrival;
        let (cursor, prev) = (self.next_cursor(ring, seq), prev.unwrap_or_else(found));
        if let Some(Kept { event, slot }) = oldest {
            return Kept { event: event.replaced(cursor, prev, time_ms, message), slot };
        }
        // Every publish may have brought a text of its own.
        let (topic, message) = (slot.topic.clone(), message.into());
        let parts = EventParts { topic, cursor, prev, time_ms, message };
        Kept { event: Event::keeping_encodings(parts, self.account.clone()), slot: slot.clone() }
    }

    /// The cursor of a place that follows all others.
    fn next_cursor(&self, ring: &Ring, seq: u64) -> Cursor {
        ring.branches.newest(seq).unwrap_or_else(|| self.cursor(seq))
    }

    /// Holds the broker-wide bounds. Returns the topics that were forgotten.
    fn retain(&self, ring: &mut Ring) -> Vec<Arc<TopicSlot>> {
        let limits = &self.retention;
        ring.keep_fresh(&self.account, limits.encoded_messages, limits.encoded_bytes);
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
            let seq = state.last_seq;
            self.topics.forget_to(seq);
            ring.forget(&slot, &mut state);
            self.patterns.forget_to(seq, &slot);
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
