//! A subscription: a feed of deliveries under the consumer's control.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Batch, Bounds, ConsumeError, Consumer, Cursor, Delivery, Event, Rate, Signal, Subscribe, SubscribeError,
    Topics, View,
};

/// The bytes of one flush of a subscription with a [`Rate`].
const FLUSH_BYTES: usize = 256 * 1024;

/// What a source implements to feed a [`Subscription`].
///
/// # Contract
/// Deliveries come in order: events in rising seq, but across a gap that says seq may fall. The first word
/// is [`Delivery::Place`] with the starting place, or, for `start=snapshot` and `start=last`, the events of
/// the snapshot and then the place.
pub trait Feed: Send {
    /// Takes what is ready, at least one delivery, up to `bounds`, onto the end of `out.deliveries`, and sets
    /// `out.more`. `None` is the end, said once. With `bounds.events == 0` it takes gaps and places only.
    ///
    /// A feed that is polled with the [`silent_waker`](crate::silent_waker) registers no waker: whoever sweeps
    /// many subscriptions waits for [`Standing::signal`] instead. One that found nothing yet and would have woken its waker to
    /// look on sets `out.more` all the same: that wake-up reaches nobody.
    ///
    /// # Cancel safety
    /// What was not put into `out` is still to come.
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>>;

    /// The place: everything asked for up to it was taken by `poll_batch`. For a quiet subscription it moves
    /// with the source's head at each poll. `None` before the starting place is known and inside a snapshot.
    fn place(&self) -> Option<Cursor>;

    /// Asks for `topics` from the place on, in place of what was asked for before.
    ///
    /// # Errors
    /// If the source cannot deliver them.
    fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError>;

    /// Tells the source that the consumer granted `events` more, where the source keeps a window of its own.
    /// [`Subscription`] counts the credit by itself, so a feed from within the process has nothing to do.
    fn grant(&mut self, events: u64);

    /// How many events were left out by conflation so far.
    fn conflated(&self) -> u64;

    /// Whether it stands with others. See [`Standing`].
    fn standing(&self) -> Option<Standing>;

    /// Takes `stride` as if [`Feed::poll_batch`] had given its events, if that is what it would give next. `false`, and
    /// nothing is taken, if not. Default: never.
    fn follow(&mut self, _stride: &Stride) -> bool {
        false
    }

    /// The transport by which it comes: see [`Subscription::transport`]. A feed from within the process comes by none.
    fn transport(&self) -> Option<&'static str> {
        None
    }
}

/// Says that a subscription is live, plain (nothing of it is its own but the place) and caught up, so that it
/// can be served together with all that stand at the same place of the same source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Standing {
    /// Raised when the source has more. Two subscriptions with the same signal ([`Arc::ptr_eq`]) ask for the
    /// same.
    pub signal: Arc<Signal>,
    /// Where it stands.
    pub place: Cursor,
    /// The history that the place is of: a source whose history became another counts on. Of one that never does
    /// so: 0.
    pub history: u64,
}

/// What one subscription that stood took, and where it stood before and after: others that stood with it need not be
/// asked, but [follow](Subscription::follow) with the same bytes.
#[derive(Clone, Debug)]
pub struct Stride {
    from: Standing,
    to: Cursor,
    events: Vec<Event>,
}

impl Standing {
    /// Stands at `place` of the source of `signal`, whose history is the first.
    pub fn new(signal: Arc<Signal>, place: Cursor) -> Self {
        Self { signal, place, history: 0 }
    }

    /// The same, of that history.
    #[must_use]
    pub fn of_history(mut self, history: u64) -> Self {
        self.history = history;
        self
    }
}

impl Stride {
    /// What was taken between two standings of one subscription: `None` if it was anything but events as they are, or
    /// nothing.
    pub fn new(from: Standing, to: &Standing, taken: &[Delivery]) -> Option<Self> {
        let plain = |delivery: &Delivery| match delivery {
            Delivery::Event(event) if event.view() == View::Plain => Some(event.clone()),
            _ => None,
        };
        let is_one = Arc::ptr_eq(&from.signal, &to.signal) && from.history == to.history;
        let events: Vec<Event> = taken.iter().map(plain).collect::<Option<_>>()?;
        (is_one && !events.is_empty()).then_some(Self { from, to: to.place, events })
    }

    /// Where it begins.
    pub fn from(&self) -> &Standing {
        &self.from
    }

    /// Where it leads.
    pub fn to(&self) -> Cursor {
        self.to
    }

    /// What was taken, in order: at least one.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// A running subscription: a [`Consumer`] and a [`Stream`] of deliveries, with the credit and the rate that the
/// request asked for. Dropping it ends it.
pub struct Subscription {
    feed: Box<dyn Feed>,
    /// What few have, so that a server's many stay small.
    extra: Option<Box<Extra>>,
    ended: bool,
}

/// What is between a subscription and its feed.
#[derive(Default)]
struct Extra {
    transport: Option<&'static str>,
    credit: Option<u64>,
    pace: Option<Pace>,
    streamed: Option<Box<Streamed>>,
}

/// What the [`Stream`] took and has not returned yet. Kept from its first delivery on.
#[derive(Default)]
struct Streamed {
    taken: VecDeque<Delivery>,
    /// Of the delivery that was returned last.
    place: Option<Cursor>,
    /// What ended it, while deliveries that came with it are still to be returned.
    failed: Option<ConsumeError>,
}

/// The flushes of a subscription with a rate. One may be taken in pieces, of the size that the caller bears at once.
struct Pace {
    rate: Rate,
    /// When the next one may begin.
    next: Option<Pin<Box<Sleep>>>,
    /// What is left to the one under way, in bytes; 0: there is none.
    left: usize,
}

impl Subscription {
    /// A subscription over `feed`, with the window and the rate of `request`.
    pub fn new(feed: impl Feed + 'static, request: &Subscribe) -> Self {
        let credit = request.window.map(|window| u64::from(window.get()));
        let pace = request.rate.map(|rate| Pace { rate, next: None, left: 0 });
        let is_plain = credit.is_none() && pace.is_none();
        let extra = (!is_plain).then(|| Box::new(Extra { credit, pace, ..Extra::default() }));
        Self { feed: Box::new(feed), extra, ended: false }
    }

    /// The same, told to come by `transport` where its feed does not know.
    #[must_use]
    pub fn by_transport(mut self, transport: &'static str) -> Self {
        self.extra.get_or_insert_default().transport = Some(transport);
        self
    }

    /// The transport by which deliveries come, as the wire contract labels it (section 7): `ws`, `sse`, `longpoll`,
    /// `poll`, `grpc`; `None` for a source within the process, or one of several parts.
    ///
    /// A subscription that [falls back](crate::Fallback) changes it: each change is followed by a
    /// [`Link::Connected`](crate::Link::Connected). Between two connections it is the one to be tried next.
    pub fn transport(&self) -> Option<&'static str> {
        self.feed.transport().or(self.extra.as_ref().and_then(|extra| extra.transport))
    }

    /// Takes what is ready, as [`Feed::poll_batch`] does, within the credit and the rate: the adapters' path.
    /// Do not mix it with the [`Stream`], which keeps deliveries of its own.
    ///
    /// # Cancel safety
    /// What was not put into `out` is still to come.
    pub fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let bounds = match self.pace() {
            // Gaps and places are no flush.
            Some(pace) if bounds.events > 0 => {
                ready!(pace.poll(cx));
                Bounds::new(bounds.events, bounds.bytes.min(pace.left))
            }
            _ => bounds,
        };
        let before = out.deliveries.len();
        let polled = self.feed.poll_batch(cx, bounds.at_most(self.credit().unwrap_or(u64::MAX)), out);
        if let (Poll::Pending, Some(pace)) = (&polled, self.pace()) {
            pace.end_flush();
        }
        let polled = ready!(polled);
        self.ended = !matches!(polled, Some(Ok(())));
        if let Some(extra) = &mut self.extra {
            extra.account(&out.deliveries[before..], bounds, out.more);
        }
        out.place = self.feed.place();
        Poll::Ready(polled)
    }

    fn pace(&mut self) -> Option<&mut Pace> {
        self.extra.as_mut()?.pace.as_mut()
    }

    /// Grants `events` more events. Without a window nothing changes.
    pub fn grant(&mut self, events: u64) {
        if let Some(credit) = self.extra.as_mut().and_then(|extra| extra.credit.as_mut()) {
            *credit = credit.saturating_add(events);
            self.feed.grant(events);
        }
    }

    /// Events it may still deliver unasked; `None` without a window.
    pub fn credit(&self) -> Option<u64> {
        self.extra.as_ref()?.credit
    }

    /// Everything asked for up to this place was taken from it.
    pub fn place(&self) -> Option<Cursor> {
        match self.extra.as_ref().and_then(|extra| extra.streamed.as_ref()) {
            Some(streamed) if !streamed.taken.is_empty() => streamed.place,
            _ => self.feed.place(),
        }
    }

    /// Asks for `topics` from the place on, in place of what was asked for before.
    ///
    /// Deliveries that the [`Stream`] took already still come, and a [`Delivery::Place`] behind them says
    /// from where on `topics` counts.
    ///
    /// # Errors
    /// If the source cannot deliver them.
    pub fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError> {
        self.feed.retarget(topics)?;
        let streamed = self.extra.as_mut().and_then(|extra| extra.streamed.as_mut());
        if let Some(streamed) = streamed.filter(|streamed| !streamed.taken.is_empty()) {
            streamed.taken.extend(self.feed.place().map(Delivery::Place));
        }
        Ok(())
    }

    /// How many events were left out by conflation so far.
    pub fn conflated(&self) -> u64 {
        self.feed.conflated()
    }

    /// Whether it stands with others: see [`Standing`].
    pub fn standing(&self) -> Option<Standing> {
        self.is_plain().then(|| self.feed.standing()).flatten()
    }

    /// Takes `stride` as if it had been polled, if that is what it would have given: see [`Feed::follow`]. `false`, and
    /// nothing is taken, if not.
    pub fn follow(&mut self, stride: &Stride) -> bool {
        self.is_plain() && !self.ended && self.feed.follow(stride)
    }

    /// Whether nothing is between it and its feed.
    fn is_plain(&self) -> bool {
        let Some(extra) = &self.extra else { return true };
        let has_taken = extra.streamed.as_ref().is_some_and(|streamed| !streamed.taken.is_empty());
        extra.credit.is_none() && extra.pace.is_none() && !has_taken
    }

    /// The next delivery; `None` after the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Delivery, ConsumeError>> {
        std::future::poll_fn(|cx| self.poll_delivery(cx)).await
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, ConsumeError>>> {
        let kept = self.extra.as_mut().and_then(|extra| extra.streamed.take());
        let mut streamed = kept.unwrap_or_default();
        let polled = self.poll_streamed(cx, &mut streamed);
        self.extra.get_or_insert_default().streamed = Some(streamed);
        polled
    }

    fn poll_streamed(
        &mut self,
        cx: &mut Context<'_>,
        streamed: &mut Streamed,
    ) -> Poll<Option<Result<Delivery, ConsumeError>>> {
        while streamed.taken.is_empty() {
            if let Some(error) = streamed.failed.take() {
                return Poll::Ready(Some(Err(error)));
            }
            // All that was taken has been returned, so what the feed says is the place of the last of it.
            streamed.place = self.feed.place().or(streamed.place);
            let mut batch = Batch::default();
            match ready!(self.poll_batch(cx, Bounds::default(), &mut batch)) {
                Some(polled) => streamed.failed = polled.err(),
                None if batch.deliveries.is_empty() => return Poll::Ready(None),
                None => {}
            }
            streamed.taken.extend(batch.deliveries);
        }
        let delivery = streamed.taken.pop_front();
        streamed.place = delivery.as_ref().and_then(Delivery::place).or(streamed.place);
        Poll::Ready(delivery.map(Ok))
    }
}

impl Extra {
    fn account(&mut self, taken: &[Delivery], bounds: Bounds, more: bool) {
        let sizes = taken.iter().filter_map(|delivery| match delivery {
            Delivery::Event(event) => Some(event.payload().len()),
            _ => None,
        });
        let (events, bytes) = sizes.fold((0, 0), |(events, bytes), size| (events + 1, bytes + size));
        if let Some(credit) = &mut self.credit {
            *credit = credit.saturating_sub(events as u64);
        }
        if let Some(pace) = self.pace.as_mut().filter(|_| events > 0) {
            pace.take(bytes);
            let fits_more = events == bounds.events || pace.left >= bounds.bytes;
            if !more || !fits_more || self.credit == Some(0) {
                pace.end_flush();
            }
        }
    }
}

impl Pace {
    /// Ready while a flush is under way, and when one may begin.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            if let Some(next) = &mut self.next {
                ready!(next.as_mut().poll(cx));
                self.next = None;
            }
            self.left = FLUSH_BYTES;
        }
        Poll::Ready(())
    }

    fn take(&mut self, bytes: usize) {
        let next = || Box::pin(sleep_until(Instant::now() + self.rate.interval()));
        self.next.get_or_insert_with(next);
        self.left = self.left.saturating_sub(bytes);
    }

    /// If it has begun.
    fn end_flush(&mut self) {
        if self.next.is_some() {
            self.left = 0;
        }
    }
}

impl Consumer for Subscription {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, ConsumeError>>> {
        self.poll_delivery(cx)
    }

    fn place(&self) -> Option<Cursor> {
        Self::place(self)
    }

    fn transport(&self) -> Option<&'static str> {
        Self::transport(self)
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, ConsumeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_delivery(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Subscription");
        shown.field("place", &self.place()).field("credit", &self.credit()).field("ended", &self.ended);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
