//! A weave against a model: random loss, repeats, reordering and delay, answers that are stale, and retention.

use proptest::prelude::*;

use super::super::weave::{Verdict, Weave};
use crate::{
    Batch, Cursor, Delivery, Event, EventParts, Gap, GapReason, Message, Prev, Pushed, Subscribe, Topics,
    testing::at,
};

const NAMES: [&str; 4] = ["a.x", "a.y", "b", "c"];

#[derive(Clone, Debug)]
enum Op {
    Publish(usize),
    Push(prop::sample::Index),
    Ask { limit: usize },
    Answer,
    Fail,
    Evict(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..NAMES.len()).prop_map(Op::Publish),
        8 => any::<prop::sample::Index>().prop_map(Op::Push),
        2 => (1..6usize).prop_map(|limit| Op::Ask { limit }),
        3 => Just(Op::Answer),
        1 => Just(Op::Fail),
        1 => (1..4u64).prop_map(Op::Evict),
    ];
    prop::collection::vec(op, 0..200)
}

/// The sequence, and what the endpoint (which also has `b`) was sent with each event.
#[derive(Default)]
struct Source {
    events: Vec<Event>,
    pushes: Vec<(Cursor, Event)>,
    floor: u64,
}

impl Source {
    fn publish(&mut self, name: &str) {
        let seq = self.events.len() as u64 + 1;
        let of_topic = self.events.iter().rev().find(|event| event.topic().as_str() == name);
        let prev = of_topic.map_or(Prev::First, |event| Prev::At(event.cursor()));
        let (topic, message) = (name.parse().unwrap(), Message::text("x"));
        self.events.push(Event::new(EventParts { topic, cursor: at(seq), prev, time_ms: 0, message }));
        if name != "c" {
            let after = self.pushes.last().map_or(at(0), |(_, event)| event.cursor());
            self.pushes.extend(self.events.last().map(|event| (after, event.clone())));
        }
    }

    fn fetch(&self, topics: &Topics, after: Cursor, limit: usize) -> Batch {
        let asked = |event: &&Event| event.cursor().seq() > after.seq() && topics.matches(event.topic());
        let mut batch = Batch::default();
        let lost = self.events.iter().filter(asked).take_while(|event| event.cursor().seq() <= self.floor);
        if let Some(last) = lost.last() {
            let before = at(last.cursor().seq() + 1);
            batch.deliveries.push(Delivery::Gap(Gap::new(after, before, after, GapReason::Evicted)));
        }
        let left = self.events.iter().filter(asked).filter(|event| event.cursor().seq() > self.floor);
        let taken: Vec<_> = left.take(limit + 1).cloned().collect();
        batch.more = taken.len() > limit;
        let head = at((self.events.len() as u64).max(after.seq()));
        batch.place = match batch.more {
            true => taken[..limit].last().map(Event::cursor),
            false => Some(head),
        };
        batch.deliveries.extend(taken.into_iter().take(limit).map(Delivery::Event));
        batch
    }
}

/// Holds what was told to the promises, and gives the seqs that came and those told to be gone.
fn judge(told: &[Delivery], source: &Source, topics: &Topics) -> Result<(), TestCaseError> {
    let asked: Vec<u64> =
        source.events.iter().filter(|event| topics.matches(event.topic())).map(seq_of).collect();
    let (mut come, mut gone, mut place) = (Vec::new(), Vec::new(), 0);
    for delivery in told {
        match delivery {
            Delivery::Event(event) => {
                prop_assert!(event.cursor().seq() > place, "{told:?}");
                come.push(event.cursor().seq());
            }
            Delivery::Gap(gap) => {
                let (after, before) = (gap.after.seq(), gap.before.seq());
                let lost: Vec<_> = asked.iter().filter(|seq| (after + 1..before).contains(seq)).collect();
                prop_assert!(!lost.is_empty(), "a gap in excess: {told:?}");
                prop_assert!(lost.iter().all(|seq| !come.contains(*seq)), "what came is not gone: {told:?}");
                gone.extend(lost.into_iter().copied().filter(|seq| *seq <= source.floor));
            }
            Delivery::Place(cursor) => {
                let missing = asked
                    .iter()
                    .find(|seq| **seq <= cursor.seq() && !come.contains(seq) && !gone.contains(seq));
                prop_assert_eq!(missing, None, "an untrue place {:?} in {:?}", cursor, told);
            }
            Delivery::Link(_) => {}
        }
        place = delivery.place().map_or(place, Cursor::seq);
    }
    let mut known = [come, gone].concat();
    known.sort_unstable();
    known.dedup();
    prop_assert_eq!(known, asked, "{:?}", told);
    Ok(())
}

fn seq_of(event: &Event) -> u64 {
    event.cursor().seq()
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let topics = Subscribe::to("a.*").unwrap().topics;
    let (mut source, mut weave) = (Source::default(), Weave::new(topics.clone(), Some(at(0))));
    let (mut told, mut answer) = (Vec::new(), None);
    for op in ops {
        match op {
            Op::Publish(name) => source.publish(NAMES[name]),
            Op::Push(index) if !source.pushes.is_empty() => {
                let (after, event) = index.get(&source.pushes).clone();
                weave.push(Pushed::event(after, event));
            }
            Op::Ask { limit } if answer.is_none() => {
                let asked = weave.ask();
                answer = Some((asked, source.fetch(&topics, asked.unwrap(), limit)));
            }
            Op::Answer => {
                if let Some((asked, batch)) = answer.take() {
                    weave.answer(asked, batch);
                }
            }
            Op::Fail if answer.take().is_some() => weave.fail(),
            Op::Evict(count) => source.floor = (source.floor + count).min(source.events.len() as u64),
            _ => {}
        }
        told.extend(weave.ready.drain(..).filter_map(|ready| ready.delivery));
    }
    loop {
        let asked = weave.ask();
        let verdict = weave.answer(asked, source.fetch(&topics, asked.unwrap(), 3));
        told.extend(weave.ready.drain(..).filter_map(|ready| ready.delivery));
        if verdict == Verdict::Quiet {
            break;
        }
    }
    judge(&told, &source, &topics)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn each_once_in_order_or_told(ops in ops()) {
        run(ops)?;
    }
}
