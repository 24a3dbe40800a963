//! A small source that keeps every promise, and records what it does.

use std::collections::BTreeMap;

use pushpull_core::{
    Conflate, Cursor, Delivery, Epoch, Epochs, Event, EventParts, Gap, GapReason, Message, Prev, Published,
    Start, StartAt, Subscribe, View,
};

use crate::history::{History, Publish, Seen, Session, Source};

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Publish { topic: u8, key: Option<u8>, empties: bool },
    Repeat,
    Read { reader: usize, limit: usize },
    Reconnect { reader: usize },
    Failover { loses: usize },
}

struct Reader {
    session: Session,
    place: Option<Cursor>,
    told_to: u64,
    snapshot: Vec<Event>,
}

pub(super) struct Model {
    retains: usize,
    log: Vec<Event>,
    lost_to: BTreeMap<String, u64>,
    epochs: Epochs,
    history: History,
    readers: Vec<Reader>,
    published: u64,
}

impl Model {
    pub(super) fn new(retains: usize, requests: &[Subscribe]) -> Self {
        let mut model = Self {
            retains,
            log: Vec::new(),
            lost_to: BTreeMap::new(),
            epochs: Epochs::new(Epoch::from_random(7), 0),
            history: History::default(),
            readers: Vec::new(),
            published: 0,
        };
        for (n, request) in requests.iter().enumerate() {
            let session = Session::new(format!("reader {n}"), request);
            model.readers.push(Reader { session, place: None, told_to: 0, snapshot: Vec::new() });
        }
        model
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Publish { topic, key, empties } => self.publish(*topic, *key, *empties),
            Step::Repeat => self.repeat(),
            Step::Read { reader, limit } => self.read(reader % self.readers.len(), *limit),
            Step::Reconnect { reader } => self.reconnect(reader % self.readers.len()),
            Step::Failover { loses } => self.fail_over(*loses),
        }
    }

    fn publish(&mut self, topic: u8, key: Option<u8>, empties: bool) {
        self.published += 1;
        let topic = format!("t.{topic}").parse().unwrap();
        let payload = if empties && key.is_some() { String::new() } else { self.published.to_string() };
        let mut message = Message::text(payload).with_idempotency(self.published.to_string());
        if let Some(key) = key {
            message = message.with_key(key.to_string());
        }
        let seq = self.log.last().map_or(0, |event| event.cursor().seq()) + 1;
        let before = self.log.iter().rev().find(|event| *event.topic() == topic);
        let prev = match before {
            Some(before) => Prev::At(before.cursor()),
            None if self.lost_to.contains_key(topic.as_str()) => Prev::Unknown,
            None => Prev::First,
        };
        let cursor = self.epochs.cursor(seq);
        self.history.publishes.extend(Publish::all(
            &topic,
            std::slice::from_ref(&message),
            &Ok(Published::new(cursor, cursor, 1)),
        ));
        self.log.push(Event::new(EventParts { topic, cursor, prev, time_ms: 0, message }));
        self.evict();
    }

    fn repeat(&mut self) {
        self.history.publishes.extend(self.history.publishes.last().cloned());
    }

    fn evict(&mut self) {
        let topic = self.log.last().unwrap().topic().clone();
        if self.log.iter().filter(|event| *event.topic() == topic).count() > self.retains {
            let at = self.log.iter().position(|event| *event.topic() == topic).unwrap();
            let event = self.log.remove(at);
            self.lost_to.insert(topic.to_string(), event.cursor().seq());
        }
    }

    fn head(&self) -> u64 {
        self.log.last().map_or(0, |event| event.cursor().seq())
    }

    fn fail_over(&mut self, loses: usize) {
        let evicted = self.lost_to.values().max().copied().unwrap_or(0);
        let before = self.log.len();
        while self.log.len() > 1
            && before - self.log.len() < loses
            && self.log[self.log.len() - 2].cursor().seq() >= evicted
        {
            self.log.pop();
        }
        if self.log.len() == before {
            return;
        }
        let epoch = Epoch::from_random(8 + self.head() + self.published);
        self.epochs.begin(epoch, self.head() + 1);
    }

    fn reconnect(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        match reader.place {
            Some(place) => {
                reader.session.resume(place);
                reader.session.take(&Delivery::Place(place));
            }
            None if !reader.snapshot.is_empty() => {
                reader.session.records.push(crate::history::Record::Broken);
                reader.snapshot.clear();
            }
            None => {}
        }
    }

    fn lost_to(&self, reader: usize) -> u64 {
        let topics = &self.readers[reader].session.request.topics;
        let lost = self.lost_to.iter().filter(|(topic, _)| topics.matches(&topic.parse().unwrap()));
        lost.map(|(_, seq)| *seq).max().unwrap_or(0)
    }

    fn read(&mut self, at: usize, limit: usize) {
        let lost_to = self.lost_to(at);
        let (head, epochs) = (self.head(), self.epochs.clone());
        let start = self.readers[at].session.request.start;
        let Some(place) = self.readers[at].place else {
            return match start {
                StartAt::Start(Start::Snapshot) => self.read_snapshot(at),
                _ => {
                    let place = if start == StartAt::Start(Start::Earliest) { 0 } else { head };
                    let reader = &mut self.readers[at];
                    reader.told_to = lost_to;
                    reader.session.began_at = Some(epochs.cursor(head));
                    reader.tell(&Delivery::Place(epochs.cursor(place)));
                }
            };
        };
        let reader = &mut self.readers[at];
        if epochs.cursor(place.seq()).epoch() != place.epoch() {
            let common = match epochs.judge(place, head) {
                pushpull_core::CursorStanding::Rewound(common) => common,
                standing => panic!("{standing:?}"),
            };
            reader.told_to = lost_to;
            let before = epochs.cursor(lost_to.max(common) + 1);
            let gap = Gap::new(place, before, epochs.cursor(common), GapReason::Rewound);
            return reader.tell(&Delivery::Gap(gap));
        }
        if lost_to > place.seq() && lost_to > reader.told_to {
            reader.told_to = lost_to;
            let gap = Gap::new(place, epochs.cursor(lost_to + 1), place, GapReason::Lagged);
            return reader.tell(&Delivery::Gap(gap));
        }
        self.read_events(at, place.seq(), limit);
    }

    fn read_events(&mut self, at: usize, place: u64, limit: usize) {
        let reader = &mut self.readers[at];
        let wanted = |event: &&Event| {
            event.cursor().seq() > place && reader.session.request.topics.matches(event.topic())
        };
        let waiting: Vec<Event> = self.log.iter().filter(wanted).take(limit).cloned().collect();
        let is_all = waiting.len() < limit;
        let newest = |event: &Event| {
            let same = |other: &&Event| other.topic() == event.topic() && other.key() == event.key();
            waiting.iter().rev().find(same).unwrap().cursor() == event.cursor()
        };
        let conflates = reader.session.request.conflate == Conflate::Key;
        for event in &waiting {
            if !conflates || event.key().is_none() || newest(event) {
                let view = if conflates { View::Thinned } else { View::Plain };
                reader.tell(&Delivery::Event(event.clone().shown(view)));
            }
        }
        if is_all {
            reader
                .tell(&Delivery::Place(self.epochs.cursor(self.log.last().map_or(0, |e| e.cursor().seq()))));
        }
    }

    /// A snapshot comes in two reads, so that something can happen between them.
    fn read_snapshot(&mut self, at: usize) {
        let mut newest: BTreeMap<(String, String), Event> = BTreeMap::new();
        let topics = self.readers[at].session.request.topics.clone();
        for event in self.log.iter().filter(|event| topics.matches(event.topic())) {
            if let Some(key) = event.key() {
                newest.insert((event.topic().to_string(), key.to_owned()), event.clone());
            }
        }
        let mut events: Vec<Event> = newest.into_values().filter(|e| !e.payload().is_empty()).collect();
        events.sort_by_key(|event| event.cursor().seq());
        let place = self.epochs.cursor(self.head());
        let lost_to = self.lost_to(at);
        let reader = &mut self.readers[at];
        if lost_to > 0 {
            let zero = self.epochs.cursor(0);
            let gap = Gap::new(zero, self.epochs.cursor(lost_to + 1), zero, GapReason::Evicted);
            reader.session.take(&Delivery::Gap(gap));
        }
        let events: Vec<_> = events.into_iter().map(|event| event.shown(View::Snapshot)).collect();
        events.iter().for_each(|event| reader.session.take(&Delivery::Event(event.clone())));
        if reader.snapshot.is_empty() && !events.is_empty() && place.seq().is_multiple_of(2) {
            // Broken off before it was complete.
            reader.session.records.push(crate::history::Record::Broken);
            reader.snapshot = events;
            return;
        }
        reader.told_to = lost_to;
        reader.tell(&Delivery::Place(place));
    }

    /// Lets everybody read to the end.
    pub(super) fn finish(mut self) -> History {
        for at in 0..self.readers.len() {
            for _ in 0..10 {
                self.read(at, usize::MAX);
            }
        }
        let head = self.epochs.cursor(self.head());
        for mut reader in self.readers {
            reader.session.caught_up = true;
            self.history.sessions.push(reader.session);
        }
        let retained = self.log.iter().map(Seen::from).collect();
        let evicts = !self.lost_to.is_empty();
        self.history.source = Some(Source { head, epochs: Some(self.epochs), retained, evicts });
        self.history
    }
}

impl Reader {
    fn tell(&mut self, delivery: &Delivery) {
        self.place = delivery.place().or(self.place);
        self.session.take(delivery);
    }
}
