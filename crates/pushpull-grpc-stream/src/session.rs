//! One stream, from its head to its trailers: a response body over a subscription, and over what the client says.

mod commands;
mod deliver;

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use pushpull_core::{
    Cursor, ErrorKind, Problem, Producer, Push, Start, StartAt, Subscribe, Subscription, Topics,
};
use pushpull_http::{ConnectionGuard, Drain, Gate, Nudged, Rejection, proto, yield_turn};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tonic::{Status, Streaming};

use crate::{
    codec::Flush,
    proto::ClientFrame,
    server::call::{too_late, trailers},
    status,
};
use commands::Work;

/// The work of one turn, in the bytes of what is asked, each message counted as a value too: some thousand messages, or
/// one batch. Behind it other tasks have their turn.
const TURN: usize = 128 * 1024;

/// What a stream works with.
pub(crate) struct Shared {
    pub(crate) push: Arc<dyn Push>,
    pub(crate) producer: Option<Arc<dyn Producer>>,
    pub(crate) gate: Gate,
    pub(crate) cx: pushpull_core::Context,
}

/// How a stream begins.
pub(crate) enum Opening {
    /// With a subscription that was asked for and may be had.
    Subscribe(Subscribe),
    /// With nothing, until a frame asks for it.
    Attach(Streaming<ClientFrame>),
}

/// A stream.
///
/// Dropping it, as a server does once the client is gone, ends the subscription.
pub(crate) struct Session {
    shared: Arc<Shared>,
    /// What the client says; `None` on `Subscribe`, and once it has said all.
    frames: Option<Streaming<ClientFrame>>,
    /// A frame that waits for its turn.
    ahead: Option<ClientFrame>,
    work: Option<Work>,
    subscription: Option<Subscription>,
    nudged: Nudged,
    topics: Option<Topics>,
    /// Who asked for the subscription that has not told its starting place.
    first_word: Option<Option<u64>>,
    /// Until a snapshot is complete there is no place.
    is_in_snapshot: bool,
    /// The place of a subscription that is gone.
    left_at: Option<Cursor>,
    conflated: u64,
    flush: Flush,
    beats: Interval,
    end: Pin<Box<dyn Future<Output = End> + Send>>,
    is_draining: bool,
    is_attached: bool,
    /// The work of this turn.
    spent: usize,
    stage: Stage,
    _guard: Option<ConnectionGuard>,
}

#[derive(Debug)]
enum Stage {
    Running,
    /// Once all that waits is written, the status follows.
    Parting(Status),
    Ended,
}

/// What ends a stream from outside.
#[derive(Clone, Copy, Debug)]
enum End {
    Drain,
    Abort,
    Expired,
    Deadline,
}

impl Session {
    /// A stream that begins with `opening` and ends at `deadline`.
    pub(crate) fn new(
        shared: Shared,
        guard: Option<ConnectionGuard>,
        deadline: Option<Instant>,
        opening: Opening,
    ) -> Self {
        let period = shared.gate.keep_alive();
        let mut beats = interval_at(Instant::now() + period, period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = Box::pin(end(shared.gate.drain().clone(), shared.cx.clone(), deadline));
        let mut session = Self {
            shared: Arc::new(shared),
            frames: None,
            ahead: None,
            work: None,
            subscription: None,
            nudged: Nudged::default(),
            topics: None,
            first_word: None,
            is_in_snapshot: false,
            left_at: None,
            conflated: 0,
            flush: Flush::default(),
            beats,
            end,
            is_draining: false,
            is_attached: matches!(opening, Opening::Attach(_)),
            spent: 0,
            stage: Stage::Running,
            _guard: guard,
        };
        match opening {
            Opening::Subscribe(wanted) => session.work = Some(session.shared.open(None, wanted)),
            Opening::Attach(frames) => session.frames = Some(frames),
        }
        session
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if let Some(chunk) = self.flush.next() {
                return Poll::Ready(Some(Frame::data(chunk)));
            }
            match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Running => self.stage = Stage::Running,
                Stage::Parting(status) => return Poll::Ready(Some(Frame::trailers(trailers(&status)))),
                Stage::Ended => return Poll::Ready(None),
            }
            if self.spent >= TURN {
                yield_turn(cx);
                return Poll::Pending;
            }
            self.poll_end(cx);
            let moved = self.poll_commands(cx) | self.poll_deliveries(cx);
            if !moved && matches!(self.stage, Stage::Running) && self.flush.is_empty() {
                std::task::ready!(self.beats.poll_tick(cx));
                self.beat();
            }
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) {
        let Poll::Ready(end) = self.end.as_mut().poll(cx) else { return };
        match end {
            End::Drain => {
                self.is_draining = true;
                let drain = self.shared.gate.drain().clone();
                self.end = Box::pin(async move {
                    drain.aborted().await;
                    End::Abort
                });
                // Registers the waker; cut short already, it ends below.
                self.poll_end(cx);
            }
            End::Abort => self.leave(self.shared.gate.drain().retry_hint(), self.place()),
            End::Expired => self.fail(&Problem::new(ErrorKind::Unauthenticated, "the token has expired")),
            End::Deadline => self.fail(&too_late()),
        }
    }

    /// The stream's place: everything asked for up to it stands before.
    fn place(&self) -> Option<Cursor> {
        match &self.subscription {
            Some(_) if self.is_in_snapshot => None,
            Some(subscription) => subscription.place(),
            None => self.left_at,
        }
    }

    fn attach(&mut self, subscription: Subscription, wanted: Subscribe, id: Option<u64>) {
        self.is_in_snapshot = matches!(wanted.start, StartAt::Start(Start::Snapshot | Start::Last));
        self.subscription = Some(subscription);
        self.topics = Some(wanted.topics);
        self.conflated = 0;
        self.first_word = Some(id);
        if self.is_in_snapshot {
            // The place follows by a heartbeat, once there is one.
            self.first_word = Some(None);
            self.tell_ok(id);
        }
    }

    /// Tells when and from where to come back, and ends.
    fn leave(&mut self, retry: std::time::Duration, place: Option<Cursor>) {
        self.flush.say(&proto::goaway(retry, place));
        let problem = Problem::new(ErrorKind::Unavailable, "the server is going away").with_retry(retry);
        self.part(status::status_of(&problem, None, place));
    }

    /// Ends for a reason, and counts it.
    fn fail(&mut self, problem: &Problem) {
        tracing::debug!(%problem, "a gRPC stream ends");
        self.shared.gate.metrics().rejected(Rejection::from(problem));
        self.part(status::status_of(problem, None, self.place()));
    }

    fn part(&mut self, status: Status) {
        self.stage = Stage::Parting(status);
        self.left_at = self.place();
        (self.subscription, self.work, self.frames, self.ahead) = (None, None, None, None);
        self.nudged = Nudged::default();
    }

    fn beat(&mut self) {
        let conflated = self.subscription.as_ref().map_or(self.conflated, Subscription::conflated);
        self.flush.say(&proto::heartbeat(self.place(), conflated));
    }
}

async fn end(drain: Drain, cx: pushpull_core::Context, deadline: Option<Instant>) -> End {
    let too_late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = drain.cancelled() => End::Drain,
        () = pushpull_http::expired(&cx) => End::Expired,
        () = too_late => End::Deadline,
    }
}

impl http_body::Body for Session {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.poll_next(cx).map(|frame| frame.map(Ok));
        // What is given is written in the same turn.
        if polled.is_pending() {
            self.spent = 0;
        }
        polled
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stage", &self.stage).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
