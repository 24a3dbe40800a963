//! A receiver's line to its consumer, with places for a hybrid or as a plain push.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pushpull_core::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, ErrorKind, Event, Feed, Gap, GapReason, Link, Prev,
    Problem, Pushed, PushedItem, Standing, SubscribeError, Topics,
};
use tokio::sync::mpsc;

/// The line as a stream.
pub(super) struct Line(pub(super) mpsc::Receiver<Pushed>);

impl Stream for Line {
    type Item = Pushed;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Pushed>> {
        self.0.poll_recv(cx)
    }
}

/// The line as a feed: drops repeats, and tells as a gap what cannot be asked for.
pub(super) struct ReceiverFeed {
    line: mpsc::Receiver<Pushed>,
    topics: Topics,
    place: Option<Cursor>,
    is_silent: bool,
    is_ended: bool,
}

impl ReceiverFeed {
    pub(super) fn new(line: mpsc::Receiver<Pushed>, topics: Topics, place: Option<Cursor>) -> Self {
        Self { line, topics, place, is_silent: true, is_ended: false }
    }

    /// Takes one push; the bytes of its event.
    fn take(&mut self, pushed: Pushed, out: &mut Batch) -> usize {
        let (item, receipt) = pushed.into_parts();
        let bytes = match item {
            PushedItem::Event { after, event } => self.take_event(after, event, out),
            PushedItem::Gap(gap) => {
                if !self.place.is_some_and(|place| follows(place, gap.before) || place == gap.before) {
                    self.tell(Delivery::Gap(gap), out);
                }
                0
            }
            _ => 0,
        };
        if let Some(receipt) = receipt {
            receipt.give();
        }
        bytes
    }

    fn take_event(&mut self, after: Option<Cursor>, event: Event, out: &mut Batch) -> usize {
        let cursor = event.cursor();
        if event.is_snapshot() {
            self.tell(Delivery::Event(event), out);
            return 0;
        }
        if self.place.is_some_and(|place| place == cursor || follows(place, cursor)) {
            return 0;
        }
        self.place = self.place.or(after);
        if let Some(gap) = self.hole_before(after, &event) {
            self.tell(Delivery::Gap(gap), out);
        }
        let bytes = event.payload().len();
        match self.topics.matches(event.topic()) {
            true => self.tell(Delivery::Event(event), out),
            false => self.tell(Delivery::Place(cursor), out),
        }
        bytes
    }

    /// What the place before the event, or the event's own chain, shows to be missing.
    fn hole_before(&self, after: Option<Cursor>, event: &Event) -> Option<Gap> {
        let place = self.place?;
        let prev = match event.prev() {
            Prev::At(prev) if self.topics.matches(event.topic()) => Some(prev),
            _ => None,
        };
        let missed = [after, prev].into_iter().flatten().filter(|missed| *missed != place);
        let known = missed.clone().filter(|missed| follows(*missed, place)).max_by_key(|missed| missed.seq());
        if let Some(last) = known {
            let before = Cursor::new(last.epoch(), last.seq().saturating_add(1));
            return Some(Gap::new(place, before, place, GapReason::Lagged));
        }
        // Another history began meanwhile: what of this one is gone, nobody here can know.
        let foreign = after.filter(|after| after.epoch() != place.epoch())?;
        Some(Gap::new(place, event.cursor(), foreign, GapReason::Reset))
    }

    fn tell(&mut self, delivery: Delivery, out: &mut Batch) {
        if std::mem::take(&mut self.is_silent) {
            out.deliveries.extend(self.place.map(Delivery::Place));
        }
        self.place = delivery.place().or(self.place);
        out.deliveries.push(delivery);
    }
}

/// Whether `a` lies behind `b` in one epoch.
fn follows(a: Cursor, b: Cursor) -> bool {
    a.epoch() == b.epoch() && a.seq() > b.seq()
}

impl Feed for ReceiverFeed {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        let (before, mut events, mut bytes) = (out.deliveries.len(), 0, 0);
        while events < bounds.events && (events == 0 || bytes < bounds.bytes) && !self.is_ended {
            match self.line.poll_recv(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(pushed)) => {
                    bytes += self.take(pushed, out);
                    events += 1;
                }
                Poll::Ready(None) => {
                    self.is_ended = true;
                    out.deliveries.push(Delivery::Link(Link::Ended { retry: None, cursor: self.place }));
                }
            }
        }
        match (out.deliveries.len() > before, self.is_ended) {
            (true, _) => Poll::Ready(Some(Ok(()))),
            (false, true) => Poll::Ready(None),
            (false, false) => {
                if events > 0 {
                    // Only repeats came; more may wait, for which no waker is registered.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        if self.is_silent { None } else { self.place }
    }

    fn retarget(&mut self, _: Topics) -> Result<(), SubscribeError> {
        Err(Problem::new(ErrorKind::Unsupported, "what is pushed is fixed").into())
    }

    fn grant(&mut self, _: u64) {}

    fn conflated(&self) -> u64 {
        0
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}
