//! An answer, as it is gathered from a subscription.

use std::{
    task::{self, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{PATIENCE, is_whole, late};
use crate::{
    Batch, Bounds, Conflate, Cursor, Delivery, ErrorKind, Event, Fetch, FetchError, Gap, Link, Prev, Problem,
    Start, StartAt, Subscription, View,
};

/// An answer takes no longer than this many times the silence that ends it, counted from its first event.
const SETTLES: u32 = 20;

/// Most events of a snapshot.
const SNAPSHOT: usize = 1_000_000;

/// What a gap counts as, in bytes.
const GAP: usize = size_of::<Delivery>();

/// An answer being gathered.
pub(super) struct Answer {
    subscription: Subscription,
    pub(super) batch: Batch,
    /// The place that was asked for.
    asked: Option<Cursor>,
    conflate: Conflate,
    /// Whether it is a snapshot, which comes whole.
    is_whole: bool,
    /// Whether nothing follows yet but the place.
    pub(super) is_place_alone: bool,
    events: usize,
    bytes: usize,
    limit: usize,
    max_bytes: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Gathering,
    /// Nothing more belongs to it.
    Done,
    /// The source ended it.
    Ended,
}

impl Answer {
    pub(super) fn new(subscription: Subscription, request: &Fetch, most: usize) -> Self {
        let asked = match request.start {
            StartAt::After(cursor) => Some(cursor),
            StartAt::Start(_) => None,
        };
        let is_whole = is_whole(request.start);
        let limit = if is_whole { SNAPSHOT } else { request.limit.clamp(1, Fetch::MAX_LIMIT) };
        Self {
            subscription,
            batch: Batch::default(),
            asked,
            conflate: request.conflate,
            is_whole,
            is_place_alone: request.start == Start::Latest.into() && request.wait.is_zero(),
            events: 0,
            bytes: 0,
            limit,
            max_bytes: if is_whole { most } else { request.max_bytes },
            stage: Stage::Gathering,
        }
    }

    fn is_empty(&self) -> bool {
        self.batch.deliveries.is_empty()
    }

    /// Waits until something but the link was told.
    pub(super) async fn first_word(&mut self, until: Instant) -> Result<(), FetchError> {
        while self.batch.place.is_none() && self.is_empty() && self.stage == Stage::Gathering {
            match timeout_at(until, self.take()).await {
                Ok(taken) => taken?,
                Err(_) => return Err(late().into()),
            }
        }
        match self.batch.place.is_none() && self.is_empty() && !self.is_whole {
            true => {
                Err(Problem::new(ErrorKind::Unavailable, "the source ended before it said anything").into())
            }
            false => Ok(()),
        }
    }

    /// Takes what belongs to it, until `end` at the latest; waits for a first event until `wait`.
    pub(super) async fn gather(
        &mut self,
        settle: Duration,
        wait: Instant,
        end: Option<Instant>,
    ) -> Result<(), FetchError> {
        let begun = Instant::now();
        let mut last = begun;
        let mut latest = (!self.is_empty()).then(|| begun + settle * SETTLES);
        while self.stage == Stage::Gathering {
            let until = match latest {
                _ if self.is_whole => last + PATIENCE,
                None => (begun + settle).max(wait),
                Some(latest) => latest.min(last + settle),
            };
            let until = end.map_or(until, |end| end.min(until));
            let before = self.batch.deliveries.len();
            match timeout_at(until, self.take()).await {
                Ok(taken) => taken?,
                Err(_) => break,
            }
            // A source that always has a word ready would not let the clock come in.
            if Instant::now() > until {
                break;
            }
            if self.batch.deliveries.len() == before {
                continue;
            }
            last = Instant::now();
            if latest.is_none() && last > begun + settle && !self.is_whole {
                self.take_ready()?;
                break;
            }
            latest.get_or_insert(last + settle * SETTLES);
        }
        match self.is_whole && self.batch.place.is_none() {
            true if end.is_some_and(|end| end <= Instant::now()) => Err(late().into()),
            true => Err(Problem::new(ErrorKind::Unavailable, "the snapshot broke off").into()),
            false => Ok(()),
        }
    }

    fn take_ready(&mut self) -> Result<(), FetchError> {
        let mut cx = task::Context::from_waker(crate::silent_waker());
        while self.stage == Stage::Gathering {
            match self.poll_take(&mut cx) {
                Poll::Ready(taken) => taken?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    async fn take(&mut self) -> Result<(), FetchError> {
        std::future::poll_fn(|cx| self.poll_take(cx)).await
    }

    fn poll_take(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), FetchError>> {
        let mut taken = Batch::default();
        let polled = ready!(self.subscription.poll_batch(cx, Bounds::default(), &mut taken));
        for delivery in taken.deliveries {
            if self.stage == Stage::Gathering {
                self.add(delivery)?;
            }
        }
        match polled {
            // What was gathered is complete up to its place.
            Some(Err(error)) if self.is_useless() => return Poll::Ready(Err(Problem::from(error).into())),
            Some(Ok(())) if self.stage == Stage::Gathering => {
                self.batch.place = taken.place.or(self.batch.place);
            }
            Some(Ok(())) => {}
            _ if self.stage == Stage::Gathering => self.stage = Stage::Ended,
            _ => {}
        }
        Poll::Ready(Ok(()))
    }

    /// Whether what was gathered cannot be an answer.
    fn is_useless(&self) -> bool {
        (self.is_whole && self.batch.place.is_none()) || (self.is_empty() && self.batch.place.is_none())
    }

    fn add(&mut self, delivery: Delivery) -> Result<(), FetchError> {
        match delivery {
            Delivery::Event(event) => self.add_event(event)?,
            Delivery::Gap(gap) => self.add_gap(gap)?,
            Delivery::Place(place) => {
                self.batch.place = Some(place);
                if self.is_whole || self.is_place_alone {
                    self.stage = Stage::Done;
                }
            }
            Delivery::Link(Link::Reconnecting { cause, .. }) => {
                if self.is_useless() {
                    let gone = || Problem::new(ErrorKind::Unavailable, "the source cannot be reached");
                    return Err(cause.unwrap_or_else(gone).into());
                }
                self.stage = Stage::Ended;
            }
            Delivery::Link(Link::Ended { retry, .. }) => {
                if self.is_useless() {
                    let ended = Problem::new(ErrorKind::Unavailable, "the source ended the subscription");
                    return Err(retry.map_or(ended.clone(), |delay| ended.with_retry(delay)).into());
                }
                self.batch.closed =
                    retry.is_none() && matches!(self.batch.deliveries.last(), Some(Delivery::Gap(_)));
                self.stage = Stage::Ended;
            }
            Delivery::Link(_) => {}
        }
        Ok(())
    }

    fn add_event(&mut self, event: Event) -> Result<(), FetchError> {
        // A page is bounded by payloads, as its question says; a snapshot by what it takes here.
        let weight = if self.is_whole { event.weight() } else { event.payload().len() };
        if self.events >= self.limit || !self.has_room(self.events > 0, weight) {
            return self.overflow();
        }
        self.events += 1;
        if !event.is_snapshot() {
            self.batch.place = Some(event.cursor());
        }
        self.batch.deliveries.push(Delivery::Event(self.thinned(event)));
        Ok(())
    }

    fn add_gap(&mut self, gap: Gap) -> Result<(), FetchError> {
        if !self.has_room(!self.is_empty(), GAP) {
            return self.overflow();
        }
        if gap.reason.moves_place() {
            self.batch.place = Some(gap.cursor);
        }
        self.batch.deliveries.push(Delivery::Gap(gap));
        Ok(())
    }

    /// Counts `weight` in, if there is room for it. A page has room for its first.
    fn has_room(&mut self, has_some: bool, weight: usize) -> bool {
        let bytes = self.bytes.saturating_add(weight);
        if bytes > self.max_bytes && (has_some || self.is_whole) {
            return false;
        }
        self.bytes = bytes;
        true
    }

    /// What comes now is too much: a page is cut before it, a snapshot is all or nothing.
    fn overflow(&mut self) -> Result<(), FetchError> {
        if self.is_whole {
            let (events, bytes) = (self.limit, self.max_bytes);
            let detail =
                format!("the snapshot has more than {events} events or takes more than {bytes} bytes");
            return Err(Problem::new(ErrorKind::TooLarge, detail).into());
        }
        (self.batch.more, self.stage) = (true, Stage::Done);
        Ok(())
    }

    /// What the answer before this one left out by conflation is not known, so no `prev` leads back across its place.
    fn thinned(&self, event: Event) -> Event {
        let is_across = match (event.prev(), self.asked) {
            (Prev::At(prev), Some(asked)) => prev.seq() <= asked.seq(),
            _ => false,
        };
        match self.conflate == Conflate::Key && event.view() == View::Plain && is_across {
            true => event.shown(View::Thinned),
            false => event,
        }
    }

    pub(super) fn finish(mut self) -> Batch {
        self.batch.place = self.batch.place.or(self.asked);
        self.batch.conflated = self.subscription.conflated();
        self.batch
    }
}
