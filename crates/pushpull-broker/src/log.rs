//! The broker-wide log of entries, with holes where a topic's own retention took one out.

use std::{collections::VecDeque, sync::Arc};

use pushpull_core::Event;
use tokio::time::Instant;

use crate::topics::TopicSlot;

/// Entries in rising seq. Sparse: what a topic's own retention took out leaves a hole, and holes are closed
/// before they outnumber the entries.
#[derive(Debug, Default)]
pub(crate) struct Log {
    places: VecDeque<Place>,
    holes: usize,
}

#[derive(Debug)]
struct Place {
    seq: u64,
    at: Instant,
    entry: Option<Kept>,
}

/// An entry that is retained.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) event: Event,
    pub(crate) slot: Arc<TopicSlot>,
}

impl Log {
    pub(crate) fn push(&mut self, seq: u64, at: Instant, entry: Kept) {
        self.places.push_back(Place { seq, at, entry: Some(entry) });
    }

    /// Entries retained.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.holes
    }

    /// The oldest entry retained, and when it came.
    pub(crate) fn oldest(&self) -> Option<(u64, Instant, &Kept)> {
        self.places.front().and_then(|place| Some((place.seq, place.at, place.entry.as_ref()?)))
    }

    /// The event at `seq`, if it is retained.
    pub(crate) fn at(&self, seq: u64) -> Option<&Event> {
        let at = self.places.binary_search_by_key(&seq, |place| place.seq).ok()?;
        self.places[at].entry.as_ref().map(|kept| &kept.event)
    }

    /// Takes the entry at `seq` out.
    pub(crate) fn take_out(&mut self, seq: u64) {
        let Ok(at) = self.places.binary_search_by_key(&seq, |place| place.seq) else { return };
        if self.places[at].entry.take().is_none() {
            return;
        }
        self.holes += 1;
        while self.places.front().is_some_and(|place| place.entry.is_none()) {
            self.places.pop_front();
            self.holes -= 1;
        }
        if self.holes > 1024 && self.holes > self.places.len() / 2 {
            self.places.retain(|place| place.entry.is_some());
            self.holes = 0;
        }
    }

    /// Takes out the entries after `seq`, newest first.
    pub(crate) fn cut(&mut self, seq: u64) {
        while self.places.back().is_some_and(|place| place.seq > seq || place.entry.is_none()) {
            if let Some(Place { entry: None, .. }) = self.places.pop_back() {
                self.holes -= 1;
            }
        }
    }

    /// The entries after `seq`, in order.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = (u64, &Kept)> {
        let start = self.places.partition_point(|place| place.seq <= seq);
        self.places.range(start..).filter_map(|place| Some((place.seq, place.entry.as_ref()?)))
    }
}
