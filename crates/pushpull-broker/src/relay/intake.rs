//! From what an upstream says to what a tail is told. Nothing here waits.

use std::mem;

use pushpull_core::{Cursor, Delivery, Epoch, Event, Gap, GapReason};

use crate::{Entry, Tail};

/// Takes the deliveries of the one subscription, in order.
#[derive(Debug)]
pub(super) struct Intake {
    tail: Tail,
    /// Everything up to here was taken. `None` before the first word.
    place: Option<Cursor>,
    /// The epoch that began last.
    epoch: Epoch,
    /// Taken, and not handed to the tail yet.
    entries: Vec<Entry>,
}

impl Intake {
    pub(super) fn new(tail: Tail) -> Self {
        Self { tail, place: None, epoch: Epoch::NEVER, entries: Vec::new() }
    }

    /// Where to go on from: at first from a cursor that nobody knows. It is answered by a `reset`, which says what
    /// `earliest` keeps silent about: up to where something is gone already.
    pub(super) fn place(&self) -> Cursor {
        self.place.unwrap_or(Cursor::UNKNOWN)
    }

    /// Whether the first word has come.
    pub(super) fn has_begun(&self) -> bool {
        self.place.is_some()
    }

    /// Takes `deliveries`, and the place behind them. Returns the epochs that turned out to be void.
    pub(super) fn take(&mut self, deliveries: Vec<Delivery>, place: Option<Cursor>) -> Vec<Epoch> {
        let mut void = Vec::new();
        for delivery in deliveries {
            match delivery {
                Delivery::Event(event) => self.take_event(&event),
                Delivery::Gap(gap) => void.extend(self.take_gap(gap)),
                Delivery::Place(place) => self.take_place(place),
                _ => {}
            }
        }
        if let Some(place) = place {
            self.take_place(place);
        }
        self.flush();
        void
    }

    fn take_event(&mut self, event: &Event) {
        let at = event.cursor();
        let Some(place) = self.place.filter(|_| !self.is_elsewhere(at)) else {
            // A source that said nothing before it: what lies before this event, nobody knows.
            let before = at.seq().saturating_sub(1);
            self.restart(Cursor::new(at.epoch(), before), before);
            return self.push(event);
        };
        if at.seq() <= place.seq() {
            return;
        }
        self.enter(at, place);
        self.push(event);
    }

    fn push(&mut self, event: &Event) {
        let (seq, topic) = (event.cursor().seq(), event.topic().clone());
        let entry = Entry::new(seq, event.time_ms(), topic, event.message().clone()).with_prev(event.prev());
        self.entries.push(entry);
        self.place = Some(event.cursor());
    }

    fn take_place(&mut self, at: Cursor) {
        let Some(place) = self.place.filter(|_| !self.is_elsewhere(at)) else {
            return self.restart(at, at.seq());
        };
        if at.seq() >= place.seq() && at != place {
            self.enter(at, place);
            self.flush();
            self.tail.complete_to(at.seq());
            self.place = Some(at);
        }
    }

    /// Whether `at` lies in another epoch and not beyond the place, though no gap was told.
    fn is_elsewhere(&self, at: Cursor) -> bool {
        at.epoch() != self.epoch
            && self.place.is_some_and(|place| at.epoch() != place.epoch() && at.seq() <= place.seq())
    }

    /// Begins the epoch of `at` if it is a new one. Where exactly it began is not known: the earliest place possible
    /// judges no lost branch as good.
    fn enter(&mut self, at: Cursor, place: Cursor) {
        if at.epoch() != self.epoch && at.epoch() != place.epoch() {
            self.begin(at.epoch(), place.seq().saturating_add(1));
        }
    }

    fn begin(&mut self, epoch: Epoch, start: u64) {
        self.flush();
        self.tail.begin(epoch, start);
        self.epoch = epoch;
    }

    fn restart(&mut self, from: Cursor, lost_to: u64) {
        self.flush();
        self.tail.restart(from.epoch(), from.seq(), lost_to);
        (self.epoch, self.place) = (from.epoch(), Some(from));
    }

    fn take_gap(&mut self, gap: Gap) -> Option<Epoch> {
        let lost_to = gap.before.seq().saturating_sub(1);
        match gap.reason {
            GapReason::Reset => {
                let void = self.place.map_or(gap.after.epoch(), |_| self.epoch);
                self.restart(gap.cursor, lost_to);
                return (void != gap.cursor.epoch() && void != Epoch::NEVER).then_some(void);
            }
            // A new epoch begins behind the last common place, so what follows it is of that one.
            GapReason::Rewound if self.place.is_some() && gap.before.epoch() != self.epoch => {
                self.begin(gap.before.epoch(), gap.cursor.seq().saturating_add(1));
                self.tail.complete_to(gap.cursor.seq());
                self.place = Some(gap.cursor);
                self.lose_to(lost_to, gap.cursor);
            }
            GapReason::Rewound => self.restart(gap.cursor, lost_to),
            _ => {
                let place = self.place.unwrap_or(gap.after);
                self.lose_to(lost_to, place);
                if gap.reason.moves_place() {
                    self.take_place(gap.cursor);
                }
            }
        }
        None
    }

    fn lose_to(&mut self, lost_to: u64, place: Cursor) {
        if lost_to > place.seq() {
            self.flush();
            self.tail.lose_to(lost_to);
        }
    }

    fn flush(&mut self) {
        if !self.entries.is_empty() {
            self.tail.push(mem::take(&mut self.entries));
        }
    }
}
