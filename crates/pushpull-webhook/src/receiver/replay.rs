//! Which deliveries were taken already.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    New,
    UnderWay,
    Taken,
}

/// Ids under way, and those taken within twice the tolerance: what an older signature could bring again is too old.
pub(super) struct Replay {
    capacity: usize,
    keep: u64,
    /// Whether it was taken, by id.
    ids: HashMap<Arc<str>, Seen>,
    /// Those taken, the oldest first, each with when it was begun (Unix seconds).
    taken: VecDeque<(u64, Arc<str>)>,
    now: u64,
}

impl Replay {
    pub(super) fn new(capacity: usize, tolerance: Duration) -> Self {
        let keep = tolerance.as_secs().saturating_mul(2);
        Self { capacity, keep, ids: HashMap::new(), taken: VecDeque::new(), now: 0 }
    }

    /// Begins to take `id` at `now`, if it is new.
    pub(super) fn begin(&mut self, id: &str, now: u64) -> Seen {
        self.now = now;
        self.expire();
        if let Some(seen) = self.ids.get(id) {
            return *seen;
        }
        self.ids.insert(id.into(), Seen::UnderWay);
        Seen::New
    }

    /// Ends to take `id`, which began as new.
    pub(super) fn end(&mut self, id: &str, is_taken: bool) {
        let Some((id, _)) = self.ids.remove_entry(id) else { return };
        if is_taken {
            self.ids.insert(id.clone(), Seen::Taken);
            self.taken.push_back((self.now, id));
            self.expire();
        }
    }

    fn expire(&mut self) {
        let is_over = |replay: &Self| {
            let oldest =
                replay.taken.front().is_some_and(|(at, _)| at.saturating_add(replay.keep) < replay.now);
            oldest || replay.taken.len() > replay.capacity
        };
        while is_over(self) {
            if let Some((_, id)) = self.taken.pop_front() {
                self.ids.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_until_they_are_too_old_or_too_many() {
        let mut replay = Replay::new(2, Duration::from_secs(300));
        assert_eq!(replay.begin("a", 0), Seen::New);
        assert_eq!(replay.begin("a", 0), Seen::UnderWay);
        replay.end("a", false);
        assert_eq!(replay.begin("a", 0), Seen::New, "it was not taken");
        replay.end("a", true);
        assert_eq!(replay.begin("a", 600), Seen::Taken);
        assert_eq!(replay.begin("a", 601), Seen::New);
        for id in ["a", "b", "c"] {
            replay.begin(id, 601);
            replay.end(id, true);
        }
        assert_eq!(
            [replay.begin("b", 601), replay.begin("c", 601), replay.begin("a", 601)],
            [Seen::Taken, Seen::Taken, Seen::New]
        );
        assert_eq!(replay.ids.len(), 3);
    }
}
