//! What a history tells of the sequence as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pushpull_core::{Cursor, CursorStanding, Gap, Topic, Topics};

use super::{Applied, Digest, History, Publish, Record, Seen, Source};

/// The acknowledged events, and what the source held at the end.
pub(super) struct Known<'a> {
    /// Acknowledged publishes that no failover lost, by seq.
    pub(super) acknowledged: BTreeMap<u64, &'a Publish>,
    pub(super) source: Option<&'a Source>,
    retained: HashSet<Cursor>,
    oldest_retained: HashMap<&'a Topic, u64>,
    by_topic: HashMap<&'a Topic, BTreeSet<u64>>,
    /// Topics with a publish that may or may not have been applied.
    uncertain: HashSet<&'a Topic>,
    seen: BTreeMap<u64, &'a Seen>,
}

impl<'a> Known<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let source = history.source.as_ref();
        let mut known = Self {
            acknowledged: BTreeMap::new(),
            source,
            retained: HashSet::new(),
            oldest_retained: HashMap::new(),
            by_topic: HashMap::new(),
            uncertain: HashSet::new(),
            seen: all_seen(history).map(|seen| (seen.cursor.seq(), seen)).collect(),
        };
        history.publishes.iter().for_each(|publish| known.add(publish));
        for seen in source.iter().flat_map(|source| &source.retained) {
            known.retained.insert(seen.cursor);
            let oldest = known.oldest_retained.entry(&seen.topic).or_insert(u64::MAX);
            *oldest = seen.cursor.seq().min(*oldest);
        }
        known
    }

    fn add(&mut self, publish: &'a Publish) {
        match publish.applied {
            Applied::At(cursor) if self.survives(cursor) => {
                self.acknowledged.insert(cursor.seq(), publish);
                self.by_topic.entry(&publish.topic).or_default().insert(cursor.seq());
            }
            Applied::Unknown => {
                self.uncertain.insert(&publish.topic);
            }
            _ => {}
        }
    }

    /// Whether `cursor` lies on the branch that is left.
    pub(super) fn survives(&self, cursor: Cursor) -> bool {
        let epochs = self.source.and_then(|source| source.epochs.as_ref());
        epochs.is_none_or(|epochs| epochs.cursor(cursor.seq()) == cursor)
    }

    /// How much of what lies up to `place` is of the branch that is left.
    pub(super) fn common(&self, place: Cursor) -> u64 {
        let epochs = self.source.and_then(|source| Some((source.epochs.as_ref()?, source.head)));
        match epochs.map(|(epochs, head)| epochs.judge(place, head.seq())) {
            None | Some(CursorStanding::Good) => place.seq(),
            Some(CursorStanding::Rewound(common)) => common,
            Some(CursorStanding::Unknown) => 0,
        }
    }

    pub(super) fn is_retained(&self, cursor: Cursor) -> bool {
        self.retained.contains(&cursor)
    }

    /// Whether retention cannot have dropped what lies at `seq` of `topic`.
    pub(super) fn must_be_retained(&self, topic: &Topic, seq: u64) -> bool {
        let Some(source) = self.source else { return false };
        !source.evicts || self.oldest_retained.get(topic).is_some_and(|oldest| *oldest <= seq)
    }

    /// Whether the source kept everything, as far as is known.
    pub(super) fn evicts(&self) -> bool {
        self.source.is_none_or(|source| source.evicts)
    }

    /// Whether an acknowledged event of `topic` lies after `after` and before `before`.
    pub(super) fn lies_between(&self, topic: &Topic, after: u64, before: u64) -> bool {
        let seqs = self.by_topic.get(topic);
        after + 1 < before && seqs.is_some_and(|seqs| seqs.range(after + 1..before).next().is_some())
    }

    /// Whether `gap` covers something of `topics` that is gone. `None` where nobody can know.
    pub(super) fn is_honest(&self, gap: &Gap, topics: &Topics) -> Option<bool> {
        let source = self.source?;
        if gap.reason.may_fall() {
            let head = source.head;
            let was_good = gap.after.epoch() == head.epoch() && gap.after.seq() <= head.seq();
            return Some(!was_good);
        }
        if self.uncertain.iter().any(|topic| topics.matches(topic)) {
            return None;
        }
        let (after, before) = (gap.after.seq(), gap.before.seq());
        if after + 1 >= before {
            return Some(false);
        }
        let gone = |topic: &Topic, cursor: Cursor| topics.matches(topic) && !self.is_retained(cursor);
        let acknowledged = self.acknowledged.range(after + 1..before).any(
            |(_, publish)| matches!(publish.applied, Applied::At(cursor) if gone(&publish.topic, cursor)),
        );
        let seen = || self.seen.range(after + 1..before).any(|(_, seen)| gone(&seen.topic, seen.cursor));
        Some(acknowledged || seen())
    }

    /// The newest acknowledged event of each topic, or of each key of it, up to `place`.
    pub(super) fn newest(
        &self,
        topics: &Topics,
        place: u64,
        by_key: bool,
    ) -> HashMap<(&'a Topic, Option<&'a str>), (Cursor, Digest)> {
        let mut newest = HashMap::new();
        for publish in self.acknowledged.range(..=place).map(|(_, publish)| *publish) {
            let Applied::At(cursor) = publish.applied else { continue };
            if topics.matches(&publish.topic) && (!by_key || publish.key.is_some()) {
                let key = publish.key.as_deref().filter(|_| by_key);
                newest.insert((&publish.topic, key), (cursor, publish.digest));
            }
        }
        newest
    }
}

/// Every event that anybody saw.
pub(super) fn all_seen(history: &History) -> impl Iterator<Item = &Seen> {
    let records = history.sessions.iter().flat_map(|session| &session.records);
    let delivered = records.filter_map(|record| match record {
        Record::Event(seen) => Some(seen),
        _ => None,
    });
    delivered.chain(history.source.iter().flat_map(|source| &source.retained))
}
