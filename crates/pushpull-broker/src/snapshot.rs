//! Snapshots: each key's, or each topic's, newest event as of one place.
//!
//! Topics are copied one by one while others go on publishing, so what was copied first may be of an older place than
//! what was copied last. Whatever changed since is copied again, in passes; each is shorter than the one before, since
//! less changes meanwhile. In the last one nothing is published.
//!
//! So publishing waits for a snapshot, however large, for no longer than it takes to copy one topic
//! ([`Retention::keys`](crate::Retention) events), to list what was published during a pass, or to copy the topics that
//! were published to during the last pass but one; a new topic waits, too, while the names of all are looked through. It
//! waits for a whole snapshot only if some topic was published to and forgotten again during a pass, which takes more
//! topics than [`Retention::topics`](crate::Retention) or [`Retention::kept_bytes`](crate::Retention) allow, or if an
//! engine told of a loss that the head has not passed yet.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, atomic::Ordering},
};

use pushpull_core::{ErrorKind, Event, Problem, Start, Topic, Topics as Wanted, View};

use crate::{
    hub::Hub,
    interest::Interest,
    ring::{Ring, is_wanted},
    topics::{TopicSlot, TopicState},
};

/// Passes over what changed since the one before; nothing is published during the last.
const CATCHING_UP: usize = 2;

/// A snapshot as of a place.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// In rising order.
    pub(crate) events: Vec<Event>,
    pub(crate) place: u64,
    /// Keys last set at or before this seq may be missing.
    pub(crate) lost_to: u64,
}

impl Hub {
    /// The newest event of each key (`start=snapshot`) or each topic (`start=last`) of what `interest` holds of `wanted`:
    /// all of them as of one place, which was the head since this was called.
    pub(crate) fn snapshot(
        &self,
        interest: &Interest,
        wanted: &Wanted,
        start: Start,
    ) -> Result<Snapshot, Problem> {
        let mut collecting = Collecting::new(self, interest, wanted, start);
        let place = match interest.readers() {
            [reader] if interest.is_exact() => collecting.collect_one(&reader.slot)?,
            _ => collecting.collect()?,
        };
        Ok(collecting.finish(place))
    }

    /// A topic's state, and the head, which is not behind it.
    fn state_and_head<'a>(&self, slot: &'a TopicSlot) -> (MutexGuard<'a, TopicState>, u64) {
        let (state, head) = (slot.lock(), self.head());
        if state.last_seq <= head {
            return (state, head);
        }
        drop(state);
        // In the middle of an append: under the lock that orders them there is none.
        let _ring = self.ring();
        (slot.lock(), self.head())
    }
}

/// What is collected for a snapshot. It is right as of the head that was loaded before the last pass, unless it
/// reaches beyond that.
struct Collecting<'a> {
    hub: &'a Hub,
    interest: &'a Interest,
    wanted: &'a Wanted,
    start: Start,
    /// Those that have something to tell.
    topics: HashMap<Topic, Collected>,
    /// Events of all topics.
    held: usize,
    /// The newest seq of any topic when it was collected.
    reached: u64,
    /// Below this place nothing is known of a topic that was not there.
    unknown_to: u64,
}

/// What was collected of one topic.
struct Collected {
    /// What [`TopicSlot::newest_seq`] was then.
    seen: u64,
    /// The seq of its newest event then.
    last_seq: u64,
    events: Vec<Event>,
    lost_to: u64,
}

impl<'a> Collecting<'a> {
    fn new(hub: &'a Hub, interest: &'a Interest, wanted: &'a Wanted, start: Start) -> Self {
        let topics = HashMap::new();
        Self { hub, interest, wanted, start, topics, held: 0, reached: 0, unknown_to: 0 }
    }

    /// Collects all topics. Returns the place that they are as of.
    fn collect(&mut self) -> Result<u64, Problem> {
        // Behind the number, the place: what is lost of what follows it has a higher one.
        let mut noted = self.hub.ring().losses.noted();
        let mut place = self.hub.head();
        self.take_all()?;
        for pass in 1..=CATCHING_UP {
            if self.reached <= place {
                break;
            }
            let ring = self.hub.ring();
            let changed = self.changed_since(&ring, place, noted);
            (place, noted) = (self.hub.head(), ring.losses.noted());
            let _held = (pass == CATCHING_UP).then_some(ring);
            self.catch_up(changed)?;
        }
        Ok(place)
    }

    /// The same for one topic alone: nothing of it changes while its state is locked.
    fn collect_one(&mut self, slot: &TopicSlot) -> Result<u64, Problem> {
        let (state, place) = self.hub.state_and_head(slot);
        let collected = Collected::new(slot, &state, self.start);
        drop(state);
        self.keep(&slot.topic, collected)?;
        Ok(place)
    }

    /// Collects all there is, of nothing that is known yet.
    fn take_all(&mut self) -> Result<(), Problem> {
        for reader in self.interest.readers() {
            self.take(&reader.slot)?;
        }
        for pattern in self.wanted.iter().filter(|pattern| !pattern.is_exact()) {
            let matching = self.hub.topics.matching(pattern);
            // Behind the map: what is not on it any more was forgotten before.
            self.unknown_to = self.hub.topics.forgotten_to();
            for slot in &matching {
                // Several patterns may match it.
                if !self.topics.contains_key(&slot.topic) {
                    self.take(slot)?;
                }
            }
        }
        Ok(())
    }

    /// The topics that may have changed behind `place`; `None` if some of them were forgotten since, which the ring
    /// does not tell.
    fn changed_since(&self, ring: &Ring, place: u64, noted: u64) -> Option<Vec<Arc<TopicSlot>>> {
        (self.hub.topics.forgotten_to() <= place).then(|| ring.changed_since(place, noted))
    }

    /// Collects again what changed.
    fn catch_up(&mut self, changed: Option<Vec<Arc<TopicSlot>>>) -> Result<(), Problem> {
        let Some(changed) = changed else {
            self.topics.clear();
            (self.held, self.reached) = (0, 0);
            return self.take_all();
        };
        for slot in changed {
            if self.is_behind(&slot) {
                self.take(&slot)?;
            }
        }
        Ok(())
    }

    fn is_behind(&self, slot: &TopicSlot) -> bool {
        match self.topics.get(&slot.topic) {
            Some(known) => known.seen != slot.newest_seq.load(Ordering::Acquire),
            None => is_wanted(self.wanted, slot),
        }
    }

    /// Collects `slot`, in place of what was known of its topic.
    fn take(&mut self, slot: &TopicSlot) -> Result<(), Problem> {
        if let Some(known) = self.topics.remove(&slot.topic) {
            self.held -= known.events.len();
        }
        let collected = Collected::new(slot, &slot.lock(), self.start);
        self.keep(&slot.topic, collected)
    }

    fn keep(&mut self, topic: &Topic, collected: Collected) -> Result<(), Problem> {
        self.reached = self.reached.max(collected.last_seq);
        self.held += collected.events.len();
        let most = self.hub.retention.snapshot_messages;
        if self.held > most {
            let detail = format!("a snapshot has at most {most} events");
            return Err(Problem::new(ErrorKind::TooLarge, detail).with_parameter("start"));
        }
        if !collected.events.is_empty() || collected.lost_to > 0 {
            self.topics.insert(topic.clone(), collected);
        }
        Ok(())
    }

    fn finish(self, place: u64) -> Snapshot {
        let mut lost_to = self.unknown_to;
        let mut events = Vec::with_capacity(self.held);
        for collected in self.topics.into_values() {
            lost_to = lost_to.max(collected.lost_to);
            events.extend(collected.events);
        }
        events.sort_unstable_by_key(|event| event.cursor().seq());
        Snapshot { events, place, lost_to }
    }
}

impl Collected {
    fn new(slot: &TopicSlot, state: &TopicState, start: Start) -> Self {
        let (events, lost_to) = match start {
            Start::Last => newest(state),
            _ => keyed(state),
        };
        Self { seen: slot.newest_seq.load(Ordering::Acquire), last_seq: state.last_seq, events, lost_to }
    }
}

/// A topic's newest event, and up to where a newer one may be missing.
fn newest(state: &TopicState) -> (Vec<Event>, u64) {
    // An event behind all that nobody knows of is the newest for certain.
    let is_newest = |event: &Event| event.cursor().seq() > state.forgotten_to;
    let lost_to = if state.newest().is_some_and(is_newest) { 0 } else { state.forgotten_to };
    let newest = state.newest().map(shown);
    (newest.into_iter().collect(), lost_to)
}

/// The newest event of each of a topic's keys, and up to where some may be missing: of keys none is ever certain.
fn keyed(state: &TopicState) -> (Vec<Event>, u64) {
    let newest = state.keyed.events().map(shown);
    (newest.collect(), state.forgotten_to.max(state.keyed.lost_to()))
}

fn shown(event: &Event) -> Event {
    event.clone().shown(View::Snapshot)
}
