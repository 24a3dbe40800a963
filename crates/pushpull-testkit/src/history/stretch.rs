//! A stretch of a session within which seq only rises.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pushpull_core::{Conflate, Cursor, Gap, GapReason, Prev, Start, StartAt, Topic};

use super::{Applied, Publish, Seen, Session, Violation, known::Known};

/// What one consumer was told since seq last fell.
#[derive(Default)]
pub(super) struct Stretch {
    /// What lies up to here was not asked for; `None` until it is known.
    pub(super) start: Option<u64>,
    /// The newest place that was told, by an event, a gap or a place.
    pub(super) position: Option<Cursor>,
    newest_event: Option<u64>,
    delivered: HashSet<u64>,
    /// The first and the newest event of each topic.
    by_topic: HashMap<Topic, (u64, Cursor)>,
    newest_of_key: HashMap<(Topic, Arc<str>), u64>,
    /// The gaps, each with the place at which it was told.
    gaps: Vec<(Gap, Option<u64>)>,
}

impl Stretch {
    pub(super) fn starting(start: Option<u64>, position: Option<Cursor>) -> Self {
        Self { start, position, ..Self::default() }
    }

    /// Begins where `gap`, across which seq may fall, says to go on.
    pub(super) fn behind(gap: Gap) -> Self {
        let (start, position) = (Some(gap.cursor.seq()), Some(gap.cursor));
        Self { start, position, gaps: vec![(gap, None)], ..Self::default() }
    }

    pub(super) fn tell(&mut self, gap: Gap) {
        self.gaps.push((gap, self.position.map(Cursor::seq)));
    }

    pub(super) fn forget_gaps(&mut self) {
        self.gaps.clear();
    }

    /// Takes an event in its order, or says what is wrong with it.
    pub(super) fn admit(&mut self, name: &Arc<str>, seen: &Seen) -> Result<(), Violation> {
        let (session, seq, cursor) = (name.clone(), seen.cursor.seq(), seen.cursor);
        if !self.delivered.insert(seq) {
            return Err(Violation::Repeated { session, cursor });
        }
        if let Some(key) = &seen.key {
            let newest = self.newest_of_key.entry((seen.topic.clone(), key.clone())).or_default();
            *newest = seq.max(*newest);
        }
        match (self.newest_event, self.position.map(Cursor::seq)) {
            (Some(from), _) if from > seq => return Err(Violation::Fell { session, from, to: cursor }),
            (_, Some(place)) if place >= seq => {
                return Err(Violation::PlaceAhead { session, place, cursor });
            }
            _ => {}
        }
        self.newest_event = Some(seq);
        self.position = Some(cursor);
        Ok(())
    }

    /// Checks that `prev` links to what was delivered before. Returns what it proves to be missing.
    pub(super) fn link(&mut self, seen: &Seen, known: &Known<'_>, is_earliest: bool) -> Link {
        let seq = seen.cursor.seq();
        let before = self.by_topic.get(&seen.topic).map(|(_, newest)| *newest);
        let jumps = |from| known.survives(seen.cursor) && known.lies_between(&seen.topic, from, seq);
        let link = match seen.prev {
            Prev::Unknown => Link::Holds,
            Prev::First if before.is_some() || jumps(0) => Link::Broken,
            Prev::First => Link::Holds,
            Prev::At(prev) if prev.seq() >= seq || jumps(prev.seq()) => Link::Broken,
            Prev::At(prev) => match before {
                Some(before) if prev == before => Link::Holds,
                Some(before) if prev.seq() <= before.seq() => Link::Broken,
                None if is_earliest && known.evicts() => Link::Holds,
                None if self.start.is_none_or(|start| prev.seq() <= start) => Link::Holds,
                _ if self.is_covered(prev.seq()) => Link::Holds,
                _ => Link::Lacks(prev),
            },
        };
        let first = self.by_topic.get(&seen.topic).map_or(seq, |(first, _)| *first);
        self.by_topic.insert(seen.topic.clone(), (first, seen.cursor));
        link
    }

    /// Whether a gap covers `seq` that was told before the place passed it.
    pub(super) fn is_covered(&self, seq: u64) -> bool {
        self.covering(seq).next().is_some()
    }

    fn covering(&self, seq: u64) -> impl Iterator<Item = &Gap> {
        let covers = move |(gap, told_at): &&(Gap, Option<u64>)| {
            let after = if gap.reason.may_fall() { gap.cursor.seq() } else { gap.after.seq() };
            after < seq && seq < gap.before.seq() && told_at.is_none_or(|place| place < seq)
        };
        self.gaps.iter().filter(covers).map(|(gap, _)| gap)
    }

    /// Whether only what was skipped on purpose may be left out of what is still there.
    fn is_excused(&self, seq: u64, is_retained: bool) -> bool {
        let passes_over = |gap: &Gap| !matches!(gap.reason, GapReason::Evicted | GapReason::Lagged);
        self.covering(seq).any(|gap| !is_retained || passes_over(gap))
    }

    /// The acknowledged events that it should have delivered, and did not.
    pub(super) fn missing(&self, known: &Known<'_>, session: &Session) -> Vec<(Cursor, Topic)> {
        let (Some(start), Some(position)) = (self.start, self.position) else { return Vec::new() };
        let until = known.common(position);
        if start >= until {
            return Vec::new();
        }
        let conflates = session.request.conflate == Conflate::Key;
        let owed = known.acknowledged.range(start + 1..=until).filter_map(|(seq, publish)| {
            let Applied::At(cursor) = publish.applied else { return None };
            let is_missing = !self.delivered.contains(seq)
                && session.request.topics.matches(&publish.topic)
                && !self.is_excused(*seq, known.is_retained(cursor))
                && !self.may_predate(session, publish, cursor, known);
            let is_missing = is_missing && !(conflates && self.is_outdated(publish, *seq, known));
            is_missing.then(|| (cursor, publish.topic.clone()))
        });
        owed.collect()
    }

    /// Whether it may have been evicted before a consumer of the earliest came.
    fn may_predate(&self, session: &Session, publish: &Publish, cursor: Cursor, known: &Known<'_>) -> bool {
        let is_earliest = session.request.start == StartAt::Start(Start::Earliest);
        let first = self.by_topic.get(&publish.topic).map_or(u64::MAX, |(first, _)| *first);
        let until = session.began_at.map_or(u64::MAX, |head| head.seq() + 1).min(first);
        is_earliest && known.evicts() && !known.is_retained(cursor) && cursor.seq() < until
    }

    /// Whether a newer event of its key was delivered, or is covered by a gap.
    fn is_outdated(&self, publish: &Publish, seq: u64, known: &Known<'_>) -> bool {
        let Some(key) = &publish.key else { return false };
        let delivered = self.newest_of_key.get(&(publish.topic.clone(), key.clone()));
        delivered.is_some_and(|newest| *newest > seq)
            || known.acknowledged.range(seq + 1..).any(|(seq, newer)| {
                newer.topic == publish.topic && newer.key.as_ref() == Some(key) && self.is_covered(*seq)
            })
    }
}

/// What the `prev` of an event proves.
pub(super) enum Link {
    Holds,
    Broken,
    /// This event should have been delivered.
    Lacks(Cursor),
}
