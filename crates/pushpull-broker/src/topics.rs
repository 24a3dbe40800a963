//! Topics: a list of events each, and what is known of those that are gone.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use pushpull_core::{Event, Pattern, Signal, Topic};

use crate::{interest::Watchers, keyed::Keyed};

/// How often the processor is given up for somebody who wakes up.
const TURNS: u32 = 256;

/// A topic that has events, or subscribers, or both.
#[derive(Debug)]
pub(crate) struct TopicSlot {
    pub(crate) topic: Topic,
    pub(crate) signal: Arc<Signal>,
    pub(crate) watchers: Watchers,
    /// Nothing of the topic lies beyond this seq, neither an event nor a loss: readable without the lock.
    pub(crate) newest_seq: AtomicU64,
    /// When, by the number of the loss, it last lost an event or what was known of it.
    pub(crate) lost_at: AtomicU64,
    readers: AtomicUsize,
    /// How many wait for the lock.
    waiting: AtomicU32,
    state: Mutex<TopicState>,
}

/// A topic's record. Without one (`last_seq == 0`) the topic is unknown.
#[derive(Debug, Default)]
pub(crate) struct TopicState {
    pub(crate) list: VecDeque<(u64, Event)>,
    pub(crate) bytes: u64,
    pub(crate) last_seq: u64,
    /// Events at or before this seq are gone.
    pub(crate) lost_to: u64,
    /// The number by which the ring lists what it lost; 0: it does not.
    pub(crate) noted_as: u64,
    /// Of what came at or before this seq nothing is known: the record was dropped. As long as the slot stays
    /// on the map no event of the topic goes unseen, so it rises only with the topic's own record.
    pub(crate) forgotten_to: u64,
    /// The newest event, if it is in the list no more.
    pub(crate) outlived: Option<Event>,
    pub(crate) keyed: Keyed,
    /// `lost_to` and `forgotten_to` as they were before a loss was told of which nobody knows whether it was this
    /// topic's: the topic's next event shows it.
    pub(crate) certain: Option<(u64, u64)>,
    /// Taken off the map: whoever still holds it looks the topic up again.
    pub(crate) removed: bool,
}

impl TopicSlot {
    fn new(topic: Topic, forgotten_to: u64) -> Self {
        Self {
            topic,
            signal: Arc::default(),
            watchers: Watchers::default(),
            newest_seq: AtomicU64::new(forgotten_to),
            lost_at: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
            waiting: AtomicU32::new(0),
            state: Mutex::new(TopicState { lost_to: forgotten_to, forgotten_to, ..TopicState::default() }),
        }
    }

    #[cfg(test)]
    pub(crate) fn is_locked(&self) -> bool {
        self.state.try_lock().is_err()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, TopicState> {
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => self.wait(),
        }
    }

    #[cold]
    fn wait(&self) -> MutexGuard<'_, TopicState> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        state
    }

    /// Lets one of those who wait for the lock have it, for who had it and takes it again at once: he would mostly be
    /// faster than who has to wake up first. Waits for nobody long.
    pub(crate) fn give_way(&self) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let mut turns = if waiting > 0 { TURNS } else { 0 };
        while turns > 0 && self.waiting.load(Ordering::Relaxed) == waiting {
            std::thread::yield_now();
            turns -= 1;
        }
    }
}

impl TopicState {
    /// The events after `seq` and up to `head`, in order.
    pub(crate) fn between(&self, seq: u64, head: u64) -> impl Iterator<Item = &Event> {
        let start = position_after(&self.list, seq);
        self.list.range(start..).take_while(move |(at, _)| *at <= head).map(|(_, event)| event)
    }

    /// The newest event.
    pub(crate) fn newest(&self) -> Option<&Event> {
        self.list.back().map(|(_, event)| event).or(self.outlived.as_ref())
    }

    /// Drops the record. What is known from now on is that all of it is gone.
    pub(crate) fn forget(&mut self) {
        let lost_to = self.lost_to.max(self.last_seq);
        *self = Self { removed: self.removed, lost_to, forgotten_to: lost_to, ..Self::default() };
    }

    /// Bytes of what is kept apart from the log.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.keyed.bytes() + self.newest().map_or(0, |event| event.weight() as u64)
    }
}

/// Where in `list` the entries after `seq` begin: sought from its end in steps that double, since most readers are near
/// it, and an older entry is seldom in a processor's cache.
fn position_after<T>(list: &VecDeque<(u64, T)>, seq: u64) -> usize {
    let (mut end, mut step) = (list.len(), 1);
    while end >= step && list[end - step].0 > seq {
        end -= step;
        step *= 2;
    }
    let mut start = end.saturating_sub(step);
    while start < end {
        let middle = start.midpoint(end);
        match list[middle].0 > seq {
            true => end = middle,
            false => start = middle + 1,
        }
    }
    start
}

/// All topics, by name.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    map: RwLock<HashMap<Topic, Arc<TopicSlot>>>,
    /// Below this place nothing is known of a topic that is not on the map.
    forgotten_to: AtomicU64,
}

impl Topics {
    /// The slot of `topic`, made if there is none.
    pub(crate) fn slot(&self, topic: &Topic) -> Arc<TopicSlot> {
        if let Some(slot) = self.find(topic) {
            return slot;
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.entry(topic.clone()).or_insert_with(|| self.make(topic)).clone()
    }

    /// Called under the map's lock: a record that was dropped before has raised `forgotten_to` by then.
    fn make(&self, topic: &Topic) -> Arc<TopicSlot> {
        Arc::new(TopicSlot::new(topic.clone(), self.forgotten_to()))
    }

    pub(crate) fn forgotten_to(&self) -> u64 {
        self.forgotten_to.load(Ordering::SeqCst)
    }

    /// A record is dropped whose newest event was at `seq`.
    pub(crate) fn forget_to(&self, seq: u64) {
        self.forgotten_to.fetch_max(seq, Ordering::SeqCst);
    }

    /// The slot of `topic`, if there is one.
    pub(crate) fn find(&self, topic: &Topic) -> Option<Arc<TopicSlot>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Nothing of `topic` lies beyond this seq, neither an event nor a loss.
    pub(crate) fn newest_seq(&self, topic: &Topic) -> u64 {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        match map.get(topic) {
            Some(slot) => slot.newest_seq.load(Ordering::Acquire),
            // As one that is made now.
            None => self.forgotten_to(),
        }
    }

    /// The slots of all topics that `pattern` matches.
    pub(crate) fn matching(&self, pattern: &Pattern) -> Vec<Arc<TopicSlot>> {
        if let Some(topic) = pattern.to_topic() {
            return self.find(&topic).into_iter().collect();
        }
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.values().filter(|slot| pattern.matches(&slot.topic)).cloned().collect()
    }

    /// The slot of `topic`, which stays as long as the reader lasts.
    pub(crate) fn read(self: &Arc<Self>, topic: &Topic) -> Reader {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = map.get(topic) {
            return Reader::new(slot.clone(), self.clone());
        }
        drop(map);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let slot = map.entry(topic.clone()).or_insert_with(|| self.make(topic));
        Reader::new(slot.clone(), self.clone())
    }

    /// Takes `slot` off the map if it has neither a record nor readers.
    pub(crate) fn remove_idle(&self, slot: &TopicSlot) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = slot.lock();
        if state.last_seq == 0 && !state.removed && slot.readers.load(Ordering::Relaxed) == 0 {
            state.removed = true;
            map.remove(&slot.topic);
        }
    }

    /// Every topic's slot.
    pub(crate) fn all(&self) -> Vec<Arc<TopicSlot>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.values().cloned().collect()
    }

    /// Raises every topic's signal.
    pub(crate) fn raise_all(&self) {
        self.all().iter().for_each(|slot| slot.signal.raise());
    }

    /// Below `seq` nothing is known of a topic that is not on the map, and no more than that: history is another.
    pub(crate) fn forget_exactly_to(&self, seq: u64) {
        self.forgotten_to.store(seq, Ordering::SeqCst);
    }
}

/// Holds a slot on the map. Readers are counted under the map's lock, so that a slot is never taken off it
/// while somebody waits there.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) slot: Arc<TopicSlot>,
    topics: Arc<Topics>,
}

impl Reader {
    fn new(slot: Arc<TopicSlot>, topics: Arc<Topics>) -> Self {
        slot.readers.fetch_add(1, Ordering::Relaxed);
        Self { slot, topics }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let was = self.slot.readers.fetch_sub(1, Ordering::Relaxed);
        if was == 1 && self.slot.lock().last_seq == 0 {
            self.topics.remove_idle(&self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_list_is_found_from_its_end() {
        for length in 0..40 {
            let list: VecDeque<_> = (0..length).map(|index| (3 * index + 2, ())).collect();
            for seq in 0..3 * length + 4 {
                let sought = list.partition_point(|(at, ())| *at <= seq);
                assert_eq!(position_after(&list, seq), sought, "{seq} in {length}");
            }
        }
    }

    #[test]
    fn who_waits_for_a_topic_is_known_until_he_has_it() {
        let slot = Topics::default().slot(&"a".parse().unwrap());
        let waiting = || slot.waiting.load(Ordering::Relaxed);
        let held = slot.lock();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| drop(slot.lock()));
            while waiting() == 0 {
                std::thread::yield_now();
            }
            drop(held);
            other.join().unwrap();
        });
        assert_eq!(waiting(), 0);
    }

    #[test]
    fn nobody_who_waits_holds_up_who_gives_way() {
        let slot = Topics::default().slot(&"a".parse().unwrap());
        // He never comes.
        slot.waiting.store(1, Ordering::Relaxed);
        slot.give_way();
        drop(slot.lock());
    }
}
