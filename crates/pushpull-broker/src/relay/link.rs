//! The way to the upstream: where the one subscription stands, and short ones that ask a single thing.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use pushpull_core::{
    Context, Cursor, CursorStanding, Delivery, Epoch, ErrorKind, Link as Word, Problem, Push, Start, StartAt,
    Subscribe, SubscribeError, Subscription, Topics,
};
use tokio::sync::{Notify, watch};

use super::{RETRY, lane::Lane, void::Void};
use crate::Tail;

/// Most short subscriptions for the newest place at once.
const NEWEST: usize = 2;

/// Most short subscriptions about a cursor at once.
const ASKING: usize = 8;

/// Most cursors that wait to be asked about.
const WAITING: usize = 64;

/// Where the one subscription stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It was never there.
    New,
    Up,
    /// It stands, but leads to one that is cut off itself.
    Cut(Problem),
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
    void: Mutex<Void>,
    /// Questions for the newest place: all alike, so that who comes with what cursors has no part in them.
    places: Lane,
    /// Questions about cursors.
    cursors: Lane,
    /// Questions whether the upstream is cut off: all alike, too.
    probes: Lane,
    /// Raised where there is reason to ask that now.
    doubt: Notify,
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
            places: Lane::new(NEWEST, 1),
            cursors: Lane::new(ASKING, WAITING),
            probes: Lane::new(1, 1),
            doubt: Notify::new(),
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

    /// Subscribes to what it follows, from `start` on.
    pub(super) async fn subscribe(&self, start: StartAt) -> Result<Subscription, SubscribeError> {
        let request = Subscribe::new(self.topics.clone()).from(start);
        self.push.subscribe(&Context::default(), request).await
    }

    /// What the one subscription tells. That it stands says nothing of what lies beyond the upstream.
    pub(super) fn set(&self, state: State) {
        self.change(state, |now, next| !matches!((now, next), (State::Up | State::Cut(_), State::Up)));
    }

    /// What a probe tells, which holds only while the link stands.
    pub(super) fn set_probed(&self, state: State) {
        let is_standing = |now: &State| matches!(now, State::Up | State::Cut(_));
        self.change(state, |now, next| is_standing(now) && !matches!((now, next), (State::Up, State::Up)));
    }

    /// Nobody follows any more, which is for who ended that to tell people.
    pub(super) fn end(&self, problem: Problem) {
        self.state.send_modify(|now| self.put(now, State::Down(Some(problem))));
    }

    fn change(&self, next: State, is_news: impl FnOnce(&State, &State) -> bool) {
        self.state.send_if_modified(|now| {
            if !is_news(now, &next) {
                return false;
            }
            tell(now, &next);
            self.put(now, next);
            true
        });
    }

    fn put(&self, now: &mut State, next: State) {
        if let Some(tail) = self.tail.get() {
            tail.engine_up(matches!(next, State::Up));
        }
        *now = next;
    }

    /// The state once the first word has come, or was refused.
    pub(super) async fn reached(&self) -> State {
        let mut state = self.state.subscribe();
        let is_known = |state: &State| matches!(state, State::Up | State::Cut(_) | State::Refused(_));
        // It lives as long as the sender does, which is here.
        state.wait_for(is_known).await.map_or(State::New, |state| state.clone())
    }

    pub(super) fn check_up(&self) -> Result<(), Problem> {
        match &*self.state.borrow() {
            State::Up => Ok(()),
            State::Refused(problem) => Err(problem.clone()),
            State::New | State::Down(None) => Err(unreachable(None)),
            State::Cut(cause) | State::Down(Some(cause)) => Err(unreachable(Some(cause.clone()))),
        }
    }

    /// Asks soon whether the upstream is cut off.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    pub(super) fn judge_here(&self, cursor: Cursor) -> CursorStanding {
        self.tail.get().map_or(CursorStanding::Unknown, |tail| tail.judge(cursor))
    }

    /// Whether the tail knows of `epoch`.
    pub(super) fn knows(&self, epoch: Epoch) -> bool {
        self.judge_here(Cursor::new(epoch, 0)) != CursorStanding::Unknown
    }

    pub(super) fn set_moved(&self) {
        self.moved.send_replace(());
    }

    /// Returns once the tail knows one of `cursors`, and stands at it or behind it.
    pub(super) async fn passed(&self, cursors: &[Cursor]) {
        let mut moved = self.moved.subscribe();
        while cursors.iter().all(|cursor| self.judge_here(*cursor) == CursorStanding::Unknown) {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }

    /// The upstream's newest place, as of a moment behind the call.
    pub(super) async fn newest(&self) -> Result<Cursor, Problem> {
        let word = self.places.ask(None, || self.first_word(Start::Latest.into(), unreachable)).await?;
        word.place().ok_or_else(|| unreachable(None))
    }

    /// What the upstream says first to who comes with `cursor`, as of a moment behind the call.
    pub(super) async fn ask(&self, cursor: Cursor) -> Result<Delivery, Problem> {
        self.cursors.ask(Some(cursor), || self.first_word(cursor.into(), unreachable)).await
    }

    /// What the upstream says to a probe.
    pub(super) async fn ask_whether_cut(&self) -> Result<Delivery, Problem> {
        self.probes.ask(None, || self.first_word(probing().into(), cause_of)).await
    }

    /// The first word of a short subscription from `start`. One that has to be made anew has failed, as `failed` tells.
    async fn first_word(
        &self,
        start: StartAt,
        failed: fn(Option<Problem>) -> Problem,
    ) -> Result<Delivery, Problem> {
        let request = Subscribe::new(self.topics.clone()).from(start).with_window(NonZeroU32::MIN);
        let mut subscription = self.push.subscribe(&Context::default(), request).await?;
        while let Some(delivery) = subscription.next().await {
            match delivery? {
                Delivery::Link(Word::Connecting | Word::Connected | Word::PassedOver { .. }) => {}
                Delivery::Link(Word::Reconnecting { cause, .. }) => return Err(failed(cause)),
                Delivery::Link(_) => break,
                word => return Ok(word),
            }
        }
        Err(unreachable(None))
    }

    pub(super) fn void(&self) -> MutexGuard<'_, Void> {
        self.void.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cause_of(failure: Option<Problem>) -> Problem {
    failure.unwrap_or_else(|| unreachable(None))
}

/// The cursor of a probe: of the epoch that is never issued, so that every source answers it by a reset. A relay does so
/// only where it is not cut off itself.
pub(super) fn probing() -> Cursor {
    Cursor::new(Epoch::NEVER, 1)
}

/// Tells people what has become of the upstream: once, not at every attempt.
fn tell(before: &State, now: &State) {
    match now {
        State::Up => tracing::info!("the upstream is reached"),
        State::Cut(problem) if !matches!(before, State::Cut(_)) => {
            tracing::warn!(%problem, "the upstream is cut off");
        }
        State::Down(cause) if !matches!(before, State::Down(_)) => {
            let cause = cause.as_ref().map_or_else(|| "it ended".to_owned(), Problem::to_string);
            tracing::warn!(%cause, "the upstream is not reached; trying on");
        }
        _ => {}
    }
}

pub(super) fn unreachable(cause: Option<Problem>) -> Problem {
    let problem = Problem::new(ErrorKind::Unavailable, "the upstream cannot be reached").with_retry(RETRY);
    match cause {
        Some(cause) => problem.with_source(cause),
        None => problem,
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
