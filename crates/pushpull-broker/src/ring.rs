//! The ring: the log, and what each topic lost, as one append changes them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use pushpull_core::{EncodingAccount, Pattern, Topics as Wanted};

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
    /// The topic of the newest event, if it is known.
    pub(crate) current: Option<Arc<TopicSlot>>,
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

    /// Adds `kept`, the newest of all, to its topic.
    pub(crate) fn append(&mut self, kept: Kept, state: &mut TopicState, keys: usize) {
        let Kept { event, slot } = &kept;
        let (seq, weight) = (event.cursor().seq(), event.weight() as u64);
        if state.last_seq == 0 {
            self.records.insert(seq, slot.clone());
        }
        let replaced = state.newest().map_or(0, |event| event.weight() as u64);
        let (grown, freed) = state.keyed.take(event, keys);
        self.kept_bytes = self.kept_bytes + weight + grown - replaced - freed;
        state.last_seq = seq;
        state.bytes += weight;
        state.outlived = None;
        state.list.push_back((seq, event.clone()));
        self.bytes += weight;
        self.published += 1;
        self.fresh.push_back(seq);
        slot.newest_seq.store(seq, Ordering::Release);
        self.log.push(seq, kept);
    }

    pub(crate) fn evict_oldest(&mut self) -> bool {
        let Some((_, kept)) = self.log.oldest() else { return false };
        let slot = kept.slot.clone();
        let mut state = slot.lock();
        if let Some(seq) = self.drop_oldest(&mut state) {
            self.note_loss(&slot, &mut state, seq);
        }
        true
    }

    /// Takes the oldest event of a topic out of its list and out of the log. Returns its seq, a loss to be noted.
    pub(crate) fn drop_oldest(&mut self, state: &mut TopicState) -> Option<u64> {
        let (seq, kept) = self.take_oldest(state)?;
        kept.inspect(|kept| kept.event.forget_encodings());
        Some(seq)
    }

    /// The same, and what the log had. Its encodings are not forgotten.
    pub(crate) fn take_oldest(&mut self, state: &mut TopicState) -> Option<(u64, Option<Kept>)> {
        let (seq, event) = state.list.pop_front()?;
        let weight = event.weight() as u64;
        state.bytes -= weight;
        self.bytes -= weight;
        let kept = self.log.take(seq);
        if state.list.is_empty() {
            state.outlived = Some(event);
        }
        Some((seq, kept))
    }

    /// Holds how many events keep their encodings, `most`, which are counted in `account`, and their `bytes`.
    pub(crate) fn keep_fresh(&mut self, account: &EncodingAccount, most: usize, bytes: u64) {
        // Several at once, since whoever reads has to be told.
        if self.fresh.len() > most + (most / 64).min(64) {
            self.forget_oldest(account, self.fresh.len() - most);
        }
        while account.bytes() > bytes && !self.fresh.is_empty() {
            self.forget_oldest(account, 1);
        }
    }

    /// Has so many more events keep no encodings.
    fn forget_oldest(&mut self, account: &EncodingAccount, count: usize) {
        let mut oldest = self.fresh.drain(..count);
        let (Some(first), last) = (oldest.next(), oldest.next_back()) else { return };
        let last = last.unwrap_or(first);
        if account.keep_from(last + 1) {
            let old = self.log.after(first.saturating_sub(1)).take_while(|(seq, _)| *seq <= last);
            old.for_each(|(_, kept)| kept.event.forget_encodings());
        }
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
