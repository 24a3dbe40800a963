//! Branches: a running hub whose history turns out to be another, and losses that its engine was told of.
//!
//! Nothing here is on the way of an event; but [`Ring::link`], which only an engine asks for that says what came before.

mod left;

use std::sync::{Arc, PoisonError, atomic::Ordering};

use pushpull_core::{Cursor, Epoch, GapReason, Prev};

use crate::{
    hub::Hub,
    ring::Ring,
    topics::{TopicSlot, TopicState},
};

pub(crate) use left::{Branches, Turn};

use left::Branch;

impl Hub {
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The history there is, once nothing changes it.
    pub(crate) fn settled(&self) -> u64 {
        let generation = self.generation();
        if generation.is_multiple_of(2) {
            return generation;
        }
        let _changed = self.ring();
        self.generation()
    }

    /// What `read` finds, all of it in one history.
    pub(crate) fn of_one_history<T>(&self, read: impl Fn() -> T) -> T {
        loop {
            let generation = self.settled();
            let found = read();
            if self.generation() == generation {
                return found;
            }
        }
    }

    /// The cursor of a place of the history of `generation`.
    pub(crate) fn cursor_in(&self, generation: u64, seq: u64) -> Cursor {
        let cursor = self.cursor(seq);
        match self.generation() == generation {
            true => cursor,
            false => self.turn(generation, seq).was,
        }
    }

    /// What became of `place` since `generation`.
    pub(crate) fn turn(&self, generation: u64, place: u64) -> Turn {
        let ring = self.ring();
        let now = self.generation();
        let Some(mut since) = ring.branches.since(generation, now).map(Iterator::peekable) else {
            let (was, place) =
                (Cursor::UNKNOWN, ring.log.oldest().map_or(self.head(), |(seq, _)| seq.saturating_sub(1)));
            return Turn { was, place, reason: Some(GapReason::Reset), generation: now };
        };
        let was = since.peek().map_or_else(|| self.cursor(place), |branch| branch.epochs.cursor(place));
        let mut turn = Turn { was, place, reason: None, generation: now };
        for Branch { reason, common, .. } in since {
            if *reason == GapReason::Reset || *common < turn.place {
                turn.place = *common;
                turn.reason = turn.reason.filter(|known| *known == GapReason::Reset).or(Some(*reason));
            }
        }
        turn
    }

    pub(crate) fn begin(&self, epoch: Epoch, start: u64) {
        let mut ring = self.ring();
        let enter = |ring: &mut Ring| {
            ring.branches.push(epoch, start);
            self.publish_epochs(ring);
        };
        if self.has_begun() && start <= self.head() {
            let common = start.saturating_sub(1);
            self.change(&mut ring, GapReason::Rewound, common, |ring| {
                self.rewind(ring, common);
                enter(ring);
            });
        } else {
            enter(&mut ring);
        }
        self.set_begun();
        drop(ring);
        self.raise_all();
    }

    pub(crate) fn restart(&self, epoch: Epoch, floor: u64, lost_to: u64) {
        let mut ring = self.ring();
        let renew = |ring: &mut Ring| self.renew(ring, epoch, floor, lost_to.max(floor));
        match self.has_begun() {
            true => self.change(&mut ring, GapReason::Reset, floor, renew),
            false => renew(&mut ring),
        }
        self.set_begun();
        drop(ring);
        self.raise_all();
    }

    /// Drops all there is: what follows comes after `floor`, and of what came at or before `lost_to` some may be gone.
    fn renew(&self, ring: &mut Ring, epoch: Epoch, floor: u64, lost_to: u64) {
        self.topics.forget_exactly_to(lost_to);
        let at = ring.losses.count();
        self.patterns.forget_all(|_, _| (lost_to, at));
        ring.clear();
        self.account.keep_again_from(0);
        for slot in self.topics.all() {
            slot.lock().restart(lost_to);
            slot.newest_seq.store(lost_to, Ordering::Release);
            self.topics.remove_idle(&slot);
        }
        ring.branches.starts.clear();
        ring.branches.push(epoch, floor);
        self.publish_epochs(ring);
        self.head.store(floor, Ordering::Release);
    }

    pub(crate) fn complete_to(&self, seq: u64) {
        let _ring = self.ring();
        self.head.fetch_max(seq, Ordering::AcqRel);
    }

    pub(crate) fn lose_to(&self, seq: u64) {
        let mut ring = self.ring();
        self.topics.forget_to(seq);
        let lost_at = ring.losses.count();
        self.patterns.forget_all(|to, at| if to < seq { (seq, lost_at) } else { (to, at) });
        for slot in self.topics.all() {
            let mut state = slot.lock();
            if state.lost_to < seq {
                ring.unnote_loss(&mut state);
                ring.date_loss(&slot);
                state.lose_to(seq);
                slot.newest_seq.fetch_max(seq, Ordering::AcqRel);
            }
        }
        drop(ring);
        self.raise_all();
    }

    fn raise_all(&self) {
        self.topics.raise_all();
        self.patterns.raise_all();
    }

    fn publish_epochs(&self, ring: &Ring) {
        *self.epochs.write().unwrap_or_else(PoisonError::into_inner) = ring.branches.epochs();
    }

    /// Leaves the history there is for the one that `change` makes of it.
    fn change(&self, ring: &mut Ring, reason: GapReason, common: u64, change: impl FnOnce(&mut Ring)) {
        ring.branches.leave(reason, common);
        self.generation.fetch_add(1, Ordering::AcqRel);
        change(ring);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Drops all that lies behind `common`.
    fn rewind(&self, ring: &mut Ring, common: u64) {
        ring.branches.starts.retain(|(_, start)| *start <= common);
        // Before the topics are looked through, since one that comes up meanwhile goes by it.
        self.topics.forget_exactly_to(self.topics.forgotten_to().min(common));
        let slots = self.topics.all();
        // What was lost of the branch that is left, is lost no more; of what lies before it nothing more is known.
        let clipped = slots.iter().filter(|slot| slot.lock().lost_to > common);
        let clipped_at = clipped.map(|slot| slot.lost_at.load(Ordering::Acquire)).max();
        if clipped_at.is_some() {
            self.topics.forget_exactly_to(common);
        }
        self.patterns.forget_all(|to, at| match clipped_at {
            Some(clipped_at) => (common, at.max(clipped_at)),
            None => (to.min(common), at),
        });
        ring.records.clear();
        ring.losses.clear();
        for slot in slots {
            self.rewind_topic(ring, &slot, common, clipped_at.is_some());
            self.topics.remove_idle(&slot);
        }
        ring.log.cut(common);
        ring.fresh.retain(|seq| *seq <= common);
        self.account.keep_again_from(common.saturating_add(1));
        self.head.store(common, Ordering::Release);
    }

    fn rewind_topic(&self, ring: &mut Ring, slot: &Arc<TopicSlot>, common: u64, clipped: bool) {
        let mut state = slot.lock();
        let (bytes, kept_bytes) = (state.bytes, state.kept_bytes());
        state.rewind(common, self.retention.keys);
        ring.bytes = ring.bytes + state.bytes - bytes;
        ring.kept_bytes = ring.kept_bytes + state.kept_bytes() - kept_bytes;
        match state.last_seq {
            // Its record is dropped, and with it what it said of losses.
            0 if state.lost_to > 0 => {
                self.topics.forget_to(state.lost_to);
                self.patterns.forget_to(state.lost_to, slot);
            }
            0 => {}
            seq => {
                ring.records.insert(seq, slot.clone());
                let lost_to = state.lost_to;
                if lost_to > 0 && !(clipped && lost_to == common) {
                    ring.keep_loss(slot, &mut state, lost_to);
                }
            }
        }
        slot.newest_seq.store(state.last_seq.max(state.lost_to), Ordering::Release);
    }
}

impl Ring {
    /// Drops everything.
    fn clear(&mut self) {
        self.log.after(0).for_each(|(_, kept)| kept.event.forget_encodings());
        self.losses.clear();
        let (branches, losses) = (std::mem::take(&mut self.branches), std::mem::take(&mut self.losses));
        *self = Self { branches, losses, published: self.published, ..Self::default() };
    }

    /// Takes `prev`, which came with an event, as evidence of what its topic lost.
    pub(crate) fn link(&mut self, slot: &Arc<TopicSlot>, state: &mut TopicState, prev: Prev) {
        let before = match prev {
            Prev::First => 0,
            Prev::At(cursor) => cursor.seq(),
            Prev::Unknown => return,
        };
        let has_record = state.last_seq > 0;
        if has_record && before <= state.last_seq && state.certain.is_none() {
            return;
        }
        self.unnote_loss(state);
        if let Some((lost_to, forgotten_to)) = state.certain.take() {
            (state.lost_to, state.forgotten_to) = (lost_to, forgotten_to);
        }
        if !has_record {
            (state.lost_to, state.forgotten_to) = (before, before);
        } else if before > state.last_seq {
            (state.lost_to, state.forgotten_to) = (before.max(state.lost_to), before);
        }
        if state.lost_to > 0 {
            let lost_to = state.lost_to;
            match has_record && before <= state.last_seq {
                true => self.keep_loss(slot, state, lost_to),
                false => self.note_loss(slot, state, lost_to),
            }
        }
    }
}

impl TopicState {
    fn restart(&mut self, lost_to: u64) {
        self.list.iter().for_each(|(_, event)| event.forget_encodings());
        *self = Self { removed: self.removed, lost_to, forgotten_to: lost_to, ..Self::default() };
    }

    /// Notes a loss up to `seq` of which nobody knows whether it is this topic's.
    fn lose_to(&mut self, seq: u64) {
        if self.last_seq > 0 {
            self.certain.get_or_insert((self.lost_to, self.forgotten_to));
        }
        (self.lost_to, self.forgotten_to) = (seq, seq);
    }

    /// Goes back to how it was at `common`.
    fn rewind(&mut self, common: u64, keys: usize) {
        self.lost_to = self.lost_to.min(common);
        self.forgotten_to = self.forgotten_to.min(common);
        self.certain = self.certain.map(|(lost, forgotten)| (lost.min(common), forgotten.min(common)));
        if self.last_seq <= common {
            return;
        }
        while let Some((_, event)) = self.list.pop_back_if(|(seq, _)| *seq > common) {
            event.forget_encodings();
            self.bytes -= event.weight() as u64;
        }
        let Some((seq, _)) = self.list.back() else {
            // It is the newest event of none that is retained, so nothing is known for certain.
            *self = Self {
                removed: self.removed,
                lost_to: self.lost_to,
                forgotten_to: self.lost_to,
                ..Self::default()
            };
            return;
        };
        self.last_seq = *seq;
        self.keyed.rewind(common, self.list.iter().map(|(_, event)| event), self.lost_to, keys);
    }
}
