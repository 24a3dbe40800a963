//! The way to the upstream: the one subscription, and short ones that ask a single thing.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use pushpull_core::{
    Backoff, Batch, Bounds, Context, Cursor, CursorStanding, Delivery, Epoch, ErrorKind, GapReason,
    Link as Word, Problem, Push, StartAt, Subscribe, SubscribeError, Subscription, Topics,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::{RETRY, intake::Intake};
use crate::Tail;

/// How long an answer of the upstream may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a cursor that is good upstream, of an epoch unknown here, is given to become known: it may be newer than
/// what has come so far. If it does not, it is older than all that is retained.
const LEARNING: Duration = Duration::from_millis(500);

/// Most short subscriptions at once.
const ASKING: usize = 8;

/// Most epochs remembered as void, so that a fleet that comes back with the old one is not asked about one by one.
const VOID: usize = 64;

/// Where the one subscription stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It was never there.
    New,
    Up,
    Down(Option<Problem>),
    /// For good.
    Refused(Problem),
}

pub(super) struct Link {
    push: Arc<dyn Push>,
    topics: Topics,
    tail: OnceLock<Tail>,
    state: watch::Sender<State>,
    /// Raised when the tail has moved.
    moved: watch::Sender<()>,
    void: Mutex<VecDeque<Epoch>>,
    asking: Semaphore,
}

impl Link {
    pub(super) fn new(push: Arc<dyn Push>, topics: Topics) -> Self {
        Self {
            push,
            topics,
            tail: OnceLock::new(),
            state: watch::Sender::new(State::New),
            moved: watch::Sender::default(),
            void: Mutex::default(),
            asking: Semaphore::new(ASKING),
        }
    }

    pub(super) fn push(&self) -> Arc<dyn Push> {
        self.push.clone()
    }

    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn attach(&self, tail: &Tail) {
        // Opened a second time it goes on judging by the first tail, which is fed no more.
        let _ = self.tail.set(tail.clone());
    }

    /// Subscribes to what it follows, from `place` on.
    pub(super) async fn subscribe(&self, place: Cursor) -> Result<Subscription, SubscribeError> {
        let request = Subscribe::new(self.topics.clone()).from(place);
        self.push.subscribe(&Context::default(), request).await
    }

    fn set(&self, state: State) {
        if matches!((&state, &*self.state.borrow()), (State::Up, State::Up)) {
            return;
        }
        if let Some(tail) = self.tail.get() {
            tail.engine_up(matches!(state, State::Up));
        }
        self.state.send_replace(state);
    }

    /// The state once the first word has come, or was refused.
    pub(super) async fn reached(&self) -> State {
        let mut state = self.state.subscribe();
        let is_known = |state: &State| matches!(state, State::Up | State::Refused(_));
        // It lives as long as the sender does, which is here.
        state.wait_for(is_known).await.map_or(State::New, |state| state.clone())
    }

    pub(super) fn check_up(&self) -> Result<(), Problem> {
        match &*self.state.borrow() {
            State::Up => Ok(()),
            State::Refused(problem) => Err(problem.clone()),
            State::New | State::Down(None) => Err(unreachable(None)),
            State::Down(Some(cause)) => Err(unreachable(Some(cause.clone()))),
        }
    }

    fn judge_here(&self, cursor: Cursor) -> CursorStanding {
        self.tail.get().map_or(CursorStanding::Unknown, |tail| tail.judge(cursor))
    }

    /// Returns once the tail knows `cursor`, and stands at it or behind it.
    pub(super) async fn passed(&self, cursor: Cursor) {
        let mut moved = self.moved.subscribe();
        while self.judge_here(cursor) == CursorStanding::Unknown {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }

    /// The first word of a short subscription from `start`.
    pub(super) async fn ask(&self, start: StartAt) -> Result<Delivery, Problem> {
        let late =
            |_| Problem::new(ErrorKind::Unavailable, "the upstream did not answer in time").with_retry(RETRY);
        timeout(PATIENCE, self.first_word(start)).await.map_err(late)?
    }

    async fn first_word(&self, start: StartAt) -> Result<Delivery, Problem> {
        let _turn = self.asking.acquire().await.map_err(|_| unreachable(None))?;
        let request = Subscribe::new(self.topics.clone()).from(start).with_window(std::num::NonZeroU32::MIN);
        let mut subscription = self.push.subscribe(&Context::default(), request).await?;
        while let Some(delivery) = subscription.next().await {
            match delivery? {
                Delivery::Link(Word::Connecting | Word::Connected) => {}
                Delivery::Link(Word::Reconnecting { cause, .. }) => return Err(unreachable(cause)),
                Delivery::Link(_) => break,
                word => return Ok(word),
            }
        }
        Err(unreachable(None))
    }

    pub(super) async fn judge(&self, cursor: Cursor) -> Result<CursorStanding, Problem> {
        if cursor.epoch() == Epoch::NEVER || self.void().contains(&cursor.epoch()) {
            return Ok(CursorStanding::Unknown);
        }
        self.check_up()?;
        let word = self.ask(cursor.into()).await?;
        let here = self.judge_here(cursor);
        if here != CursorStanding::Unknown {
            return Ok(here);
        }
        match word {
            Delivery::Gap(gap) if gap.reason == GapReason::Reset => Ok(CursorStanding::Unknown),
            Delivery::Gap(gap) if gap.reason == GapReason::Rewound => {
                Ok(CursorStanding::Rewound(gap.cursor.seq()))
            }
            _ => self.await_known(cursor).await,
        }
    }

    /// `cursor` is good upstream.
    async fn await_known(&self, cursor: Cursor) -> Result<CursorStanding, Problem> {
        let is_ahead = self.tail.get().is_some_and(|tail| tail.place().epoch() == cursor.epoch());
        let patience = if is_ahead { PATIENCE } else { LEARNING };
        match timeout(patience, self.passed(cursor)).await {
            Ok(()) => Ok(self.judge_here(cursor)),
            Err(_) if is_ahead => Err(unreachable(None)),
            Err(_) => Ok(CursorStanding::Good),
        }
    }

    fn void(&self) -> std::sync::MutexGuard<'_, VecDeque<Epoch>> {
        self.void.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_void(&self, epochs: Vec<Epoch>) {
        let mut void = self.void();
        void.extend(epochs);
        let beyond = void.len().saturating_sub(VOID);
        void.drain(..beyond);
    }
}

fn unreachable(cause: Option<Problem>) -> Problem {
    let problem = Problem::new(ErrorKind::Unavailable, "the upstream cannot be reached").with_retry(RETRY);
    match cause {
        Some(cause) => problem.with_source(cause),
        None => problem,
    }
}

/// Follows the upstream for as long as it does not refuse that.
pub(super) async fn follow(link: Arc<Link>, tail: Tail, mut first: Option<Subscription>) {
    let (mut intake, mut backoff) = (Intake::new(tail), Backoff::default());
    loop {
        let subscribed = match first.take() {
            Some(subscription) => Ok(subscription),
            None => link.subscribe(intake.place()).await,
        };
        let ended = match subscribed {
            Ok(subscription) => drain(&link, &mut intake, &mut backoff, subscription).await,
            Err(error) => Ended { cause: Some(error.into()), retry: None },
        };
        if let Some(problem) = ended.cause.as_ref().filter(|problem| !problem.is_retryable()) {
            tracing::error!(%problem, "the upstream refuses to be followed");
            link.set(State::Refused(problem.clone()));
            return;
        }
        link.set(State::Down(ended.cause));
        let own = backoff.next_delay();
        sleep(ended.retry.map_or(own, |asked| asked.max(own))).await;
    }
}

/// Why a subscription is over, and when the upstream wants to be asked again.
struct Ended {
    cause: Option<Problem>,
    retry: Option<Duration>,
}

/// Takes all that `subscription` brings, until its end.
async fn drain(
    link: &Link,
    intake: &mut Intake,
    backoff: &mut Backoff,
    mut subscription: Subscription,
) -> Ended {
    let mut ended = Ended { cause: None, retry: None };
    loop {
        let mut batch = Batch::default();
        let polled = poll_fn(|cx| subscription.poll_batch(cx, Bounds::default(), &mut batch)).await;
        let mut state = None;
        for delivery in &batch.deliveries {
            match delivery {
                Delivery::Link(Word::Ended { retry, .. }) => ended.retry = *retry,
                Delivery::Link(Word::Reconnecting { cause, .. }) => state = Some(State::Down(cause.clone())),
                // Who asks again and again is told no more than this if nothing is new.
                Delivery::Link(Word::Connected) if !intake.has_begun() => {}
                Delivery::Link(Word::Connecting) => {}
                _ => state = Some(State::Up),
            }
        }
        link.remember_void(intake.take(batch.deliveries, batch.place));
        if let Some(state) = state {
            if matches!(state, State::Up) {
                backoff.reset();
            }
            link.set(state);
        }
        link.moved.send_replace(());
        match polled {
            Some(Ok(())) => {}
            Some(Err(error)) => return Ended { cause: Some(error.into()), ..ended },
            None => return ended,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("topics", &self.topics)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
