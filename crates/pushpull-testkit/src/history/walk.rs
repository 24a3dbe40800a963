//! One session, record by record.

use std::collections::HashSet;

use pushpull_core::{Cursor, Gap, Start, StartAt, Topic, View};

use super::{
    Record, Seen, Session, Violation,
    known::Known,
    snapshot::Unit,
    stretch::{Link, Stretch},
};

/// All that is wrong with what one consumer was told.
pub(super) fn walk(known: &Known<'_>, session: &Session) -> Vec<Violation> {
    let mut walk = Walk {
        known,
        session,
        asked: session.request.start,
        has_first_word: false,
        unit: None,
        stretch: Stretch::default(),
        missing: HashSet::new(),
        found: Vec::new(),
    };
    walk.begin(session.request.start);
    session.records.iter().for_each(|record| walk.step(record));
    walk.close();
    walk.check_liveness();
    walk.found
}

struct Walk<'a> {
    known: &'a Known<'a>,
    session: &'a Session,
    /// What the present subscription asked for.
    asked: StartAt,
    has_first_word: bool,
    /// The snapshot under way.
    unit: Option<Unit<'a>>,
    stretch: Stretch,
    missing: HashSet<Cursor>,
    found: Vec<Violation>,
}

impl<'a> Walk<'a> {
    fn begin(&mut self, start: StartAt) {
        self.asked = start;
        self.has_first_word = false;
        self.unit = Unit::asked_for(start);
        self.stretch = match start {
            StartAt::After(cursor) => Stretch::starting(Some(cursor.seq()), Some(cursor)),
            StartAt::Start(Start::Earliest) if !self.known.evicts() => Stretch::starting(Some(0), None),
            StartAt::Start(_) => Stretch::default(),
        };
    }

    fn step(&mut self, record: &'a Record) {
        match record {
            Record::Event(seen) => self.event(seen),
            Record::Gap(gap) => self.gap(*gap),
            Record::Place(place) => self.place(*place),
            Record::Broken => {
                if let Some(unit) = &mut self.unit {
                    *unit = unit.anew();
                    self.stretch.forget_gaps();
                }
            }
            Record::Resume(start) => self.resume(*start),
        }
    }

    fn resume(&mut self, start: StartAt) {
        match start {
            // To resume from a place is to claim everything up to it.
            StartAt::After(place)
                if self.unit.is_none() && self.stretch.position.is_some_and(|at| at.seq() <= place.seq()) =>
            {
                self.stretch.position = Some(place);
                self.asked = start;
                self.has_first_word = false;
            }
            _ => {
                self.close();
                self.begin(start);
            }
        }
    }

    fn event(&mut self, seen: &'a Seen) {
        let (session, cursor) = (self.session.name.clone(), seen.cursor);
        if !self.session.request.topics.matches(&seen.topic) {
            self.found.push(Violation::Unasked { session, cursor, topic: seen.topic.clone() });
            return;
        }
        if seen.view == View::Snapshot || self.unit.is_some() {
            return self.snapshot_event(seen);
        }
        let is_earliest = self.asked == StartAt::Start(Start::Earliest);
        if !self.has_first_word && !is_earliest {
            self.found.push(Violation::NoFirstWord { session, cursor });
        }
        self.has_first_word = true;
        self.stretch.start.get_or_insert(cursor.seq().saturating_sub(1));
        match self.stretch.admit(&self.session.name, seen) {
            Ok(()) => self.link(seen, is_earliest),
            Err(violation) => self.found.push(violation),
        }
    }

    fn link(&mut self, seen: &Seen, is_earliest: bool) {
        match self.stretch.link(seen, self.known, is_earliest) {
            Link::Holds => {}
            Link::Lacks(prev) => self.lacks(prev, seen.topic.clone()),
            Link::Broken => {
                let (session, cursor, prev) = (self.session.name.clone(), seen.cursor, seen.prev);
                self.found.push(Violation::BrokenChain { session, cursor, prev });
            }
        }
    }

    fn lacks(&mut self, cursor: Cursor, topic: Topic) {
        if self.missing.insert(cursor) {
            self.found.push(Violation::Missing { session: self.session.name.clone(), cursor, topic });
        }
    }

    fn snapshot_event(&mut self, seen: &'a Seen) {
        let fits = seen.view == View::Snapshot && self.unit.as_mut().is_some_and(|unit| unit.take(seen));
        if !fits {
            let session = self.session.name.clone();
            self.found.push(Violation::TornSnapshot { session, cursor: seen.cursor });
        }
    }

    fn place(&mut self, place: Cursor) {
        if let Some(unit) = self.unit.take() {
            let torn = unit.finish(place.seq(), self.known, &self.session.request.topics, &self.stretch);
            let session = &self.session.name;
            let torn = torn.into_iter();
            self.found
                .extend(torn.map(|cursor| Violation::TornSnapshot { session: session.clone(), cursor }));
        }
        self.has_first_word = true;
        self.stretch.start.get_or_insert(place.seq());
        self.move_to(place);
    }

    fn move_to(&mut self, place: Cursor) {
        match self.stretch.position {
            Some(from) if from.seq() > place.seq() => {
                let from = from.seq();
                self.found.push(Violation::Fell { session: self.session.name.clone(), from, to: place });
            }
            _ => self.stretch.position = Some(place),
        }
    }

    fn gap(&mut self, gap: Gap) {
        if self.unit.is_some() {
            // It says of what the snapshot cannot be complete, and moves no place.
            return self.stretch.tell(gap);
        }
        if self.known.is_honest(&gap, &self.session.request.topics) == Some(false) {
            self.found.push(Violation::GapForNothing { session: self.session.name.clone(), gap });
        }
        self.has_first_word = true;
        if gap.reason.may_fall() {
            self.close();
            self.stretch = Stretch::behind(gap);
        } else {
            self.stretch.start.get_or_insert(gap.after.seq());
            self.stretch.tell(gap);
            self.move_to(gap.cursor);
        }
    }

    fn close(&mut self) {
        for (cursor, topic) in self.stretch.missing(self.known, self.session) {
            self.lacks(cursor, topic);
        }
    }

    fn check_liveness(&mut self) {
        let topics = &self.session.request.topics;
        let newest = self.known.acknowledged.values().rev().find(|publish| topics.matches(&publish.topic));
        if let Some(super::Applied::At(cursor)) = newest.map(|publish| publish.applied)
            && self.session.caught_up
            && self.stretch.position.is_none_or(|position| position.seq() < cursor.seq())
        {
            self.found.push(Violation::Behind { session: self.session.name.clone(), cursor });
        }
    }
}
