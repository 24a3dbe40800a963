//! A consumer made of a source that can be asked.

mod feed;
mod schedule;

use std::{collections::VecDeque, fmt, future::Future, mem, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::{
    Batch, ConsumeError, Context, Cursor, Delivery, Dialing, ErrorKind, Feed, Fetch, FetchError, Link,
    Problem, Pull, Retry, StartAt, Subscribe, SubscribeError, Subscription, reconnect::LONGEST_REST,
};

pub use schedule::Schedule;

type Answer = Pin<Box<dyn Future<Output = Result<Batch, FetchError>> + Send>>;

enum State {
    /// To ask at the next poll, not before: the deadline of a question must not run while nobody waits.
    Due,
    Resting(Pin<Box<Sleep>>),
    Asking(Answer, Question),
    Ended,
}

/// What an answer is judged by.
#[derive(Clone, Copy)]
struct Question {
    asked_at: Instant,
    wait: Duration,
}

impl Question {
    /// Whether an answer that brings nothing comes so early that asking again at once would be a busy loop.
    fn is_premature(self) -> bool {
        self.asked_at.elapsed() < self.wait / 2
    }
}

/// A [`Feed`] that asks a [`Pull`] again and again, from its place on.
///
/// Its first word is the starting place, but for `start=earliest`: an answer tells only where it ends, so the
/// first word there is the first event.
pub struct Polling {
    pull: Arc<dyn Pull>,
    cx: Context,
    request: Subscribe,
    schedule: Schedule,
    state: State,
    /// Received, not handed over yet.
    waiting: VecDeque<Delivery>,
    /// The place behind all that was received.
    asked: Option<Cursor>,
    /// The place behind all that was handed over.
    place: Option<Cursor>,
    conflated: u64,
    troubled: bool,
    on_failure: OnFailure,
}

/// What follows a question that failed but may be repeated.
#[derive(Clone, Copy)]
enum OnFailure {
    /// The link's trouble is told, and the question asked again.
    AskAgain,
    /// The feed ends with the error, as one over a connection does.
    End,
}

impl Polling {
    /// Begins to ask `pull`. The deadline of `cx` is not used.
    pub fn start(pull: Arc<dyn Pull>, cx: Context, request: &Subscribe, schedule: Schedule) -> Subscription {
        let cx = Context { deadline: None, ..cx };
        Subscription::new(Self::new(pull, cx, request, schedule, OnFailure::AskAgain), request)
    }

    /// The same, but asks once before it returns, until the deadline of `cx`: the starting place is fixed then.
    ///
    /// # Errors
    /// If that question is refused, or answered against the protocol. Other failures are told as
    /// [`Link::Reconnecting`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn open(
        pull: Arc<dyn Pull>,
        cx: Context,
        request: &Subscribe,
        schedule: Schedule,
    ) -> Result<Subscription, SubscribeError> {
        let mut feed = Self::new(pull, cx, request, schedule, OnFailure::AskAgain);
        if let Err(error) = feed.ask_first().await {
            if error.kind() == ErrorKind::Protocol {
                return Err(Problem::from(error).into());
            }
            if let Some(refused) = feed.fail(error) {
                return Err(Problem::from(refused).into());
            }
        }
        feed.cx.deadline = None;
        Ok(Subscription::new(feed, request))
    }

    /// Asks for a while, as one connection of a [`Dial`](crate::Dial): opened by a first answer, and lost with the
    /// first question after it that fails.
    pub fn dial(pull: Arc<dyn Pull>, request: Subscribe, schedule: Schedule) -> Dialing {
        Box::pin(async move {
            let mut feed = Self::new(pull, Context::default(), &request, schedule, OnFailure::End);
            feed.ask_first().await.map_err(Problem::from)?;
            Ok(Box::new(feed) as Box<dyn Feed>)
        })
    }

    fn new(
        pull: Arc<dyn Pull>,
        cx: Context,
        request: &Subscribe,
        schedule: Schedule,
        on_failure: OnFailure,
    ) -> Self {
        Self {
            pull,
            cx,
            request: request.clone(),
            schedule,
            state: State::Due,
            waiting: VecDeque::new(),
            asked: None,
            place: None,
            conflated: 0,
            troubled: false,
            on_failure,
        }
    }

    async fn ask_first(&mut self) -> Result<(), FetchError> {
        self.ask();
        if let State::Asking(answer, question) = &mut self.state {
            let question = *question;
            let batch = answer.await?;
            self.take(batch, question);
        }
        Ok(())
    }

    fn ask(&mut self) {
        let mut fetch = Fetch::like(&self.request).with_limit(self.schedule.limit);
        fetch.start = self.asked.map_or(self.request.start, StartAt::After);
        // The first answer tells the starting place, so it must not wait.
        fetch.wait =
            if self.asked.is_some() { self.schedule.wait.min(Fetch::MAX_WAIT) } else { Duration::ZERO };
        let question = Question { asked_at: Instant::now(), wait: fetch.wait };
        let until = question.asked_at + fetch.wait + self.schedule.answer_time();
        let until = self.cx.deadline.map_or(until, |deadline| deadline.min(until));
        let (pull, cx) = (self.pull.clone(), self.cx.clone().with_deadline(until));
        let answer = Box::pin(async move {
            match timeout_at(until, pull.fetch(&cx, fetch)).await {
                Ok(answer) => answer,
                Err(_) => Err(Problem::new(ErrorKind::Timeout, "no answer within the deadline").into()),
            }
        });
        self.state = State::Asking(answer, question);
    }

    fn take(&mut self, batch: Batch, question: Question) {
        if mem::take(&mut self.troubled) {
            self.waiting.push_back(Delivery::Link(Link::Connected));
        }
        let (brought, closed, more) = (!batch.deliveries.is_empty(), batch.closed, batch.more);
        let progressed = brought || batch.place != self.asked;
        self.receive(batch);
        self.state = if closed {
            self.waiting.push_back(Delivery::Link(Link::Ended { retry: None, cursor: self.asked }));
            State::Ended
        } else if more && progressed {
            State::Due
        } else if more || (!brought && question.is_premature()) {
            State::rest(self.schedule.backoff.next_delay())
        } else {
            self.schedule.backoff.reset();
            State::rest(self.schedule.pause())
        };
    }

    fn receive(&mut self, batch: Batch) {
        self.conflated += batch.conflated;
        let mut told = self.asked.or_else(|| self.tell_start(&batch));
        for delivery in batch.deliveries {
            told = delivery.place().or(told);
            self.waiting.push_back(delivery);
        }
        if batch.place != told {
            self.waiting.extend(batch.place.map(Delivery::Place));
        }
        self.asked = batch.place.or(self.asked);
    }

    /// The first word of a consumer that came with a cursor, unless the answer says that it is void.
    fn tell_start(&mut self, batch: &Batch) -> Option<Cursor> {
        let StartAt::After(start) = self.request.start else { return None };
        if matches!(batch.deliveries.first(), Some(Delivery::Gap(gap)) if gap.reason.may_fall()) {
            return None;
        }
        self.waiting.push_back(Delivery::Place(start));
        Some(start)
    }

    fn fail(&mut self, error: FetchError) -> Option<ConsumeError> {
        if !error.is_retryable() || matches!(self.on_failure, OnFailure::End) {
            self.state = State::Ended;
            return Some(Problem::from(error).into());
        }
        let delay = match error.retry() {
            Retry::After(hint) => hint.min(LONGEST_REST).max(self.schedule.backoff.next_delay()),
            _ => self.schedule.backoff.next_delay(),
        };
        self.troubled = true;
        self.waiting.push_back(Delivery::Link(Link::Reconnecting { delay, cause: Some(error.into()) }));
        self.state = State::rest(delay);
        None
    }
}

impl State {
    fn rest(delay: Duration) -> Self {
        Self::Resting(Box::pin(sleep(delay)))
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling")
            .field("place", &self.place)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
