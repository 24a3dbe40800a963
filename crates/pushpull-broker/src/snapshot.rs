//! Snapshots: each key's, or each topic's, newest event as of one place.

use std::{collections::HashSet, sync::Arc};

use pushpull_core::{ErrorKind, Event, Problem, Start, Topics as Wanted, View};

use crate::{hub::Hub, topics::TopicSlot};

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
    /// The newest event of each key (`start=snapshot`) or each topic (`start=last`) as of the head.
    ///
    /// What was set anew after the head was loaded is left out: it comes live.
    pub(crate) fn snapshot(&self, wanted: &Wanted, start: Start) -> Result<Snapshot, Problem> {
        let place = self.head();
        let mut snapshot = Snapshot { events: Vec::new(), place, lost_to: 0 };
        for slot in self.wanted_slots(wanted, &mut snapshot.lost_to) {
            snapshot.take(&slot, start);
            if snapshot.events.len() > self.retention.snapshot_messages {
                let detail = format!("a snapshot has at most {} events", self.retention.snapshot_messages);
                return Err(Problem::new(ErrorKind::TooLarge, detail).with_parameter("start"));
            }
        }
        snapshot.events.retain(|event| event.cursor().seq() <= place);
        snapshot.events.sort_unstable_by_key(|event| event.cursor().seq());
        Ok(snapshot)
    }

    fn wanted_slots(&self, wanted: &Wanted, lost_to: &mut u64) -> Vec<Arc<TopicSlot>> {
        let mut seen = HashSet::new();
        let mut slots = Vec::new();
        for pattern in wanted {
            let matching = self.topics.matching(pattern);
            if !pattern.is_exact() || matching.is_empty() {
                *lost_to = (*lost_to).max(self.topics.forgotten_to());
            }
            slots.extend(matching.into_iter().filter(|slot| seen.insert(Arc::as_ptr(slot))));
        }
        slots
    }
}

impl Snapshot {
    fn take(&mut self, slot: &TopicSlot, start: Start) {
        let state = slot.lock();
        // An event behind all that nobody knows of is the newest for certain; of keys that holds for none.
        let is_newest = |event: &Event| event.cursor().seq() > state.forgotten_to;
        if start == Start::Snapshot || !state.newest.as_ref().is_some_and(is_newest) {
            self.lost_to = self.lost_to.max(state.forgotten_to);
        }
        if start == Start::Last {
            self.events.extend(state.newest.clone().map(|event| event.shown(View::Snapshot)));
        } else {
            self.events.extend(state.keyed.events().cloned().map(|event| event.shown(View::Snapshot)));
            self.lost_to = self.lost_to.max(state.keyed.lost_to());
        }
    }
}
