//! The ring: the log, and what each topic lost, as one append changes them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use pushpull_core::{Event, Pattern, Topics as Wanted};

use crate::{
    branch::Branches,
    log::{Kept, Log},
    losses::Losses,
    topics::{TopicSlot, TopicState},
};

/// What one append changes as a whole.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    pub(crate) log: Log,
    pub(crate) branches: Branches,
    /// Entries taken so far.
    pub(crate) published: u64,
    pub(crate) bytes: u64,
    pub(crate) kept_bytes: u64,
    /// The newest events, by seq: those that keep their encodings. Seqs, since an event that is held here
    /// would outlive its eviction.
    pub(crate) fresh: VecDeque<u64>,
    pub(crate) losses: Losses,
    /// Topics with a record, each by the seq of an event of its own, its newest or an older one.
    pub(crate) records: BTreeMap<u64, Arc<TopicSlot>>,
}

impl Ring {
    /// The topics to which something was published after `place`, but those that were forgotten since; some several
    /// times. Losses up to the number `noted` were noted before `place` was the head.
    pub(crate) fn changed_since(&self, place: u64, noted: u64) -> Vec<Arc<TopicSlot>> {
        let retained = self.log.after(place).map(|(_, kept)| &kept.slot);
        // Of what is not retained, its topic lost it.
        let mut slots: Vec<_> = retained.chain(self.losses.beyond(place, noted)).cloned().collect();
        slots.dedup_by(|one, other| Arc::ptr_eq(one, other));
        slots
    }

    /// Adds `event`, the newest of all, to the topic of `slot`.
    pub(crate) fn append(
        &mut self,
        slot: &Arc<TopicSlot>,
        state: &mut TopicState,
        event: Event,
        keys: usize,
    ) {
        let (seq, weight) = (event.cursor().seq(), event.weight() as u64);
        if state.last_seq == 0 {
            self.records.insert(seq, slot.clone());
        }
        let replaced = state.newest().map_or(0, |event| event.weight() as u64);
        let (grown, freed) = state.keyed.take(&event, keys);
        self.kept_bytes = self.kept_bytes + weight + grown - replaced - freed;
        state.last_seq = seq;
        state.bytes += weight;
        state.outlived = None;
        state.list.push_back((seq, event.clone()));
        self.bytes += weight;
        self.published += 1;
        self.fresh.push_back(seq);
        self.log.push(seq, Kept { event, slot: slot.clone() });
        slot.newest_seq.store(seq, Ordering::Release);
    }

    pub(crate) fn evict_oldest(&mut self) -> bool {
        let Some((_, kept)) = self.log.oldest() else { return false };
        let slot = kept.slot.clone();
        let mut state = slot.lock();
        if let Some(seq) = self.take_oldest(&mut state) {
            self.note_loss(&slot, &mut state, seq);
        }
        true
    }

    /// Takes the oldest event of a topic out of its list and out of the log. Returns its seq, a loss to be noted.
    pub(crate) fn take_oldest(&mut self, state: &mut TopicState) -> Option<u64> {
        let (seq, event) = state.list.pop_front()?;
        let weight = event.weight() as u64;
        event.forget_encodings();
        state.bytes -= weight;
        self.bytes -= weight;
        self.log.take(seq);
        if state.list.is_empty() {
            state.outlived = Some(event);
        }
        Some(seq)
    }

    pub(crate) fn note_loss(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState, seq: u64) {
        self.keep_loss(slot, state, seq);
        slot.lost_at.store(state.noted_as, Ordering::Release);
    }

    /// The same, of a loss that is none of now.
    pub(crate) fn keep_loss(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState, seq: u64) {
        state.lost_to = state.lost_to.max(seq);
        if let Some((lost_to, _)) = &mut state.certain {
            *lost_to = seq.max(*lost_to);
        }
        state.noted_as = self.losses.note(state.noted_as, slot, state.lost_to);
    }

    pub(crate) fn date_loss(&mut self, slot: &TopicSlot) {
        slot.lost_at.store(self.losses.count(), Ordering::Release);
    }

    pub(crate) fn unnote_loss(&mut self, state: &mut TopicState) {
        self.losses.take(std::mem::take(&mut state.noted_as));
    }

    pub(crate) fn forget(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState) {
        self.unnote_loss(state);
        self.kept_bytes -= state.kept_bytes();
        self.bytes -= state.bytes;
        for (seq, event) in state.list.drain(..) {
            event.forget_encodings();
            self.log.take(seq);
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
