//! The broker-wide log of entries, with holes where a topic's own retention took one out.

use std::{collections::VecDeque, sync::Arc};

use pushpull_core::Event;
use tokio::time::Instant;

use crate::{sparse::Sparse, topics::TopicSlot};

/// Entries in rising seq.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Sparse<Kept>,
    /// When the entries up to a seq came, those behind the one before it; only where somebody asks for their age.
    ages: VecDeque<(u64, Instant)>,
}

/// An entry that is retained.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) event: Event,
    pub(crate) slot: Arc<TopicSlot>,
}

impl Log {
    pub(crate) fn push(&mut self, seq: u64, entry: Kept) {
        self.entries.push(seq, entry);
    }

    /// Notes that what came last, up to `seq`, came `now`.
    pub(crate) fn date(&mut self, seq: u64, now: Instant) {
        let oldest = self.oldest().map_or(seq, |(seq, _)| seq);
        while self.ages.pop_front_if(|(at, _)| *at < oldest).is_some() {}
        self.ages.push_back((seq, now));
    }

    /// The seq up to which all came when `is_old` says, if there is one. It is told once.
    pub(crate) fn take_old(&mut self, is_old: impl Fn(Instant) -> bool) -> Option<u64> {
        let mut old = None;
        while let Some((seq, _)) = self.ages.pop_front_if(|(_, at)| is_old(*at)) {
            old = Some(seq);
        }
        old
    }

    /// Entries retained.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The oldest entry retained.
    pub(crate) fn oldest(&self) -> Option<(u64, &Kept)> {
        self.entries.first()
    }

    /// The topic of the newest entry.
    pub(crate) fn newest_topic(&self) -> Option<&Arc<TopicSlot>> {
        self.entries.last().map(|(_, kept)| &kept.slot)
    }

    /// The event at `seq`, if it is retained.
    pub(crate) fn at(&self, seq: u64) -> Option<&Event> {
        self.entries.get(seq).map(|kept| &kept.event)
    }

    /// Takes the entry at `seq` out.
    pub(crate) fn take(&mut self, seq: u64) -> Option<Kept> {
        self.entries.take(seq)
    }

    /// Takes out the entries after `seq`.
    pub(crate) fn cut(&mut self, seq: u64) {
        self.entries.cut(seq);
        let mut cut = None;
        while let Some((_, at)) = self.ages.pop_back_if(|(known, _)| *known > seq) {
            cut = Some(at);
        }
        // Some of what came then may lie before it.
        self.ages.extend(cut.map(|at| (seq, at)));
    }

    /// The entries after `seq`, in order.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = (u64, &Kept)> {
        self.entries.after(seq)
    }
}
