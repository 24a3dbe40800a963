//! The checker is proved by histories that are good, and by what is found once they are spoilt.

mod model;

use model::{Model, Step};
use proptest::prelude::*;
use pushpull_core::{Cursor, Gap, GapReason, Prev, Start, Subscribe, View};

use super::{Applied, Digest, History, Record, Seen, Session, Violation, check};

fn requests() -> Vec<Subscribe> {
    let to = |pattern: &str| Subscribe::to(pattern).unwrap();
    vec![
        to("t.>").from(Start::Earliest),
        to("t.0").and("t.1").unwrap(),
        to("t.*").from(Start::Snapshot),
        to("t.0").from(Start::Earliest).conflate_by_key(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let publish = (0..3u8, proptest::option::of(0..3u8), proptest::bool::weighted(0.1));
    prop_oneof![
        6 => publish.prop_map(|(topic, key, empties)| Step::Publish { topic, key, empties }),
        1 => Just(Step::Repeat),
        5 => (0..4usize, 1..5usize).prop_map(|(reader, limit)| Step::Read { reader, limit }),
        1 => (0..4usize).prop_map(|reader| Step::Reconnect { reader }),
    ]
}

fn run(retains: usize, steps: &[Step]) -> History {
    let mut model = Model::new(retains, &requests());
    // Everybody comes first; then something is there to be lost or repeated.
    (0..4).for_each(|reader| model.step(&Step::Read { reader, limit: 1 }));
    (0..4)
        .for_each(|topic| model.step(&Step::Publish { topic: topic % 3, key: Some(topic), empties: false }));
    steps.iter().for_each(|step| model.step(step));
    model.finish()
}

/// Histories of a source that keeps everything.
fn whole() -> impl Strategy<Value = History> {
    proptest::collection::vec(step(), 20..80).prop_map(|steps| run(usize::MAX, &steps))
}

/// Histories in which the last events of a topic were evicted before anybody read them.
fn evicting() -> impl Strategy<Value = History> {
    proptest::collection::vec(step(), 20..80).prop_map(|mut steps| {
        steps.extend((0..8).map(|_| Step::Publish { topic: 0, key: None, empties: false }));
        run(4, &steps)
    })
}

fn events(session: &Session) -> Vec<usize> {
    let is_plain = |(at, record): (usize, &Record)| {
        matches!(record, Record::Event(seen) if seen.view != View::Snapshot).then_some(at)
    };
    session.records.iter().enumerate().filter_map(is_plain).collect()
}

fn seen(session: &Session, at: usize) -> Seen {
    match &session.records[at] {
        Record::Event(seen) => seen.clone(),
        other => panic!("no event: {other:?}"),
    }
}

/// The first session, and one of its events by a random number. It reads all there is.
fn pick(history: &mut History, random: usize) -> (&mut Session, usize) {
    let session = &mut history.sessions[0];
    let events = events(session);
    (session, events[random % events.len()])
}

fn only_cursors(found: &[Violation], cursor: Cursor) -> bool {
    found.iter().any(|violation| matches!(violation, Violation::Missing { cursor: c, .. } if *c == cursor))
}

fn finds(history: &History, expected: &Violation) -> Result<(), TestCaseError> {
    let found = check(history);
    prop_assert!(found.contains(expected), "no {:?} among {:?}", expected, found);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_good_history_is_clean(history in prop_oneof![whole(), evicting()]) {
        prop_assert_eq!(check(&history), []);
    }

    #[test]
    fn a_failover_that_is_told_is_clean(
        before in proptest::collection::vec(step(), 5..40),
        loses in 1..6usize,
        after in proptest::collection::vec(step(), 5..40),
        retains in prop_oneof![Just(4), Just(usize::MAX)],
    ) {
        let steps: Vec<_> = before.into_iter().chain([Step::Failover { loses }]).chain(after).collect();
        prop_assert_eq!(check(&run(retains, &steps)), []);
    }

    #[test]
    fn a_dropped_event_is_missing(mut history in whole(), random: usize) {
        let (session, at) = pick(&mut history, random);
        let dropped = seen(session, at).cursor;
        session.records.remove(at);
        prop_assert!(only_cursors(&check(&history), dropped), "{:?}", check(&history));
    }

    #[test]
    fn a_dropped_event_is_proved_missing_by_its_successor(mut history in whole(), random: usize) {
        // Nobody knows that it was published: its publisher never got an answer.
        let (session, at) = pick(&mut history, random);
        let dropped = seen(session, at);
        let later = events(session).into_iter().filter(|later| *later > at);
        let has_successor = later.map(|at| seen(session, at)).any(|other| other.topic == dropped.topic);
        prop_assume!(has_successor);
        session.records.remove(at);
        for publish in history.publishes.iter_mut().filter(|p| p.applied == Applied::At(dropped.cursor)) {
            publish.applied = Applied::Unknown;
        }
        prop_assert!(only_cursors(&check(&history), dropped.cursor));
    }

    #[test]
    fn a_repeated_event_is_found(mut history in whole(), random: usize) {
        let (session, at) = pick(&mut history, random);
        let (name, cursor) = (session.name.clone(), seen(session, at).cursor);
        session.records.push(session.records[at].clone());
        finds(&history, &Violation::Repeated { session: name, cursor })?;
    }

    #[test]
    fn swapped_events_fall(mut history in whole(), random: usize) {
        let session = &mut history.sessions[0];
        let pairs: Vec<usize> = events(session).windows(2).filter(|w| w[0] + 1 == w[1]).map(|w| w[0]).collect();
        prop_assume!(!pairs.is_empty());
        let at = pairs[random % pairs.len()];
        session.records.swap(at, at + 1);
        let (session, from, to) = (session.name.clone(), seen(session, at).cursor.seq(), seen(session, at + 1).cursor);
        finds(&history, &Violation::Fell { session, from, to })?;
    }

    #[test]
    fn an_invented_event_is_found(mut history in whole()) {
        let head = history.source.as_ref().unwrap().head;
        let (session, at) = pick(&mut history, 0);
        let mut invented = seen(session, at);
        invented.cursor = Cursor::new(head.epoch(), head.seq() + 1);
        (invented.digest, invented.prev) = (Digest::of(b"nobody's"), Prev::Unknown);
        let (cursor, topic) = (invented.cursor, invented.topic.clone());
        session.records.push(Record::Event(invented));
        prop_assert_eq!(check(&history), [Violation::Invented { cursor, topic }]);
    }

    #[test]
    fn a_wrong_prev_breaks_the_chain(mut history in whole(), random: usize, to_first: bool) {
        let (session, at) = pick(&mut history, random);
        let Record::Event(seen) = &mut session.records[at] else { unreachable!() };
        let wrong = if to_first { Prev::First } else { Prev::At(seen.cursor) };
        prop_assume!(seen.prev != Prev::First || !to_first);
        seen.prev = wrong;
        let (cursor, session) = (seen.cursor, session.name.clone());
        finds(&history, &Violation::BrokenChain { session, cursor, prev: wrong })?;
    }

    #[test]
    fn a_hidden_gap_is_found(mut history in evicting()) {
        let session = &mut history.sessions[0];
        let gaps = session.gaps().count();
        prop_assert!(gaps > 0);
        session.records.retain(|record| !matches!(record, Record::Gap(_)));
        let found = check(&history);
        prop_assert!(found.iter().any(|violation| matches!(violation, Violation::Missing { .. })), "{found:?}");
    }

    #[test]
    fn a_gap_told_too_late_does_not_count(mut history in evicting()) {
        let session = &mut history.sessions[0];
        let at = session.records.iter().rposition(|record| matches!(record, Record::Gap(_))).unwrap();
        let gap = session.records.remove(at);
        session.records.push(gap);
        let found = check(&history);
        prop_assert!(found.iter().any(|violation| matches!(violation, Violation::Missing { .. })), "{found:?}");
    }

    #[test]
    fn a_gap_hides_nothing_that_is_there(mut history in evicting()) {
        let head = history.source.as_ref().unwrap().head;
        let session = &mut history.sessions[0];
        let at = session.records.iter().rposition(|record| matches!(record, Record::Gap(_))).unwrap();
        let Record::Gap(gap) = &mut session.records[at] else { unreachable!() };
        gap.before = Cursor::new(head.epoch(), head.seq() + 1);
        let dropped = events(session).into_iter().rfind(|event| *event > at).unwrap();
        let cursor = seen(session, dropped).cursor;
        session.records.remove(dropped);
        prop_assert!(only_cursors(&check(&history), cursor), "{:?}", check(&history));
    }

    #[test]
    fn a_gap_for_nothing_is_found(mut history in whole(), random: usize, is_reset: bool) {
        let (session, at) = pick(&mut history, random);
        let next = seen(session, at).cursor;
        let before = Cursor::new(next.epoch(), next.seq() + 1);
        let after = Cursor::new(next.epoch(), next.seq() - 1);
        let reason = if is_reset { GapReason::Reset } else { GapReason::Evicted };
        let gap = Gap::new(after, before, after, reason);
        session.records.insert(at, Record::Gap(gap));
        let session = session.name.clone();
        finds(&history, &Violation::GapForNothing { session, gap })?;
    }

    #[test]
    fn a_place_told_too_early_is_found(mut history in whole(), random: usize) {
        let (session, at) = pick(&mut history, random);
        let cursor = seen(session, at).cursor;
        session.records.insert(at, Record::Place(cursor));
        let expected = Violation::PlaceAhead { session: session.name.clone(), place: cursor.seq(), cursor };
        finds(&history, &expected)?;
    }

    #[test]
    fn a_place_that_falls_is_found(mut history in whole()) {
        let session = &mut history.sessions[0];
        let Some(Record::Place(to)) = session.records.first().cloned() else { panic!("no first word") };
        session.records.push(Record::Place(to));
        let found = check(&history);
        let fell = |v: &Violation| matches!(v, Violation::Fell { to: fell_to, .. } if *fell_to == to);
        prop_assert!(found.iter().any(fell), "{found:?}");
    }

    #[test]
    fn consumers_that_see_different_events_disagree(mut history in whole(), random: usize, prev_only: bool) {
        let (session, at) = pick(&mut history, random);
        let Record::Event(seen) = &mut session.records[at] else { unreachable!() };
        let cursor = seen.cursor;
        match prev_only {
            true => seen.prev = Prev::At(Cursor::new(cursor.epoch(), cursor.seq() + 99)),
            false => seen.digest = Digest::of(b"another"),
        }
        finds(&history, &Violation::Disagreed { cursor })?;
    }

    #[test]
    fn an_acknowledged_event_that_is_gone_is_unreadable(mut history in whole(), random: usize) {
        let retained = &mut history.source.as_mut().unwrap().retained;
        let at = random % retained.len();
        let cursor = retained.remove(at).cursor;
        finds(&history, &Violation::Unreadable { cursor })?;
    }

    #[test]
    fn a_hole_in_what_is_retained_is_no_eviction(mut history in evicting()) {
        let retained = &mut history.source.as_mut().unwrap().retained;
        let cursor = retained.pop().unwrap().cursor;
        finds(&history, &Violation::Unreadable { cursor })?;
    }

    #[test]
    fn two_answers_to_one_id_are_two_appends(mut history in whole(), random: usize) {
        let at = random % history.publishes.len();
        let mut again = history.publishes[at].clone();
        let Applied::At(first) = again.applied else { unreachable!() };
        let head = history.source.as_ref().unwrap().head;
        let second = Cursor::new(head.epoch(), head.seq() + 1);
        again.applied = Applied::At(second);
        let expected = Violation::AppendedTwice { topic: again.topic.clone(), cursors: vec![first, second] };
        history.publishes.push(again);
        finds(&history, &expected)?;
    }

    #[test]
    fn a_message_that_lies_there_twice_was_appended_twice(mut history in whole(), random: usize) {
        let head = history.source.as_ref().unwrap().head;
        let (session, at) = pick(&mut history, random);
        let mut again = seen(session, at);
        prop_assume!(!again.digest.is_empty());
        (again.cursor, again.prev) = (Cursor::new(head.epoch(), head.seq() + 1), Prev::Unknown);
        let topic = again.topic.clone();
        let cursors = vec![seen(session, at).cursor, again.cursor];
        session.records.push(Record::Event(again));
        prop_assert_eq!(check(&history), [Violation::AppendedTwice { topic, cursors }]);
    }

    #[test]
    fn a_consumer_that_stops_early_is_behind(mut history in whole()) {
        let session = &mut history.sessions[0];
        let last = events(session).into_iter().next_back().unwrap();
        let cursor = seen(session, last).cursor;
        session.records.truncate(last);
        let session = session.name.clone();
        prop_assert_eq!(check(&history), [Violation::Behind { session, cursor }]);
    }

    #[test]
    fn an_event_before_the_first_word_is_found(mut history in whole(), random: usize, resumes: bool) {
        let session = &mut history.sessions[1];
        let events = events(session);
        let at = events[random % events.len()];
        let cursor = seen(session, at).cursor;
        let before: Vec<_> = session.records.drain(..at).collect();
        if resumes {
            // A second subscription whose first word is missing.
            let place = before.iter().rev().find_map(|record| match record {
                Record::Event(seen) => Some(seen.cursor),
                Record::Place(place) => Some(*place),
                _ => None,
            });
            let resume = Record::Resume(place.unwrap().into());
            session.records.splice(0..0, before.into_iter().chain([resume]));
        }
        let session = session.name.clone();
        finds(&history, &Violation::NoFirstWord { session, cursor })?;
    }

    #[test]
    fn an_event_of_another_topic_was_not_asked_for(mut history in whole()) {
        let (other, at) = pick(&mut history, 0);
        let stray = seen(other, at);
        let session = &mut history.sessions[1];
        session.request = Subscribe::to("t.other").unwrap();
        session.records = vec![Record::Place(stray.cursor), Record::Event(stray.clone())];
        let (session, cursor, topic) = (session.name.clone(), stray.cursor, stray.topic);
        finds(&history, &Violation::Unasked { session, cursor, topic })?;
    }

    #[test]
    fn a_snapshot_is_a_unit(steps in proptest::collection::vec(step(), 0..40), spoils in 0..3usize) {
        let mut model = Model::new(usize::MAX, &[Subscribe::to("t.>").unwrap().from(Start::Snapshot)]);
        let publish = |key, topic| Step::Publish { topic, key: Some(key), empties: false };
        [publish(0, 0), publish(1, 1), publish(0, 0)].iter().for_each(|step| model.step(step));
        steps.iter().filter(|step| matches!(step, Step::Publish { .. })).for_each(|step| model.step(step));
        [publish(2, 2), publish(1, 1)].iter().for_each(|step| model.step(step));
        let mut history = model.finish();
        prop_assert_eq!(check(&history), []);
        let records = &mut history.sessions[0].records;
        let at = records.iter().rposition(|r| matches!(r, Record::Event(seen) if seen.view == View::Snapshot));
        let Record::Event(last) = records[at.unwrap()].clone() else { unreachable!() };
        let cursor = match spoils {
            0 => {
                records.remove(at.unwrap());
                last.cursor
            }
            1 => {
                let Record::Event(live) = &mut records[at.unwrap()] else { unreachable!() };
                live.view = View::Plain;
                last.cursor
            }
            _ => {
                let stale = history.source.as_ref().unwrap().retained[0].clone();
                let cursor = stale.cursor;
                let broken = records.iter().rposition(|r| matches!(r, Record::Broken)).map_or(0, |at| at + 1);
                records.insert(broken, Record::Event(Seen { view: View::Snapshot, ..stale }));
                cursor
            }
        };
        let session = history.sessions[0].name.clone();
        finds(&history, &Violation::TornSnapshot { session, cursor })?;
    }
}

#[test]
fn a_conflated_consumer_owes_the_newest_of_each_key() {
    let request = Subscribe::to("t.0").unwrap().from(Start::Earliest).conflate_by_key();
    let mut model = Model::new(usize::MAX, &[request]);
    model.step(&Step::Read { reader: 0, limit: 1 });
    for key in [0, 1, 0, 1] {
        model.step(&Step::Publish { topic: 0, key: Some(key), empties: false });
    }
    let mut history = model.finish();
    assert_eq!((check(&history), history.sessions[0].events()), (vec![], 2));
    let at = events(&history.sessions[0])[0];
    let cursor = seen(&history.sessions[0], at).cursor;
    history.sessions[0].records.remove(at);
    assert!(only_cursors(&check(&history), cursor));
}
