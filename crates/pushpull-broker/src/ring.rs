//! The ring: the log, and what each topic lost, as one append changes them.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use pushpull_core::{Event, Pattern, Topics as Wanted};

use crate::{
    branch::Branches,
    log::Log,
    topics::{TopicSlot, TopicState},
};

/// What one append changes as a whole.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    pub(crate) log: Log,
    pub(crate) branches: Branches,
    pub(crate) bytes: u64,
    pub(crate) kept_bytes: u64,
    /// The newest events, by seq: those that keep their encodings. Seqs, since an event that is held here
    /// would outlive its eviction.
    pub(crate) fresh: VecDeque<u64>,
    /// Losses so far, of whatever topic: says which of two came first.
    pub(crate) losses_noted: u64,
    /// Topics by the seq up to which they lost events.
    pub(crate) losses: BTreeMap<u64, Arc<TopicSlot>>,
    /// Topics with a record, each by the seq of an event of its own, its newest or an older one.
    pub(crate) records: BTreeMap<u64, Arc<TopicSlot>>,
}

/// What a search for losses came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Search {
    Nothing,
    /// A topic lost events up to here.
    Lost(u64),
    /// Enough was looked at: go on from here.
    Until(u64),
}

impl Ring {
    /// The highest seq up to which any topic lost events.
    pub(crate) fn newest_loss(&self) -> u64 {
        self.losses.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Looks from `newest` back to `place` for a topic that `matches`, at `most` of them.
    pub(crate) fn search_losses(
        &self,
        place: u64,
        newest: u64,
        most: usize,
        matches: impl Fn(&TopicSlot) -> bool,
    ) -> Search {
        if newest <= place {
            return Search::Nothing;
        }
        let between = self.losses.range((Bound::Excluded(place), Bound::Included(newest)));
        for (looked, (seq, slot)) in between.rev().enumerate() {
            if looked == most {
                return Search::Until(*seq);
            }
            if matches(slot) {
                return Search::Lost(*seq);
            }
        }
        Search::Nothing
    }

    /// The topics to which something was published after `place`, but those that were forgotten since; some several
    /// times.
    pub(crate) fn changed_since(&self, place: u64) -> Vec<Arc<TopicSlot>> {
        let retained = self.log.after(place).map(|(_, kept)| &kept.slot);
        // Of what is not retained, its topic lost it.
        let lost = self.losses.range((Bound::Excluded(place), Bound::Unbounded)).map(|(_, slot)| slot);
        let mut slots: Vec<_> = retained.chain(lost).cloned().collect();
        slots.dedup_by(|one, other| Arc::ptr_eq(one, other));
        slots
    }

    pub(crate) fn keep_apart(&mut self, state: &mut TopicState, event: &Event, keys: usize) {
        let weight = event.weight() as u64;
        let before = state.newest.replace(event.clone()).map_or(0, |event| event.weight() as u64);
        let (grown, freed) = state.keyed.take(event, keys);
        self.kept_bytes = self.kept_bytes + weight + grown - before - freed;
    }

    pub(crate) fn evict_oldest(&mut self) -> bool {
        let Some((_, _, kept)) = self.log.oldest() else { return false };
        let slot = kept.slot.clone();
        let mut state = slot.lock();
        self.evict_oldest_of(&slot, &mut state);
        true
    }

    /// Takes the oldest event of a topic out of its list and out of the log.
    pub(crate) fn evict_oldest_of(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState) {
        let Some((seq, event)) = state.list.pop_front() else { return };
        let weight = event.weight() as u64;
        event.forget_encodings();
        state.bytes -= weight;
        self.bytes -= weight;
        self.log.take_out(seq);
        self.note_loss(slot, state, seq);
    }

    pub(crate) fn note_loss(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState, seq: u64) {
        self.date_loss(slot);
        self.keep_loss(slot, state, seq);
    }

    /// The same, of a loss that is none of now.
    pub(crate) fn keep_loss(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState, seq: u64) {
        self.unnote_loss(slot, state);
        state.lost_to = state.lost_to.max(seq);
        if let Some((lost_to, _)) = &mut state.certain {
            *lost_to = seq.max(*lost_to);
        }
        self.losses.insert(state.lost_to, slot.clone());
    }

    pub(crate) fn date_loss(&mut self, slot: &TopicSlot) {
        self.losses_noted += 1;
        slot.lost_at.store(self.losses_noted, Ordering::Release);
    }

    pub(crate) fn unnote_loss(&mut self, slot: &Arc<TopicSlot>, state: &TopicState) {
        if self.losses.get(&state.lost_to).is_some_and(|known| Arc::ptr_eq(known, slot)) {
            self.losses.remove(&state.lost_to);
        }
    }

    pub(crate) fn forget(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState) {
        self.unnote_loss(slot, state);
        self.kept_bytes -= state.kept_bytes();
        self.bytes -= state.bytes;
        for (seq, event) in state.list.drain(..) {
            event.forget_encodings();
            self.log.take_out(seq);
        }
        state.forget();
        self.date_loss(slot);
        slot.newest_seq.store(state.lost_to, Ordering::Release);
    }
}

/// Whether any of `wanted` matches the topic of `slot`.
pub(crate) fn is_wanted(wanted: &Wanted, slot: &TopicSlot) -> bool {
    wanted.iter().any(|pattern: &Pattern| pattern.matches(&slot.topic))
}
