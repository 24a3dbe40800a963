//! Joining what is pushed with what is pulled: no clock, no task, no source.

use std::collections::{BTreeMap, VecDeque};

use super::pushed::{Pushed, PushedItem, Receipt};
use crate::{Batch, Cursor, Delivery, Event, Gap, Prev, Topics};

/// Most events, and their bytes, that wait for a poll up to them.
const EARLY_EVENTS: usize = 1024;
const EARLY_BYTES: usize = 8 * 1024 * 1024;
/// Polls without progress after which early events are given back.
const FRUITLESS: u32 = 8;

/// A delivery to be handed over, or only the receipt of one that came twice, in its turn.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) delivery: Option<Delivery>,
    pub(super) receipt: Option<Receipt>,
}

/// What to do after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask again at once.
    Again,
    /// Ask again, but not at once: this answer brought nothing.
    Later,
    /// Everything there is was taken.
    Quiet,
    /// The source ended the subscription.
    Closed,
}

struct Early {
    after: Option<Cursor>,
    event: Event,
    receipt: Option<Receipt>,
}

pub(super) struct Weave {
    topics: Topics,
    /// The place behind all that is in `ready`.
    place: Option<Cursor>,
    /// Whether the first word is still to be told.
    is_silent: bool,
    /// By seq.
    early: BTreeMap<u64, Early>,
    early_bytes: usize,
    /// A gap was pushed: the pull knows it better.
    is_called: bool,
    /// Receipts of pushed gaps that the next poll covers, and those that the one under way does.
    owed: Vec<Receipt>,
    due: Vec<Receipt>,
    fruitless: u32,
    pub(super) ready: VecDeque<Ready>,
}

impl Weave {
    pub(super) fn new(topics: Topics, start: Option<Cursor>) -> Self {
        Self {
            topics,
            place: start,
            is_silent: true,
            early: BTreeMap::new(),
            early_bytes: 0,
            is_called: false,
            owed: Vec::new(),
            due: Vec::new(),
            fruitless: 0,
            ready: VecDeque::new(),
        }
    }

    /// Whether it can take one more push.
    pub(super) fn has_room(&self) -> bool {
        let count = self.early.len() + self.owed.len() + self.ready.len();
        count < EARLY_EVENTS && self.early_bytes < EARLY_BYTES
    }

    /// Whether something waits for a poll.
    pub(super) fn wants_poll(&self) -> bool {
        self.is_called || !self.early.is_empty()
    }

    /// Notes that a poll begins, and says from where.
    pub(super) fn ask(&mut self) -> Option<Cursor> {
        self.is_called = false;
        self.due.append(&mut self.owed);
        self.place
    }

    /// Takes a push; whether it moved the place.
    pub(super) fn push(&mut self, pushed: Pushed) -> bool {
        let before = self.place;
        let receipt = pushed.receipt;
        match pushed.item {
            PushedItem::Gap(gap) if self.covers(gap.before) => self.acknowledge(receipt),
            PushedItem::Gap(_) => {
                self.is_called = true;
                self.owed.extend(receipt);
            }
            // A snapshot's events have no place; who asked for one gets it by the poll.
            PushedItem::Event { event, .. } if event.is_snapshot() || self.has(&event) => {
                self.acknowledge(receipt);
            }
            PushedItem::Event { after, event } => {
                let early = Early { after, event, receipt };
                match self.fits(&early) {
                    true => self.take(early),
                    false => self.keep(early),
                }
            }
        }
        self.settle();
        self.place != before
    }

    /// Takes the answer to a poll from `asked`.
    pub(super) fn answer(&mut self, asked: Option<Cursor>, batch: Batch) -> Verdict {
        if self.place != asked && !self.is_of_one_epoch(&batch) {
            return Verdict::Again;
        }
        let (place, length) = (self.place, self.ready.len());
        for delivery in batch.deliveries {
            self.receive(delivery);
        }
        self.reach(batch.place);
        self.settle();
        let progressed = self.place != place || self.ready.len() > length;
        match (batch.closed, batch.more) {
            (true, _) => Verdict::Closed,
            (false, true) if progressed => Verdict::Again,
            (false, true) => Verdict::Later,
            (false, false) => self.complete(progressed),
        }
    }

    /// Notes that a poll failed: what waited for it waits on.
    pub(super) fn fail(&mut self) {
        self.is_called |= !self.due.is_empty();
        self.owed.append(&mut self.due);
    }

    /// The pull has no more now.
    fn complete(&mut self, progressed: bool) -> Verdict {
        for receipt in std::mem::take(&mut self.due) {
            self.acknowledge(Some(receipt));
        }
        if !self.wants_poll() {
            self.fruitless = 0;
            return Verdict::Quiet;
        }
        if progressed {
            self.fruitless = 0;
            return Verdict::Again;
        }
        // A node that lags behind the one that pushed gets there; what belongs to another history may never.
        self.fruitless += 1;
        let (epoch, is_hopeless) = (self.place.map(Cursor::epoch), self.fruitless >= FRUITLESS);
        self.early.retain(|_, early| Some(early.event.cursor().epoch()) == epoch && !is_hopeless);
        self.early_bytes = self.early.values().map(|early| early.event.payload().len()).sum();
        if self.wants_poll() { Verdict::Later } else { Verdict::Quiet }
    }

    fn receive(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Event(event) if !event.is_snapshot() && self.has(&event) => {}
            Delivery::Gap(gap) => self.receive_gap(gap),
            delivery => self.tell(delivery, None),
        }
    }

    /// A gap counts only as far as pushes have not filled it.
    fn receive_gap(&mut self, mut gap: Gap) {
        if !gap.reason.may_fall() {
            if self.covers(gap.before) {
                return;
            }
            if let Some(place) = self.place.filter(|place| is_behind(gap.after, *place)) {
                gap.after = place;
                if !gap.reason.moves_place() {
                    gap.cursor = place;
                }
            }
        }
        self.tell(Delivery::Gap(gap), None);
    }

    /// Everything up to `place` was received.
    fn reach(&mut self, place: Option<Cursor>) {
        let Some(place) = place else { return };
        let is_new = self.place.is_none_or(|mine| mine.epoch() != place.epoch() || is_behind(mine, place));
        if is_new || self.is_silent {
            self.tell(Delivery::Place(if is_new { place } else { self.place.unwrap_or(place) }), None);
        }
    }

    /// Queues `delivery`, behind the starting place if that was not told yet and still counts.
    fn tell(&mut self, delivery: Delivery, receipt: Option<Receipt>) {
        let is_void = matches!(&delivery, Delivery::Gap(gap) if gap.reason.may_fall());
        let is_place = matches!(delivery, Delivery::Place(place) if Some(place) == self.place);
        if std::mem::take(&mut self.is_silent) && !is_void && !is_place {
            let start = self.place.map(Delivery::Place);
            self.ready.extend(start.map(|start| Ready { delivery: Some(start), receipt: None }));
        }
        self.place = delivery.place().or(self.place);
        self.ready.push_back(Ready { delivery: Some(delivery), receipt });
    }

    fn acknowledge(&mut self, receipt: Option<Receipt>) {
        if receipt.is_some() {
            self.ready.push_back(Ready { delivery: None, receipt });
        }
    }

    fn take(&mut self, early: Early) {
        let delivery = match self.topics.matches(early.event.topic()) {
            true => Delivery::Event(early.event),
            // Nothing that was asked for lies before it, and it was not asked for either.
            false => Delivery::Place(early.event.cursor()),
        };
        self.tell(delivery, early.receipt);
    }

    fn keep(&mut self, early: Early) {
        self.early_bytes += early.event.payload().len();
        if let Some(old) = self.early.insert(early.event.cursor().seq(), early) {
            self.early_bytes -= old.event.payload().len();
        }
    }

    /// Takes early events as far as they fit by now.
    fn settle(&mut self) {
        let is_due = |weave: &Self, early: &Early| weave.has(&early.event) || weave.fits(early);
        while let Some(seq) = self.early.iter().find(|(_, early)| is_due(self, early)).map(|(seq, _)| *seq) {
            let Some(early) = self.early.remove(&seq) else { break };
            self.early_bytes -= early.event.payload().len();
            match self.has(&early.event) {
                true => self.acknowledge(early.receipt),
                false => self.take(early),
            }
        }
    }

    /// Whether the event is a repeat.
    fn has(&self, event: &Event) -> bool {
        let cursor = event.cursor();
        self.place.is_some_and(|place| place == cursor || is_behind(cursor, place))
    }

    /// Whether nothing that was asked for can lie between the place and the event.
    fn fits(&self, early: &Early) -> bool {
        let (Some(place), Some(after)) = (self.place, early.after) else { return false };
        let cursor = early.event.cursor();
        // Places of two epochs can be compared only where one is the other's.
        let is_joined = after == place || (is_behind(after, place) && cursor.epoch() == place.epoch());
        is_joined && cursor.seq() > place.seq() && !self.is_chain_broken(&early.event, place)
    }

    /// Whether the event itself says that one of its topic was missed, whatever its sender thinks: a gap that
    /// was told and got lost, for one.
    fn is_chain_broken(&self, event: &Event, place: Cursor) -> bool {
        matches!(event.prev(), Prev::At(prev) if is_behind(place, prev)) && self.topics.matches(event.topic())
    }

    /// Whether everything before `before` is behind the place.
    fn covers(&self, before: Cursor) -> bool {
        self.place.is_some_and(|place| {
            place.epoch() == before.epoch() && place.seq().saturating_add(1) >= before.seq()
        })
    }

    /// Whether all of `batch` can be compared with the place.
    fn is_of_one_epoch(&self, batch: &Batch) -> bool {
        let is_mine = |cursor: Cursor| self.place.is_some_and(|place| place.epoch() == cursor.epoch());
        batch.place.is_none_or(is_mine)
            && batch.deliveries.iter().all(|delivery| match delivery {
                Delivery::Event(event) => is_mine(event.cursor()),
                Delivery::Gap(gap) => is_mine(gap.before) && is_mine(gap.cursor),
                _ => true,
            })
    }
}

/// Whether `a` lies before `b` in one epoch.
fn is_behind(a: Cursor, b: Cursor) -> bool {
    a.epoch() == b.epoch() && a.seq() < b.seq()
}
