//! Conflation: of the events that wait, only the newest of each (topic, key).

use std::collections::{HashMap, HashSet};

use pushpull_core::{Event, Prev, View};

/// How many waiting events conflation looks at.
pub(crate) const WINDOW: usize = 10_000;

/// An event that conflation let through, and how many it left out since the one before.
#[derive(Debug)]
pub(crate) struct Survivor {
    pub(crate) event: Event,
    pub(crate) left_out: u64,
}

/// Thins `waiting`, which is in rising order. Keyless events all survive. An event keeps its `prev` only if
/// the event before it on its topic survived too; of one that is not among `waiting`, `was_left_out` says
/// by its seq whether it may have been left out before.
pub(crate) fn by_key(waiting: Vec<Event>, was_left_out: impl Fn(u64) -> bool) -> Vec<Survivor> {
    let survives = mark_newest(&waiting);
    let mut broken: HashMap<String, bool> = HashMap::new();
    let mut survivors = Vec::new();
    let mut left_out = 0;
    for (event, survives) in waiting.into_iter().zip(survives) {
        let was_broken = match broken.get_mut(event.topic().as_str()) {
            Some(known) => std::mem::replace(known, !survives),
            None => {
                broken.insert(event.topic().as_str().to_owned(), !survives);
                matches!(event.prev(), Prev::At(prev) if was_left_out(prev.seq()))
            }
        };
        if survives {
            let event = if was_broken { event.shown(View::Thinned) } else { event };
            survivors.push(Survivor { event, left_out });
            left_out = 0;
        } else {
            left_out += 1;
        }
    }
    survivors
}

fn mark_newest(waiting: &[Event]) -> Vec<bool> {
    let mut seen = HashSet::new();
    let mut newest: Vec<bool> = waiting
        .iter()
        .rev()
        .map(|event| event.key().is_none_or(|key| seen.insert((event.topic().as_str(), key))))
        .collect();
    newest.reverse();
    newest
}

#[cfg(test)]
mod tests {
    use pushpull_core::{Cursor, Epoch, EventParts, Message};

    use super::*;

    fn waiting(events: &[(&str, Option<&str>)]) -> Vec<Event> {
        let epoch = Epoch::from_random(1);
        let make = |(n, (topic, key)): (usize, &(&str, Option<&str>))| {
            let message = Message::text("x");
            Event::new(EventParts {
                topic: topic.parse().unwrap(),
                cursor: Cursor::new(epoch, n as u64 + 1),
                prev: Prev::At(Cursor::new(epoch, n as u64)),
                time_ms: 0,
                message: match key {
                    Some(key) => message.with_key(*key),
                    None => message,
                },
            })
        };
        events.iter().enumerate().map(make).collect()
    }

    fn outcome(events: &[(&str, Option<&str>)]) -> Vec<(u64, u64, bool)> {
        let survivors = by_key(waiting(events), |_| false);
        survivors
            .iter()
            .map(|s| (s.event.cursor().seq(), s.left_out, s.event.view() == View::Thinned))
            .collect()
    }

    #[test]
    fn the_newest_of_each_topic_and_key_survives() {
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(
            outcome(&[("x", a), ("y", a), ("x", b), ("x", a)]),
            [(2, 1, false), (3, 0, true), (4, 0, false)]
        );
        assert_eq!(outcome(&[("x", None), ("x", None)]), [(1, 0, false), (2, 0, false)]);
        assert_eq!(outcome(&[("x", a), ("x", None), ("x", a), ("x", a)]), [(2, 1, true), (4, 1, true)]);
        assert_eq!(outcome(&[]), []);
    }
}
