//! A broker's feed: a place, and what waits after it.

mod begin;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use pushpull_core::{
    Batch, Bounds, Conflate, ConsumeError, Cursor, Delivery, Event, Feed, Gap, GapReason, Link, Overflow,
    Pattern, Prev, Standing, Stride, SubscribeError, Topics as Wanted,
};

use crate::{
    hub::Hub,
    interest::Interest,
    read::{Found, Since, Wish},
};

/// How long a consumer is asked to stay away from a broker that was closed.
const CLOSED_RETRY: Duration = Duration::from_secs(1);

/// A [`Feed`] over the ring. It owns a place, not a queue.
#[derive(Debug)]
pub(crate) struct BrokerFeed {
    hub: Arc<Hub>,
    wanted: Wanted,
    interest: Interest,
    overflow: Overflow,
    conflate: Conflate,
    stage: Stage,
    /// Everything asked for up to here was handed over.
    place: u64,
    /// Losses up to here were told, or are not this consumer's.
    told_to: u64,
    /// See [`Wish::looked_to`].
    looked_to: u64,
    /// Set if it does not ask for what was gone when it began.
    since: Option<Box<Since>>,
    /// Whether it ever was at the head.
    was_live: bool,
    /// Whether it has not looked yet: what is gone from then on, it loses by being slow.
    is_fresh: bool,
    conflated: u64,
    /// See [`Wish::thin_after`].
    thin_after: Option<u64>,
    /// The history that the place is of.
    generation: u64,
}

#[derive(Debug)]
enum Stage {
    /// Begins with a gap, if there is one, and a place.
    Beginning(Option<Box<Gap>>),
    Snapshot(Box<Untold>),
    Running,
    /// With the delay and the place to come back with.
    Closing(Box<(Option<Duration>, Option<Cursor>)>),
    /// At the place that was told last; `None` in the middle of a snapshot.
    Ended(Option<Cursor>),
}

/// What is left of a snapshot: the gap it begins with, its events, and its place.
#[derive(Debug)]
struct Untold {
    gap: Option<Gap>,
    events: vec::IntoIter<Event>,
    place: Cursor,
}

impl BrokerFeed {
    /// Whether history is still the one that the place is of.
    fn is_of_now(&self) -> bool {
        self.hub.generation() == self.generation
    }

    fn cursor(&self, seq: u64) -> Cursor {
        self.hub.cursor_in(self.generation, seq)
    }

    fn peek(&self) -> Found {
        self.read(Bounds::new(0, 0))
    }

    /// Whether nothing of it is its own but the place, behind which nothing is known to be lost.
    fn is_plain(&self) -> bool {
        matches!(self.stage, Stage::Running)
            && self.was_live
            && self.conflate == Conflate::Off
            && self.thin_after.is_none()
            && self.told_to <= self.place
            && self.since.is_none()
    }

    /// Whether `event`, which somebody else took, is the first that it lacks of its one topic, by the chain of `prev`.
    fn has_none_until(&self, event: &Event) -> bool {
        match (event.prev(), self.interest.readers()) {
            (Prev::At(prev), [one]) if self.interest.is_exact() => {
                prev.seq() <= self.place && one.slot.lock().lost_to <= self.place
            }
            _ => false,
        }
    }

    /// Whether something asked for follows, as far as one read can tell.
    fn may_follow(&self) -> bool {
        let found = self.read(Bounds::new(1, 1));
        found.more || !found.events.is_empty()
    }

    fn read(&self, bounds: Bounds) -> Found {
        self.hub.read(&Wish {
            wanted: &self.wanted,
            interest: &self.interest,
            place: self.place,
            bounds,
            conflate: self.conflate == Conflate::Key,
            told_to: self.told_to,
            looked_to: self.looked_to,
            since: self.since.as_deref().copied(),
            thin_after: self.thin_after,
        })
    }

    /// Takes what is there now onto `out`. `None` is the end.
    pub(crate) fn take(&mut self, bounds: Bounds, out: &mut Batch) -> Option<()> {
        out.more = false;
        if !self.is_of_now() {
            self.turn();
        }
        match std::mem::replace(&mut self.stage, Stage::Running) {
            Stage::Beginning(gap) => self.take_beginning(gap, out),
            Stage::Snapshot(mut untold) => {
                out.deliveries.extend(untold.gap.take().map(Delivery::Gap));
                self.take_snapshot(untold, bounds, out);
                return Some(());
            }
            Stage::Closing(ending) => {
                let (retry, cursor) = *ending;
                out.deliveries.push(Delivery::Link(Link::Ended { retry, cursor }));
                self.stage = Stage::Ended(cursor);
                return Some(());
            }
            Stage::Ended(cursor) => {
                self.stage = Stage::Ended(cursor);
                return None;
            }
            Stage::Running => {}
        }
        if matches!(self.stage, Stage::Running) {
            self.take_news(bounds, out);
            if let Some(since) = self.since.take_if(|since| since.is_past(self.place)) {
                self.looked_to = self.looked_to.max(since.losses_noted);
            }
        }
        Some(())
    }

    fn take_beginning(&mut self, gap: Option<Box<Gap>>, out: &mut Batch) {
        if let Some(gap) = gap {
            self.tell(*gap, out);
            // Its cursor is where all that is retained follows, which this consumer does not want.
            if self.overflow == Overflow::Latest && self.may_follow() {
                self.skip(out);
            }
        }
        if matches!(self.stage, Stage::Running) {
            out.deliveries.push(Delivery::Place(self.cursor(self.place)));
        }
    }

    fn take_snapshot(&mut self, mut untold: Box<Untold>, bounds: Bounds, out: &mut Batch) {
        let (mut taken, mut bytes) = (0, 0);
        while let Some(next) = untold.events.as_slice().first() {
            if !self.wanted.matches(next.topic()) {
                untold.events.next();
                continue;
            }
            bytes += next.payload().len();
            if taken == bounds.events || (taken > 0 && bytes > bounds.bytes) {
                out.more = true;
                self.stage = Stage::Snapshot(untold);
                return;
            }
            out.deliveries.extend(untold.events.next().map(Delivery::Event));
            taken += 1;
        }
        out.deliveries.push(Delivery::Place(untold.place));
        out.more = self.hub.has_news(&self.interest, self.place);
    }

    fn take_news(&mut self, bounds: Bounds, out: &mut Batch) {
        self.hub.expire_now();
        let head = self.hub.head();
        let found = self.hub.has_news(&self.interest, self.place).then(|| self.read(bounds));
        if !self.is_of_now() {
            // What was read may be of two histories.
            out.more = true;
            return;
        }
        let reason = match std::mem::replace(&mut self.is_fresh, false) {
            true => GapReason::Evicted,
            false => GapReason::Lagged,
        };
        let Some(found) = found else {
            self.place = self.place.max(head);
            self.was_live = true;
            return;
        };
        self.looked_to = found.looked_to;
        self.thin_after = found.cut.then(|| self.thin_after.unwrap_or(self.place));
        if let Some(lost_to) = found.lost_to.filter(|lost_to| *lost_to > self.told_to) {
            self.told_to = lost_to;
            if !self.tell_loss(lost_to, reason, out) {
                return;
            }
        }
        self.place = self.place.max(found.place);
        self.was_live |= !found.more;
        out.more = found.more;
        self.conflated += found.left_out;
        out.deliveries.extend(found.events.into_iter().map(Delivery::Event));
    }

    /// Tells that what was asked for up to `lost_to` is gone. Returns whether what is retained still follows.
    fn tell_loss(&mut self, lost_to: u64, reason: GapReason, out: &mut Batch) -> bool {
        if self.overflow == Overflow::Latest {
            self.skip(out);
            return false;
        }
        let after = self.cursor(self.place);
        self.tell(Gap::new(after, self.cursor(lost_to.saturating_add(1)), after, reason), out);
        matches!(self.stage, Stage::Running)
    }

    /// Goes to the newest, and tells it.
    fn skip(&mut self, out: &mut Batch) {
        let (after, head) = (self.cursor(self.place), self.hub.head());
        if !self.is_of_now() {
            // The head may be another history's: what became of the place is told first.
            out.more = true;
            return;
        }
        self.place = head;
        // What is lost beyond the head already, in the middle of an append, is still to be told.
        (self.told_to, self.looked_to) = (self.place, 0);
        let newest = self.cursor(self.place);
        self.tell(
            Gap::new(after, self.cursor(self.place.saturating_add(1)), newest, GapReason::Skipped),
            out,
        );
    }

    fn tell(&mut self, gap: Gap, out: &mut Batch) {
        out.deliveries.push(Delivery::Gap(gap));
        if self.overflow == Overflow::Close {
            self.stage = Stage::Closing(Box::new((None, Some(gap.cursor))));
        }
    }
}

impl Feed for BrokerFeed {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        let before = out.deliveries.len();
        let mut registered = false;
        loop {
            if self.take(bounds, out).is_none() {
                return Poll::Ready(None);
            }
            if out.deliveries.len() > before {
                return Poll::Ready(Some(Ok(())));
            }
            if self.hub.is_closed() {
                self.stage = Stage::Closing(Box::new((Some(CLOSED_RETRY), self.place())));
            } else if out.more && bounds.events > 0 {
                // Much was scanned for little: let others run.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            } else if registered {
                return Poll::Pending;
            } else {
                self.interest.register(cx.waker());
                registered = true;
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        match self.stage {
            Stage::Snapshot(_) | Stage::Beginning(_) => None,
            Stage::Closing(ref ending) => ending.1,
            Stage::Ended(cursor) => cursor,
            // Unknown while history became another so often that nobody knows what the place was called.
            Stage::Running => Some(self.cursor(self.place)).filter(|place| *place != Cursor::UNKNOWN),
        }
    }

    fn retarget(&mut self, topics: Wanted) -> Result<(), SubscribeError> {
        self.hub.check_scope(&topics)?;
        let is_new = |entry: &Pattern| !self.wanted.iter().any(|known| known == entry);
        if topics.iter().any(is_new) {
            // What was told, or waived, was of other topics.
            (self.told_to, self.looked_to, self.since, self.is_fresh) = (0, 0, None, true);
        }
        self.interest = self.hub.interest(&topics);
        self.wanted = topics;
        Ok(())
    }

    fn grant(&mut self, _: u64) {}

    fn conflated(&self) -> u64 {
        self.conflated
    }

    fn standing(&self) -> Option<Standing> {
        let signal = self.is_plain().then(|| self.interest.single_signal()).flatten()?;
        Some(Standing::new(signal.clone(), self.place()?).of_history(self.generation))
    }

    /// Of one topic, what follows its last event follows any place behind that, too: the places of a quiet topic's
    /// subscriptions differ by when each was last asked.
    fn follow(&mut self, stride: &Stride) -> bool {
        let (from, Some(first)) = (stride.from(), stride.events().first()) else { return false };
        let is_alike = self.is_plain()
            && from.history == self.generation
            && self.interest.single_signal().is_some_and(|signal| Arc::ptr_eq(signal, &from.signal));
        let is_same = is_alike
            && match self.place >= from.place.seq() {
                // What was lost behind `from`, who stood there would have been told.
                true => self.place < first.cursor().seq(),
                false => self.has_none_until(first),
            };
        if is_same {
            (self.place, self.is_fresh) = (stride.to().seq(), false);
        }
        is_same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_feed_is_small() {
        assert!(size_of::<BrokerFeed>() <= 176, "{} bytes", size_of::<BrokerFeed>());
        assert!(size_of::<Stage>() <= 24, "{}", size_of::<Stage>());
        assert!(size_of::<Interest>() <= 48, "{}", size_of::<Interest>());
    }
}
