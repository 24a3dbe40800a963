//! The newest event of each key of a topic, kept apart from the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use pushpull_core::Event;

/// The newest event of each key, up to a number of keys; beyond it the oldest key is dropped.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    newest: HashMap<Arc<str>, Event>,
    /// Keys by the seq at which they were set, oldest first; entries of keys set again later are stale.
    order: VecDeque<(u64, Arc<str>)>,
    lost_to: u64,
}

impl Keyed {
    /// Takes `event` if it has a key; an empty payload removes the key. Returns by how many bytes what is
    /// kept grew and shrank.
    pub(crate) fn take(&mut self, event: &Event, limit: usize) -> (u64, u64) {
        let Some(key) = event.message().shared_key() else { return (0, 0) };
        let mut freed = weight(self.put(key, event));
        if event.payload().is_empty() {
            return (0, freed);
        }
        self.order.push_back((event.cursor().seq(), key.clone()));
        freed += self.drop_beyond(limit);
        if self.order.len() > 2 * self.newest.len() + 64 {
            self.order.retain(|(seq, key)| self.newest.get(key).is_some_and(|e| e.cursor().seq() == *seq));
        }
        (event.weight() as u64, freed)
    }

    /// Sets `key`, or removes it. Returns what it was.
    fn put(&mut self, key: &Arc<str>, event: &Event) -> Option<Event> {
        match event.payload().is_empty() {
            true => self.newest.remove(key),
            false => self.newest.insert(key.clone(), event.clone()),
        }
    }

    fn drop_beyond(&mut self, limit: usize) -> u64 {
        let mut freed = 0;
        while self.newest.len() > limit {
            freed += self.drop_oldest();
        }
        freed
    }

    fn drop_oldest(&mut self) -> u64 {
        while let Some((seq, key)) = self.order.pop_front() {
            if self.newest.get(&key).is_some_and(|event| event.cursor().seq() == seq) {
                // A rewind may have set it to a place behind this one.
                self.lost_to = self.lost_to.max(seq);
                return weight(self.newest.remove(&key));
            }
        }
        0
    }

    /// Goes back to how it was at `common`: `retained` are the topic's retained events up to there, and those up to
    /// `evicted_to` are not. What a key was before a change behind `common` is known only if it is retained.
    pub(crate) fn rewind<'a>(
        &mut self,
        common: u64,
        retained: impl Iterator<Item = &'a Event>,
        evicted_to: u64,
        limit: usize,
    ) {
        self.newest.retain(|_, event| event.cursor().seq() <= common);
        self.lost_to = self.lost_to.min(common).max(evicted_to);
        for event in retained {
            event.message().shared_key().map(|key| self.put(key, event));
        }
        // Only now: by the old order the newest keys could be dropped.
        let mut order: Vec<_> = self.newest.iter().map(|(key, e)| (e.cursor().seq(), key.clone())).collect();
        order.sort_unstable_by_key(|(seq, _)| *seq);
        self.order = order.into();
        self.drop_beyond(limit);
    }

    /// The newest event of each key, in no order.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.newest.values()
    }

    /// Keys last set at or before this seq may have been dropped.
    pub(crate) fn lost_to(&self) -> u64 {
        self.lost_to
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.newest.values().map(|event| event.weight() as u64).sum()
    }
}

fn weight(event: Option<Event>) -> u64 {
    event.map_or(0, |event| event.weight() as u64)
}

#[cfg(test)]
mod tests {
    use pushpull_core::{Cursor, Epoch, EventParts, Message, Prev};

    use super::*;

    fn event(seq: u64, key: &str, payload: &'static str) -> Event {
        Event::new(EventParts {
            topic: "a".parse().unwrap(),
            cursor: Cursor::new(Epoch::from_random(1), seq),
            prev: Prev::Unknown,
            time_ms: 0,
            message: Message::new(payload).with_key(key),
        })
    }

    fn seqs(keyed: &Keyed) -> Vec<u64> {
        let mut seqs: Vec<_> = keyed.events().map(|event| event.cursor().seq()).collect();
        seqs.sort_unstable();
        seqs
    }

    #[test]
    fn the_oldest_key_is_dropped_and_an_empty_payload_removes() {
        let mut keyed = Keyed::default();
        for (seq, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            keyed.take(&event(seq, key, "x"), 2);
        }
        assert_eq!((seqs(&keyed), keyed.lost_to()), (vec![3, 4], 2));
        keyed.take(&event(5, "a", ""), 2);
        assert_eq!((seqs(&keyed), keyed.lost_to()), (vec![4], 2));
    }

    fn rewound(keyed: &mut Keyed, common: u64, retained: &[Event], evicted_to: u64, limit: usize) {
        keyed.rewind(common, retained.iter(), evicted_to, limit);
    }

    #[test]
    fn what_a_rewind_made_doubtful_stays_so_when_an_older_key_is_dropped() {
        let mut keyed = Keyed::default();
        let before = [event(1, "i", "x"), event(3, "j", "x")];
        before.iter().for_each(|event| _ = keyed.take(event, 3));
        keyed.take(&event(6, "j", "x"), 3);
        rewound(&mut keyed, 5, &[], 3, 3);
        assert_eq!((seqs(&keyed), keyed.lost_to()), (vec![1], 3));
        [6, 7, 8].iter().for_each(|seq| _ = keyed.take(&event(*seq, &seq.to_string(), "x"), 3));
        assert_eq!((seqs(&keyed), keyed.lost_to()), (vec![6, 7, 8], 3), "`j`, set at 3, is missing");
    }

    #[test]
    fn a_rewind_drops_the_oldest_keys() {
        let mut keyed = Keyed::default();
        let retained = [event(2, "c", "x"), event(4, "b", "x"), event(5, "a", "x")];
        retained.iter().for_each(|event| _ = keyed.take(event, 2));
        keyed.take(&event(6, "d", "x"), 2);
        rewound(&mut keyed, 5, &retained, 0, 2);
        assert_eq!(
            (seqs(&keyed), keyed.lost_to()),
            (vec![4, 5], 4),
            "of `b` it is only known that it was dropped"
        );
        let removed = [event(4, "b", "x"), event(5, "b", "")];
        rewound(&mut keyed, 5, &removed, 0, 2);
        assert_eq!((seqs(&keyed), keyed.lost_to()), (vec![5], 4));
    }

    #[test]
    fn bytes_are_accounted_and_stale_places_go() {
        let mut keyed = Keyed::default();
        let mut held = 0;
        for seq in 1..1000 {
            let (grown, freed) = keyed.take(&event(seq, ["a", "b", "c"][seq as usize % 3], "payload"), 2);
            held = held + grown - freed;
        }
        assert_eq!(held, keyed.bytes());
        assert!(keyed.order.len() <= 2 * 2 + 65);
    }
}
