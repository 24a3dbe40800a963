//! A consumer made of a push that may lose and a pull of the same sequence.

mod pushed;
mod weave;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::{
    Batch, Bounds, ConsumeError, Context, Cursor, Delivery, ErrorKind, Feed, Fetch, FetchError, Link,
    Problem, Pull, Push, Retry, Schedule, Standing, StartAt, Subscribe, SubscribeError, Subscription, Topics,
    reconnect::LONGEST_REST,
};

pub use pushed::{PushHinted, Pushed, PushedItem, PushedStream, Receipt, Taken};
use weave::{Ready, Verdict, Weave};

/// The shortest interval at which the pull is asked without cause.
const SHORTEST: Duration = Duration::from_millis(100);

/// Most pushes taken before the pull is looked after.
const PUSHES: usize = 256;

/// A [`Push`] made of a [`PushHinted`] that may lose and a [`Pull`] of the same sequence: each event once, in order,
/// as soon as the push brings it, whatever that loses, repeats, reorders or delays (wire contract, section 6).
///
/// A pushed event is delivered at once if the place told with it lies at or before the consumer's; else the pull is
/// asked up to it first. Gaps are told as the pull tells them. The pull is also asked every
/// [`interval`](Schedule::interval) (at least 100 ms) in which nothing was pushed, so that the loss of the last push is found; its
/// `wait` is not used. A failure of the pull is told as a [`Link`] while pushes that fit still come through. The end
/// of the push is no error: the pull goes on.
///
/// The push must send at least what is asked for; a subscription's topics cannot be changed.
#[derive(Clone)]
pub struct Hybrid {
    push: Arc<dyn PushHinted>,
    pull: Arc<dyn Pull>,
    schedule: Schedule,
}

impl Hybrid {
    /// Joins `push` and `pull`. Default schedule: every 15 s in which nothing was pushed.
    pub fn new(push: Arc<dyn PushHinted>, pull: Arc<dyn Pull>) -> Self {
        Self { push, pull, schedule: Schedule::every(Duration::from_secs(15)) }
    }

    /// Sets when the pull is asked without cause, how long it may take, and the delays after a failure.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }
}

#[async_trait]
impl Push for Hybrid {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let pushed = self.push.subscribe_hinted(cx, &request.topics).await?;
        let mut cx = cx.clone();
        // The deadline was for the subscribing, not for what the subscription asks later.
        cx.deadline = None;
        let start = match request.start {
            StartAt::After(cursor) => Some(cursor),
            StartAt::Start(_) => None,
        };
        let feed = HybridFeed {
            weave: Weave::new(request.topics.clone(), start),
            pushed: Some(pushed),
            pull: self.pull.clone(),
            cx,
            request: request.clone(),
            schedule: self.schedule.clone(),
            state: State::Due,
            heard: Instant::now(),
            place: None,
            is_troubled: false,
        };
        Ok(Subscription::new(feed, &request))
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Batch, FetchError>> + Send>>;

enum State {
    Due,
    /// Until something is pushed that does not fit, or the time is over.
    Quiet(Pin<Box<Sleep>>),
    /// Until the time is over.
    Resting(Pin<Box<Sleep>>),
    Asking(Answer, Option<Cursor>),
    Ended,
}

struct HybridFeed {
    weave: Weave,
    pushed: Option<PushedStream>,
    pull: Arc<dyn Pull>,
    cx: Context,
    request: Subscribe,
    schedule: Schedule,
    state: State,
    /// When a push moved the place last.
    heard: Instant,
    /// The place behind all that was handed over.
    place: Option<Cursor>,
    is_troubled: bool,
}

impl HybridFeed {
    fn poll_pushed(&mut self, cx: &mut task::Context<'_>) -> bool {
        let mut taken = 0;
        while taken < PUSHES && self.weave.has_room() {
            let Some(stream) = &mut self.pushed else { break };
            match stream.as_mut().poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.pushed = None,
                Poll::Ready(Some(pushed)) => {
                    taken += 1;
                    if self.weave.push(pushed) {
                        self.heard = Instant::now();
                    }
                }
            }
        }
        taken > 0
    }

    fn poll_pull(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), ConsumeError>> {
        match &mut self.state {
            State::Ended => return Poll::Pending,
            State::Due => self.ask(),
            State::Quiet(_) if self.weave.wants_poll() => self.ask(),
            State::Quiet(pause) => {
                ready!(pause.as_mut().poll(cx));
                let until = self.heard + self.pause();
                match until > Instant::now() {
                    true => self.state = State::Quiet(Box::pin(sleep_until(until))),
                    false => self.ask(),
                }
            }
            State::Resting(pause) => {
                ready!(pause.as_mut().poll(cx));
                self.ask();
            }
            State::Asking(answer, asked) => {
                let asked = *asked;
                match ready!(answer.as_mut().poll(cx)) {
                    Ok(batch) => self.take(asked, batch),
                    Err(error) => return Poll::Ready(self.fail(error)),
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn pause(&self) -> Duration {
        self.schedule.pause().max(SHORTEST)
    }

    fn ask(&mut self) {
        let asked = self.weave.ask();
        let mut fetch = Fetch::like(&self.request).with_limit(self.schedule.limit);
        fetch.start = asked.map_or(self.request.start, StartAt::After);
        let until = Instant::now() + self.schedule.answer_time();
        let (pull, cx) = (self.pull.clone(), self.cx.clone().with_deadline(until));
        let answer = Box::pin(async move {
            match timeout_at(until, pull.fetch(&cx, fetch)).await {
                Ok(answer) => answer,
                Err(_) => Err(Problem::new(ErrorKind::Timeout, "no answer within the deadline").into()),
            }
        });
        self.state = State::Asking(answer, asked);
    }

    fn take(&mut self, asked: Option<Cursor>, batch: Batch) {
        if std::mem::take(&mut self.is_troubled) {
            self.tell(Link::Connected);
        }
        self.state = match self.weave.answer(asked, batch) {
            Verdict::Again => State::Due,
            Verdict::Later => State::Resting(sleep_for(self.schedule.backoff.next_delay())),
            Verdict::Quiet => {
                self.schedule.backoff.reset();
                State::Quiet(sleep_for(self.pause()))
            }
            Verdict::Closed => {
                let cursor = self.weave.ask();
                self.tell(Link::Ended { retry: None, cursor });
                State::Ended
            }
        };
    }

    fn fail(&mut self, error: FetchError) -> Result<(), ConsumeError> {
        self.weave.fail();
        if !error.is_retryable() {
            self.state = State::Ended;
            return Err(Problem::from(error).into());
        }
        let own = self.schedule.backoff.next_delay();
        let delay = match error.retry() {
            Retry::After(hint) => hint.min(LONGEST_REST).max(own),
            _ => own,
        };
        self.is_troubled = true;
        self.tell(Link::Reconnecting { delay, cause: Some(error.into()) });
        self.state = State::Resting(sleep_for(delay));
        Ok(())
    }

    fn tell(&mut self, link: Link) {
        self.weave.ready.push_back(Ready { delivery: Some(Delivery::Link(link)), receipt: None });
    }

    fn hand_over(&mut self, bounds: Bounds, out: &mut Batch) {
        let (mut events, mut bytes) = (0, 0);
        while let Some(next) = self.weave.ready.front() {
            if let Some(Delivery::Event(event)) = &next.delivery {
                bytes += event.payload().len();
                if events >= bounds.events || (events > 0 && bytes > bounds.bytes) {
                    break;
                }
                events += 1;
            }
            let Ready { delivery, receipt } = self.weave.ready.pop_front().unwrap_or_default();
            if let Some(delivery) = delivery {
                self.place = delivery.place().or(self.place);
                out.deliveries.push(delivery);
            }
            if let Some(receipt) = receipt {
                receipt.give();
            }
        }
        out.more = self.weave.ready.iter().any(|ready| ready.delivery.is_some());
    }
}

fn sleep_for(delay: Duration) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(Instant::now() + delay))
}

impl Feed for HybridFeed {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        let before = out.deliveries.len();
        loop {
            self.hand_over(bounds, out);
            if out.deliveries.len() > before {
                return Poll::Ready(Some(Ok(())));
            }
            if !self.weave.ready.is_empty() {
                return Poll::Pending;
            }
            if matches!(self.state, State::Ended) {
                return Poll::Ready(None);
            }
            let heard = self.poll_pushed(cx);
            if !self.weave.ready.is_empty() {
                continue;
            }
            match self.poll_pull(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending if heard => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.place
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

impl fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hybrid").field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
