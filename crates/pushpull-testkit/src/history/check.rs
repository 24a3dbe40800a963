//! The checker: what holds of the history as a whole; each session is walked by itself.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use pushpull_core::{Cursor, Prev, Topic};

use super::{
    Applied, Digest, History, Publish, Violation,
    known::{Known, all_seen},
    walk::walk,
};

/// Most violations that a [`Broken`] shows.
const SHOWN: usize = 20;

/// A history that breaks promises.
#[derive(Clone, Debug)]
pub struct Broken {
    /// What is wrong with it; never empty.
    pub violations: Vec<Violation>,
}

/// All that is wrong with `history`: nothing, if every promise was kept.
pub fn check(history: &History) -> Vec<Violation> {
    let known = Known::of(history);
    let mut found = Vec::new();
    check_agreement(history, &mut found);
    check_appends(history, &mut found);
    check_readable(&known, &mut found);
    check_chain(&known, &mut found);
    for session in &history.sessions {
        found.extend(walk(&known, session));
    }
    found
}

impl History {
    /// [`check`]s it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn verify(&self) -> Result<(), Broken> {
        match check(self) {
            violations if violations.is_empty() => Ok(()),
            violations => Err(Broken { violations }),
        }
    }
}

/// The same cursor is the same event to everybody, with the same predecessor.
fn check_agreement(history: &History, found: &mut Vec<Violation>) {
    let mut events: HashMap<Cursor, (&Topic, Digest)> = HashMap::new();
    let mut prevs: HashMap<Cursor, Prev> = HashMap::new();
    let mut told = HashSet::new();
    for publish in &history.publishes {
        if let Applied::At(cursor) = publish.applied {
            let is = (&publish.topic, publish.digest);
            if *events.entry(cursor).or_insert(is) != is && told.insert(cursor) {
                found.push(Violation::Disagreed { cursor });
            }
        }
    }
    for seen in all_seen(history) {
        let is = (&seen.topic, seen.digest);
        let mut differs = *events.entry(seen.cursor).or_insert(is) != is;
        if seen.prev != Prev::Unknown {
            differs |= *prevs.entry(seen.cursor).or_insert(seen.prev) != seen.prev;
        }
        if differs && told.insert(seen.cursor) {
            found.push(Violation::Disagreed { cursor: seen.cursor });
        }
    }
}

/// Every message lies in the sequence as often as it was published, or less if a publish failed.
fn check_appends(history: &History, found: &mut Vec<Violation>) {
    let mut places: HashMap<(&Topic, Digest), BTreeSet<(u64, u64)>> = HashMap::new();
    for seen in all_seen(history) {
        let place = (seen.cursor.epoch().as_u64(), seen.cursor.seq());
        places.entry((&seen.topic, seen.digest)).or_default().insert(place);
    }
    let cursors = |places: &BTreeSet<(u64, u64)>| {
        let cursor = |(epoch, seq): &(u64, u64)| Cursor::new(pushpull_core::Epoch::from_random(*epoch), *seq);
        places.iter().map(cursor).collect::<Vec<_>>()
    };
    let allowed = allowed_appends(history);
    for ((topic, digest), places) in &places {
        let allowed = allowed.get(&(*topic, *digest)).copied().unwrap_or(0);
        if allowed == 0 {
            let invented = cursors(places);
            found.extend(
                invented.into_iter().map(|cursor| Violation::Invented { cursor, topic: (*topic).clone() }),
            );
        } else if places.len() > allowed {
            found.push(Violation::AppendedTwice { topic: (*topic).clone(), cursors: cursors(places) });
        }
    }
    check_acknowledged_once(history, found);
}

/// How often each message may lie in the sequence: repeats of one idempotency id count once.
fn allowed_appends(history: &History) -> HashMap<(&Topic, Digest), usize> {
    let mut ids = HashSet::new();
    let mut allowed = HashMap::new();
    for publish in history.publishes.iter().filter(|publish| publish.applied != Applied::No) {
        if publish.idempotency.as_deref().is_none_or(|id| ids.insert((&publish.topic, id))) {
            *allowed.entry((&publish.topic, publish.digest)).or_default() += 1;
        }
    }
    allowed
}

/// One idempotency id is answered with one cursor.
fn check_acknowledged_once(history: &History, found: &mut Vec<Violation>) {
    let mut answers: HashMap<(&Topic, &Arc<str>), Cursor> = HashMap::new();
    for Publish { topic, idempotency, applied, .. } in &history.publishes {
        if let (Some(id), Applied::At(cursor)) = (idempotency, applied) {
            let first = *answers.entry((topic, id)).or_insert(*cursor);
            if first != *cursor {
                let cursors = vec![first, *cursor];
                found.push(Violation::AppendedTwice { topic: topic.clone(), cursors });
            }
        }
    }
}

/// What was acknowledged is there, unless retention dropped it.
fn check_readable(known: &Known<'_>, found: &mut Vec<Violation>) {
    for (seq, publish) in &known.acknowledged {
        if let Applied::At(cursor) = publish.applied
            && known.must_be_retained(&publish.topic, *seq)
            && !known.is_retained(cursor)
        {
            found.push(Violation::Unreadable { cursor });
        }
    }
}

/// The source's own `prev` is the event before it on its topic.
fn check_chain(known: &Known<'_>, found: &mut Vec<Violation>) {
    let mut newest: HashMap<&Topic, Cursor> = HashMap::new();
    for seen in known.source.iter().flat_map(|source| &source.retained) {
        let before = newest.insert(&seen.topic, seen.cursor);
        let holds = match (seen.prev, before) {
            (Prev::At(prev), Some(before)) => prev == before,
            (Prev::First, before) => before.is_none(),
            _ => true,
        };
        if !holds {
            let (session, cursor, prev) = ("source".into(), seen.cursor, seen.prev);
            found.push(Violation::BrokenChain { session, cursor, prev });
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violations:", self.violations.len())?;
        self.violations.iter().take(SHOWN).try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl std::error::Error for Broken {}
