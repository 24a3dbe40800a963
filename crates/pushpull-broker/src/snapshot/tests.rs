use pushpull_core::{Epoch, Message, Subscribe};

use super::*;
use crate::{Entry, Retention};

fn hub(retention: Retention) -> Hub {
    let hub = Hub::new(retention);
    hub.begin(Epoch::from_random(1), 1);
    hub
}

fn publish(hub: &Hub, topics: &[&str]) {
    for topic in topics {
        let message = Message::text("x").with_key("k");
        let entry = Entry::new(hub.head() + 1, 0, topic.parse().unwrap(), message);
        hub.announce(&hub.ingest(vec![entry]));
    }
}

/// What a snapshot of `patterns` has if `meanwhile` is published behind its first pass: its seqs, its place, and up to
/// where some may be missing.
fn taken(hub: &Hub, patterns: [&str; 2], start: Start, meanwhile: &[&str]) -> (Vec<u64>, u64, u64) {
    let wanted = Subscribe::to(patterns[0]).unwrap().and(patterns[1]).unwrap().topics;
    let interest = hub.interest(&wanted);
    let mut collecting = Collecting::new(hub, &interest, &wanted, start);
    let (noted, before) = (hub.ring().losses.noted(), hub.head());
    collecting.take_all().unwrap();
    publish(hub, meanwhile);
    let changed = collecting.changed_since(&hub.ring(), before, noted);
    collecting.catch_up(changed).unwrap();
    assert!(collecting.reached <= hub.head());
    let held = collecting.held;
    let snapshot = collecting.finish(hub.head());
    let seqs: Vec<_> = snapshot.events.iter().map(|event| event.cursor().seq()).collect();
    assert_eq!(held, seqs.len(), "what is held is counted");
    (seqs, snapshot.place, snapshot.lost_to)
}

#[test]
fn what_changed_meanwhile_is_collected_again_and_what_came_up_too() {
    for start in [Start::Last, Start::Snapshot] {
        for patterns in ["*", "b"].map(|other| ["a", other]) {
            let hub = hub(Retention::default().with_messages(1));
            publish(&hub, &["a", "b", "c.x"]);
            assert_eq!(taken(&hub, patterns, start, &[]), (vec![1, 2], 3, 0));
            assert_eq!(taken(&hub, patterns, start, &["a", "c.x", "a"]), (vec![2, 6], 6, 0));
        }
        let hub = hub(Retention::default());
        publish(&hub, &["a"]);
        assert_eq!(taken(&hub, ["a", "*"], start, &["b", "c"]), (vec![1, 2, 3], 3, 0));
    }
}

#[test]
fn what_is_not_retained_any_more_is_collected_again() {
    let hub = hub(Retention::default().with_bytes(1).with_topic_bytes(1));
    publish(&hub, &["a", "b"]);
    assert_eq!(taken(&hub, ["a", "*"], Start::Last, &["a", "c"]), (vec![2, 3, 4], 4, 0));
}

#[test]
fn what_is_forgotten_again_is_told_and_nothing_older_is_shown() {
    for (patterns, rest) in [(["a", "b"], vec![]), (["z", "*"], vec![5, 6])] {
        for start in [Start::Last, Start::Snapshot] {
            let hub = hub(Retention::default().with_topics(2));
            publish(&hub, &["a", "b"]);
            let (seqs, place, lost_to) = taken(&hub, patterns, start, &["b", "a", "c", "d"]);
            assert_eq!((seqs, place, lost_to), (rest.clone(), 6, 4));
        }
    }
}
