//! A source that can be asked, made of one that can be subscribed to.

mod answer;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use crate::{
    Batch, Context, Cursor, Delivery, ErrorKind, Fetch, FetchError, Problem, Pull, Push, Start, StartAt,
    Subscribe, Subscription,
};

use answer::Answer;

/// How long the first word of a subscription may take: 10 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The silence after which an answer counts as complete, by default: 50 ms.
const SETTLE: Duration = Duration::from_millis(50);

/// How long a snapshot may take in all: 60 s.
const WHOLE: Duration = Duration::from_secs(60);

/// The largest snapshot, by default: 64 MiB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

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
/// A snapshot comes whole or not at all: at most 1,000,000 events and 64 MiB ([`Fetching::with_max_answer`]), within 60 s,
/// each event within 10 s of the one before.
///
/// The context's deadline holds for all of it: what was gathered until then is the answer, but for a snapshot.
///
/// # Errors
/// What the source refuses; [`ErrorKind::Unavailable`] if it cannot be reached, or breaks off in the middle of a
/// snapshot or falls silent there; [`ErrorKind::TooLarge`] if a snapshot is beyond its bounds; [`ErrorKind::Timeout`] if
/// the first word takes longer than 10 s, a snapshot longer than 60 s, or either longer than the context's deadline.
#[derive(Clone)]
pub struct Fetching {
    push: Arc<dyn Push>,
    settle: Duration,
    max_answer: usize,
}

impl Fetching {
    /// Asks `push`.
    pub fn over(push: impl Push) -> Self {
        Self { push: Arc::new(push), settle: SETTLE, max_answer: MAX_ANSWER }
    }

    /// Sets the silence after which an answer is complete. Default: 50 ms. Shorter than the way to the source and back
    /// it makes answers that bring nothing though there is something, and never loses any.
    #[must_use]
    pub fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Sets the largest snapshot, in bytes: payloads, and what an event takes beside. Default: 64 MiB.
    #[must_use]
    pub fn with_max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
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
    async fn newest(&self, cx: &Context, request: &Fetch, asked: Cursor) -> Option<Cursor> {
        let until = within(cx, PATIENCE);
        if until <= Instant::now() {
            return None;
        }
        let last = Subscribe::new(request.topics.clone()).from(Start::Last);
        let subscription = self.subscribe(cx, last, until).await.ok()?;
        let question = Fetch::new(request.topics.clone()).from(Start::Last);
        let mut answer = Answer::new(subscription, &question, self.max_answer);
        answer.first_word(until).await.ok()?;
        answer.gather(self.settle, until, Some(until)).await.ok()?;
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

/// `time` from now, but no later than the deadline of `cx`.
fn within(cx: &Context, time: Duration) -> Instant {
    let own = Instant::now() + time;
    cx.deadline.map_or(own, |deadline| deadline.min(own))
}

fn late() -> Problem {
    Problem::new(ErrorKind::Timeout, "the source did not answer in time")
}

#[async_trait]
impl Pull for Fetching {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let (first, whole) = (within(cx, PATIENCE), within(cx, WHOLE));
        let subscription = self.subscribe(cx, asking(&request), first).await?;
        let mut answer = Answer::new(subscription, &request, self.max_answer);
        answer.first_word(first).await?;
        if answer.is_place_alone {
            return Ok(answer.finish());
        }
        let wait = within(cx, request.wait.min(Fetch::MAX_WAIT));
        let end = if is_whole(request.start) { Some(whole) } else { cx.deadline };
        answer.gather(self.settle, wait, end).await?;
        let mut batch = answer.finish();
        if let StartAt::After(asked) = request.start
            && request.topics.is_exact()
            && batch.deliveries.is_empty()
            && batch.place == Some(asked)
        {
            batch.place = self.newest(cx, &request, asked).await.or(batch.place);
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

impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetching").field("settle", &self.settle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
