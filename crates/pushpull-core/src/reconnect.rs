//! A consumer that makes its connection anew, and goes on where it was.

mod dial;
mod live;

use std::{
    fmt,
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use crate::{
    Backoff, Batch, Bounds, ConsumeError, Cursor, Delivery, ErrorKind, Feed, Link, Problem, Retry, Standing,
    Start, StartAt, Stride, Subscribe, SubscribeError, Subscription, Topics,
};

pub use dial::{Dial, Dialing, End};
use live::Live;
pub(crate) use live::is_announced;

/// A connection that lasted this long was useful even if it brought no event.
pub(crate) const USEFUL: Duration = Duration::from_secs(10);

/// The longest a consumer stays away, however long a source asks it to: a number out of place must not end it in silence.
pub(crate) const LONGEST_REST: Duration = Duration::from_secs(3600);

enum State {
    Resting(Pin<Box<Sleep>>),
    Dialing(Dialing),
    Live(Live),
    Ended,
}

/// A [`Feed`] over connections that [`Dial`] makes: reconnects with back-off, resumes from its place, and
/// tells every change of the link.
///
/// Where the source asks to come back later it stays away that long, at most one hour, and never less than its own
/// back-off.
pub struct Reconnecting<D> {
    dial: D,
    request: Subscribe,
    backoff: Backoff,
    state: State,
    place: Option<Cursor>,
    conflated: u64,
    /// Events that the consumer still takes; `None` without a window.
    credit: Option<u64>,
    /// Events that the live source may send beyond the credit, since a window is never empty.
    lent: u64,
    /// Events granted since the window of the connection being made was asked for.
    owed: u64,
    /// What is told before the next announcement.
    passed: Vec<Link>,
    announce: Option<Link>,
}

impl<D: Dial> Reconnecting<D> {
    /// Connects for `request`, and again whenever the connection is lost.
    ///
    /// # Errors
    /// If the first attempt fails for a reason that trying again cannot mend, or is answered against the
    /// protocol; other failures, a server that is down among them, are told as [`Link::Reconnecting`] and tried
    /// again for as long as the subscription lives.
    pub async fn start(
        dial: D,
        request: Subscribe,
        backoff: Backoff,
    ) -> Result<Subscription, SubscribeError> {
        let first = dial.dial(request.clone()).await;
        let mut feed = Self {
            dial,
            request: request.clone(),
            backoff,
            state: State::Ended,
            place: None,
            conflated: 0,
            credit: request.window.map(|window| window.get().into()),
            lent: 0,
            owed: 0,
            passed: Vec::new(),
            announce: None,
        };
        match first {
            Ok(live) => feed.connected(live),
            // Who answers the very first question as no server of ours does is none, most likely.
            Err(error) if error.is_retryable() && error.kind() != ErrorKind::Protocol => {
                feed.rest(Some(error.into()), None);
            }
            Err(error) => return Err(error),
        }
        Ok(Subscription::new(feed, &request))
    }

    fn connected(&mut self, live: Box<dyn Feed>) {
        self.state = State::Live(Live::new(live));
        self.passed = self.dial.passed_over();
        self.announce = Some(Link::Connected);
        self.pay();
    }

    /// Grants the live source what it is owed.
    fn pay(&mut self) {
        if let State::Live(live) = &mut self.state
            && self.owed > 0
        {
            live.feed.grant(std::mem::take(&mut self.owed));
        }
    }

    fn redial(&mut self) {
        self.leave();
        let mut request = self.request.clone();
        request.start = self.place.map_or(request.start, StartAt::After);
        if let Some(credit) = self.credit {
            (self.lent, self.owed) = (u64::from(credit == 0), 0);
            request.window = NonZeroU32::new(u32::try_from(credit.max(1)).unwrap_or(u32::MAX));
        }
        self.state = State::Dialing(self.dial.dial(request));
        self.announce = Some(Link::Connecting);
    }

    /// Takes over what the live feed knew.
    fn leave(&mut self) {
        if let State::Live(live) = &self.state {
            self.conflated += live.feed.conflated();
            self.place = live.feed.place().or(self.place);
            if live.opened.elapsed() >= USEFUL {
                self.backoff.reset();
            }
            self.state = State::Ended;
        }
    }

    fn rest(&mut self, cause: Option<Problem>, hint: Option<Duration>) {
        if let State::Live(live) = &self.state {
            self.dial.ended(live.end(cause.as_ref(), hint));
        }
        self.leave();
        let asked = hint.or_else(|| match cause.as_ref().map(Problem::retry) {
            Some(Retry::After(delay)) => Some(delay),
            _ => None,
        });
        // A hint below the own delay would let a source that ends at once be dialled in a busy loop.
        let own = self.backoff.next_delay();
        let delay = asked.map_or(own, |asked| asked.min(LONGEST_REST).max(own));
        self.state = State::Resting(Box::pin(sleep(delay)));
        self.announce = Some(Link::Reconnecting { delay, cause });
    }

    /// Takes a batch of the live feed; `true` if the feed ended with it.
    fn take(
        &mut self,
        polled: Option<Result<(), ConsumeError>>,
        out: &mut Batch,
        before: usize,
    ) -> Option<ConsumeError> {
        let mut ended = None;
        if let State::Live(live) = &mut self.state
            && out.deliveries.len() > before
        {
            live.heard = Instant::now();
        }
        for delivery in &out.deliveries[before..] {
            match delivery {
                Delivery::Link(Link::Ended { retry, cursor }) => ended = Some((*retry, *cursor)),
                Delivery::Event(_) => {
                    self.backoff.reset();
                    self.credit = self.credit.map(|credit| credit.saturating_sub(1));
                }
                _ => {}
            }
            self.place = delivery.place().or(self.place);
        }
        match (ended, polled) {
            (Some((Some(retry), cursor)), _) => {
                out.deliveries.retain(|delivery| !matches!(delivery, Delivery::Link(Link::Ended { .. })));
                self.adopt(cursor);
                self.rest(None, Some(retry));
            }
            (Some((None, _)), _) => self.state = State::Ended,
            (None, None) => self.rest(None, None),
            // What may not be the source's own word is asked for again, and believed of the next connection.
            (None, Some(Err(error))) if error.is_retryable() || error.problem().is_doubtful() => {
                self.rest(Some(error.into()), None);
            }
            (None, Some(Err(error))) => {
                self.state = State::Ended;
                return Some(error);
            }
            (None, Some(Ok(()))) => {}
        }
        None
    }
}

impl<D> Reconnecting<D> {
    /// Takes the place that an announced end tells, if none was told before. In the middle of a snapshot
    /// there is none: only a new snapshot is complete.
    fn adopt(&mut self, told: Option<Cursor>) {
        let unit = matches!(self.request.start, StartAt::Start(Start::Snapshot | Start::Last));
        if !unit {
            self.place = self.place.or(told);
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "what a feed can do must not get lost here")]
impl<D: Dial> Feed for Reconnecting<D> {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        let before = out.deliveries.len();
        loop {
            out.deliveries.extend(self.passed.drain(..).map(Delivery::Link));
            if let Some(link) = self.announce.take() {
                out.deliveries.push(Delivery::Link(link));
            }
            if out.deliveries.len() > before {
                return Poll::Ready(Some(Ok(())));
            }
            match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Resting(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.redial();
                }
                State::Dialing(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                    Ok(live) => self.connected(live),
                    Err(error) if error.is_retryable() => self.rest(Some(error.into()), None),
                    Err(error) => {
                        self.state = State::Ended;
                        return Poll::Ready(Some(Err(Problem::from(error).into())));
                    }
                },
                State::Live(live) => {
                    let place = live.feed.place().or(self.place);
                    if place.is_some_and(|at| self.dial.poll_better(cx, &self.request, at).is_ready()) {
                        self.redial();
                        continue;
                    }
                    let polled = ready!(live.feed.poll_batch(cx, bounds, out));
                    if let Some(error) = self.take(polled, out, before) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        match &self.state {
            State::Live(live) => live.feed.place().or(self.place),
            _ => self.place,
        }
    }

    /// Asks for `topics` over a new connection, unless the live one can change what it asks for.
    fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError> {
        self.request.topics = topics.clone();
        match &mut self.state {
            State::Live(live) => {
                if live.feed.retarget(topics).is_err() {
                    self.redial();
                }
            }
            State::Dialing(_) => self.redial(),
            State::Resting(_) | State::Ended => {}
        }
        Ok(())
    }

    fn grant(&mut self, events: u64) {
        self.credit = self.credit.map(|credit| credit.saturating_add(events));
        if matches!(self.state, State::Live(..) | State::Dialing(_)) {
            let lent = self.lent.min(events);
            self.lent -= lent;
            self.owed = self.owed.saturating_add(events - lent);
        }
        self.pay();
    }

    fn conflated(&self) -> u64 {
        match &self.state {
            State::Live(live) => self.conflated + live.feed.conflated(),
            _ => self.conflated,
        }
    }

    fn standing(&self) -> Option<Standing> {
        None
    }

    fn follow(&mut self, _: &Stride) -> bool {
        false
    }

    fn transport(&self) -> Option<&'static str> {
        self.dial.transport()
    }
}

impl<D> fmt::Debug for Reconnecting<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
