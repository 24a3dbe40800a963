//! A snapshot: one unit.

use pushpull_core::{Cursor, Start, StartAt, Topics};

use super::{Seen, known::Known, stretch::Stretch};

/// A snapshot that is not complete yet.
pub(super) struct Unit<'a> {
    by_key: bool,
    events: Vec<&'a Seen>,
}

impl<'a> Unit<'a> {
    /// The one that a subscription from `start` begins with.
    pub(super) fn asked_for(start: StartAt) -> Option<Self> {
        match start {
            StartAt::Start(Start::Snapshot) => Some(Self { by_key: true, events: Vec::new() }),
            StartAt::Start(Start::Last) => Some(Self { by_key: false, events: Vec::new() }),
            _ => None,
        }
    }

    /// The one that answers a break in the middle of it.
    pub(super) fn anew(&self) -> Self {
        Self { by_key: self.by_key, events: Vec::new() }
    }

    /// Takes the next event; `false` if it does not come in rising order.
    pub(super) fn take(&mut self, seen: &'a Seen) -> bool {
        let rises = self.events.last().is_none_or(|last| last.cursor.seq() < seen.cursor.seq());
        self.events.push(seen);
        rises
    }

    /// What it lacks or has too much, being complete at `place`.
    pub(super) fn finish(
        &self,
        place: u64,
        known: &Known<'_>,
        topics: &Topics,
        stretch: &Stretch,
    ) -> Vec<Cursor> {
        let newest = known.newest(topics, place, self.by_key);
        let too_much = self.events.iter().filter(|seen| {
            let key = seen.key.as_deref().filter(|_| self.by_key);
            let is_newest = match newest.get(&(&seen.topic, key)) {
                Some((cursor, _)) => cursor.seq() <= seen.cursor.seq(),
                None => true,
            };
            let is_removed = self.by_key && seen.digest.is_empty();
            seen.cursor.seq() > place || !is_newest || is_removed || (self.by_key && seen.key.is_none())
        });
        let too_much = too_much.map(|seen| seen.cursor);
        let lacks = newest.iter().filter_map(|((topic, key), (cursor, digest))| {
            let of_same =
                |seen: &&&Seen| seen.topic == **topic && seen.key.as_deref().filter(|_| self.by_key) == *key;
            let is_there = self.events.iter().find(of_same).is_some();
            let is_removed = self.by_key && digest.is_empty();
            (!is_there && !is_removed && !stretch.is_covered(cursor.seq())).then_some(*cursor)
        });
        too_much.chain(lacks).collect()
    }
}
