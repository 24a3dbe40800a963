//! A source that can be asked, made of one that can be subscribed to.

use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::{
    Batch, Bounds, Conflate, Context, Cursor, Delivery, ErrorKind, Event, Fetch, FetchError, Gap, Link, Prev,
    Problem, Pull, Push, Start, StartAt, Subscribe, Subscription, View,
};

/// How long the first word of a subscription may take: 10 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The silence after which an answer counts as complete, by default: 50 ms.
const SETTLE: Duration = Duration::from_millis(50);

/// An answer takes no longer than this many times the silence that ends it, counted from its first event.
const SETTLES: u32 = 20;

/// Most events of a snapshot.
const SNAPSHOT: usize = 1_000_000;

/// A [`Pull`] over any [`Push`]: each question is a short subscription of its own, from the place asked for.
///
/// # Contract
/// No event is lost or repeated between an answer and the next question, since the place of an answer is that of the
/// last event in it, or one that the source told. It lies never before the place asked for, unless a gap says that seq
/// fell.
///
/// A stream does not say where what was there ends and what is new begins. So an answer is complete once the source has
/// been silent for the *settle time* ([`Fetching::with_settle`]), or at a bound of the question, or 20 settle times
/// after its first event. What comes later is for the next question. In a wait, the first event that comes after a
/// silence is answered at once, together with what is ready then.
///
/// [`Batch::more`] says that an event beyond a bound was seen. If an answer was cut by the settle time while the source
/// was slow, `more` is false and the next question brings the rest.
///
/// An answer without events brings the place that the source told during it. For exact topics, where that is the one asked for,
/// the source is asked for each topic's newest event: if none lies behind the place asked for, nothing does up to the
/// source's newest place, which is then the answer's. So a poller of a quiet topic does not stay at an old place. One of a
/// pattern does, until an event comes or the wait is longer than the source's heartbeat.
///
/// # Errors
/// What the source refuses; [`ErrorKind::Unavailable`] if it cannot be reached, or breaks off in the middle of a
/// snapshot; [`ErrorKind::Timeout`] if its first word takes longer than 10 s or the context's deadline.
#[derive(Clone)]
pub struct Fetching {
    push: Arc<dyn Push>,
    settle: Duration,
}

impl Fetching {
    /// Asks `push`.
    pub fn over(push: impl Push) -> Self {
        Self { push: Arc::new(push), settle: SETTLE }
    }

    /// Sets the silence after which an answer is complete. Default: 50 ms. Shorter than the way to the source and back
    /// it makes answers that bring nothing though there is something, and never loses any.
    #[must_use]
    pub fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    async fn subscribe(
        &self,
        cx: &Context,
        request: Subscribe,
        until: Instant,
    ) -> Result<Subscription, FetchError> {
        // A source may hold on for as long as it cannot be reached; who asks can ask again.
        match timeout_at(until, self.push.subscribe(cx, request)).await {
            Ok(subscribed) => subscribed.map_err(|error| Problem::from(error).into()),
            Err(_) => Err(late().into()),
        }
    }

    /// The newest place, if none of the topics asked for has an event behind `asked` up to there.
    async fn newest(&self, cx: &Context, request: &Fetch, asked: Cursor, until: Instant) -> Option<Cursor> {
        let last = Subscribe::new(request.topics.clone()).from(Start::Last);
        let subscription = self.subscribe(cx, last, until).await.ok()?;
        let mut answer = Answer::new(subscription, &Fetch::new(request.topics.clone()).from(Start::Last));
        answer.first_word(until).await.ok()?;
        answer.gather(self.settle, Instant::now()).await.ok()?;
        let is_before = |delivery: &Delivery| match delivery {
            Delivery::Event(event) => {
                event.cursor().epoch() == asked.epoch() && event.cursor().seq() <= asked.seq()
            }
            _ => false,
        };
        let place = answer
            .batch
            .place
            .filter(|place| place.epoch() == asked.epoch() && place.seq() >= asked.seq())?;
        answer.batch.deliveries.iter().all(is_before).then_some(place)
    }
}

fn late() -> Problem {
    Problem::new(ErrorKind::Timeout, "the source did not answer in time")
}

#[async_trait]
impl Pull for Fetching {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let own = Instant::now() + PATIENCE;
        let until = cx.deadline.map_or(own, |deadline| deadline.min(own));
        let mut answer = Answer::new(self.subscribe(cx, asking(&request), until).await?, &request);
        answer.first_word(until).await?;
        if answer.is_place_alone {
            return Ok(answer.finish());
        }
        let wait = Instant::now() + request.wait.min(Fetch::MAX_WAIT);
        answer.gather(self.settle, cx.deadline.map_or(wait, |deadline| deadline.min(wait))).await?;
        let mut batch = answer.finish();
        if let StartAt::After(asked) = request.start
            && request.topics.is_exact()
            && batch.deliveries.is_empty()
            && batch.place == Some(asked)
        {
            let until = Instant::now() + PATIENCE;
            let until = cx.deadline.map_or(until, |deadline| deadline.min(until));
            batch.place = self.newest(cx, &request, asked, until).await.or(batch.place);
            batch.stale = batch.place != Some(asked);
        }
        Ok(batch)
    }
}

fn is_whole(start: StartAt) -> bool {
    matches!(start, StartAt::Start(Start::Snapshot | Start::Last))
}

/// One event more than asked for, to know whether there is more.
fn asking(request: &Fetch) -> Subscribe {
    let mut subscribe =
        Subscribe::new(request.topics.clone()).from(request.start).on_overflow(request.overflow);
    subscribe.conflate = request.conflate;
    if !is_whole(request.start) {
        let limit = request.limit.clamp(1, Fetch::MAX_LIMIT) + 1;
        subscribe.window = u32::try_from(limit).ok().and_then(NonZeroU32::new);
    }
    subscribe
}

/// An answer being gathered.
struct Answer {
    subscription: Subscription,
    batch: Batch,
    /// The place that was asked for.
    asked: Option<Cursor>,
    conflate: Conflate,
    /// Whether it is a snapshot, which comes whole.
    is_whole: bool,
    /// Whether nothing follows yet but the place.
    is_place_alone: bool,
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
    fn new(subscription: Subscription, request: &Fetch) -> Self {
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
            max_bytes: if is_whole { usize::MAX } else { request.max_bytes },
            stage: Stage::Gathering,
        }
    }

    fn is_empty(&self) -> bool {
        self.batch.deliveries.is_empty()
    }

    /// Waits until something but the link was told.
    async fn first_word(&mut self, until: Instant) -> Result<(), FetchError> {
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

    /// Takes what belongs to it; waits for a first event until `wait`.
    async fn gather(&mut self, settle: Duration, wait: Instant) -> Result<(), FetchError> {
        let begun = Instant::now();
        let mut last = begun;
        let mut latest = (!self.is_empty()).then(|| begun + settle * SETTLES);
        while self.stage == Stage::Gathering {
            let until = match latest {
                _ if self.is_whole => last + PATIENCE,
                None => (begun + settle).max(wait),
                Some(latest) => latest.min(last + settle),
            };
            let before = self.batch.deliveries.len();
            match timeout_at(until, self.take()).await {
                Ok(taken) => taken?,
                Err(_) => break,
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
            Delivery::Gap(gap) => self.add_gap(gap),
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
        let bytes = self.bytes + event.payload().len();
        if self.events >= self.limit || (self.events > 0 && bytes > self.max_bytes) {
            if self.is_whole {
                return Err(Problem::new(ErrorKind::TooLarge, "the snapshot has too many events").into());
            }
            (self.batch.more, self.stage) = (true, Stage::Done);
            return Ok(());
        }
        (self.events, self.bytes) = (self.events + 1, bytes);
        if !event.is_snapshot() {
            self.batch.place = Some(event.cursor());
        }
        self.batch.deliveries.push(Delivery::Event(self.thinned(event)));
        Ok(())
    }

    fn add_gap(&mut self, gap: Gap) {
        if gap.reason.moves_place() {
            self.batch.place = Some(gap.cursor);
        }
        self.batch.deliveries.push(Delivery::Gap(gap));
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

    fn finish(mut self) -> Batch {
        self.batch.place = self.batch.place.or(self.asked);
        self.batch.conflated = self.subscription.conflated();
        self.batch
    }
}

impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetching").field("settle", &self.settle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
