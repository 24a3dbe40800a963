//! What a client says on `Attach`: one frame after another, each when the one before is done.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use pushpull_core::{ErrorKind, Outcome, Problem, PublishError, Published, Subscribe, Subscription, Topics};
use pushpull_http::{Rejection, proto};

use super::{Session, Shared, Stage, TURN};
use crate::{
    codec,
    proto::{ClientFrame, Credit, Message, PublishRequest, SubscribeRequest, client_frame},
    server::call::unread,
    status,
};

/// Bytes of answers that may wait to be written before further frames are held back.
const REPLIES: usize = 64 * 1024;

/// A command under way. Dropping it gives it up.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of a command.
pub(super) enum Done {
    Subscribed { id: Option<u64>, wanted: Subscribe, result: Result<Subscription, Problem> },
    Allowed { id: Option<u64>, topics: Topics, result: Result<(), Problem> },
    Published { id: Option<u64>, result: Result<Published, PublishError> },
}

impl Shared {
    /// Opens a subscription that may be had.
    pub(super) fn open(self: &Arc<Self>, id: Option<u64>, wanted: Subscribe) -> Work {
        let shared = self.clone();
        Box::pin(async move {
            let result = shared.push.subscribe(&shared.cx, wanted.clone()).await.map_err(Problem::from);
            Done::Subscribed { id, wanted, result }
        })
    }

    fn subscribe(self: &Arc<Self>, id: Option<u64>, wanted: Subscribe) -> Work {
        let shared = self.clone();
        Box::pin(async move {
            match shared.gate.authorize_topics(&shared.cx, &wanted.topics).await {
                Ok(()) => shared.open(id, wanted).await,
                Err(problem) => Done::Subscribed { id, wanted, result: Err(problem) },
            }
        })
    }

    fn allow(self: &Arc<Self>, id: Option<u64>, topics: Topics) -> Work {
        let shared = self.clone();
        Box::pin(async move {
            let result = shared.gate.authorize_topics(&shared.cx, &topics).await;
            Done::Allowed { id, topics, result }
        })
    }

    fn publishing(self: &Arc<Self>, id: Option<u64>, asked: PublishRequest) -> Work {
        let shared = self.clone();
        Box::pin(async move { Done::Published { id, result: shared.publish(asked).await } })
    }
}

impl Session {
    /// Takes up frames one after another, until the turn is over.
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while matches!(self.stage, Stage::Running) && self.spent < TURN {
            if let Some(work) = &mut self.work {
                let Poll::Ready(done) = work.as_mut().poll(cx) else { return moved };
                self.work = None;
                self.on_done(done);
            } else if self.is_draining {
                // Polled once more, since that moves the place of a quiet subscription to the newest.
                self.poll_deliveries(cx);
                if matches!(self.stage, Stage::Running) {
                    self.leave(self.shared.gate.drain().retry_hint(), self.place());
                }
            } else if self.flush.len() > REPLIES || !self.poll_frame_ahead(cx) || self.must_wait() {
                return moved;
            } else if let Some(frame) = self.ahead.take() {
                self.on_frame(frame);
            }
            moved = true;
        }
        moved
    }

    /// Whether there is a frame to work on, or the end was reached and had to be minded.
    fn poll_frame_ahead(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ahead.is_some() {
            return true;
        }
        let Some(frames) = &mut self.frames else { return false };
        match Pin::new(frames).poll_next(cx) {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(frame))) => {
                self.ahead = Some(frame);
                true
            }
            Poll::Ready(Some(Err(status))) => {
                self.fail(&unread(&status));
                true
            }
            Poll::Ready(None) => {
                self.frames = None;
                // Who says nothing more may still listen.
                if self.subscription.is_none() {
                    self.part(status::ended_at(self.place()));
                }
                true
            }
        }
    }

    /// Whether the next frame's answer would come before the first word of the subscription.
    fn must_wait(&self) -> bool {
        let is_publish = |frame: &ClientFrame| matches!(frame.frame, Some(client_frame::Frame::Publish(_)));
        let is_other = self.ahead.as_ref().is_some_and(|frame| !is_publish(frame));
        self.first_word.is_some() && !self.is_in_snapshot && is_other
    }

    fn on_frame(&mut self, frame: ClientFrame) {
        use client_frame::Frame as F;
        self.spent += weight(&frame);
        match frame.frame {
            Some(F::Subscribe(asked)) => self.on_subscribe(&asked),
            Some(F::Unsubscribe(asked)) => match codec::topics_of(&asked.topics) {
                Ok(topics) => self.on_unsubscribe(asked.id, &topics),
                Err(problem) => self.tell_error(asked.id, &problem, None),
            },
            Some(F::Publish(asked)) => self.work = Some(self.shared.publishing(asked.id, asked)),
            Some(F::Credit(credit)) => self.on_credit(credit),
            None => self.fail(&Problem::invalid("frame", "it is none that this version knows")),
        }
    }

    fn on_subscribe(&mut self, asked: &SubscribeRequest) {
        let is_first = self.subscription.is_none();
        let work = match codec::option_given(asked) {
            Some(option) if !is_first => {
                Err(Problem::invalid(option, "only the subscribe that begins a subscription may bear it"))
            }
            _ if is_first => codec::subscribe_of(asked).map(|wanted| self.shared.subscribe(asked.id, wanted)),
            _ => codec::topics_of(&asked.topics).map(|topics| self.shared.allow(asked.id, topics)),
        };
        match work {
            Ok(work) => self.work = Some(work),
            Err(problem) => self.tell_error(asked.id, &problem, None),
        }
    }

    fn on_unsubscribe(&mut self, id: Option<u64>, fewer: &Topics) {
        match self.topics.as_ref().and_then(|topics| topics.without(fewer)) {
            Some(topics) => self.retarget(id, topics),
            None => {
                self.left_at = self.place();
                (self.subscription, self.topics, self.first_word) = (None, None, None);
                self.is_in_snapshot = false;
                self.tell_ok(id);
            }
        }
    }

    fn on_credit(&mut self, credit: Credit) {
        match &mut self.subscription {
            Some(subscription) if subscription.credit().is_some() && credit.events > 0 => {
                subscription.grant(credit.events);
                self.tell_ok(credit.id);
            }
            _ => {
                let detail = "it must be at least 1, for a subscription with a window";
                self.tell_error(credit.id, &Problem::invalid("events", detail), None);
            }
        }
    }

    fn retarget(&mut self, id: Option<u64>, topics: Topics) {
        let Some(subscription) = &mut self.subscription else { return };
        match subscription.retarget(topics.clone()) {
            Ok(()) => {
                self.topics = Some(topics);
                self.tell_ok(id);
            }
            Err(error) => self.tell_error(id, error.problem(), None),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Subscribed { id, wanted, result: Ok(subscription) } => {
                self.attach(subscription, wanted, id)
            }
            Done::Subscribed { result: Err(problem), .. } if !self.is_attached => self.fail(&problem),
            Done::Allowed { id, topics, result: Ok(()) } => {
                let all = self.topics.as_ref().map_or(Ok(topics.clone()), |known| known.with(&topics));
                match all {
                    Ok(all) => self.retarget(id, all),
                    Err(error) => {
                        self.tell_error(id, &Problem::invalid("topics", error.to_string()), None);
                    }
                }
            }
            Done::Subscribed { id, result: Err(problem), .. }
            | Done::Allowed { id, result: Err(problem), .. } => self.tell_error(id, &problem, None),
            Done::Published { id, result: Ok(published) } => self.tell_published(id, &published),
            Done::Published { id, result: Err(error) } => {
                self.tell_error(id, error.problem(), Some(error.outcome()));
            }
        }
    }

    pub(super) fn tell_ok(&mut self, id: Option<u64>) {
        if id.is_some() {
            self.flush.say(&proto::ok(id, self.place()));
        }
    }

    fn tell_published(&mut self, id: Option<u64>, published: &Published) {
        if id.is_some() {
            self.flush.say(&proto::published(id, published));
        }
    }

    /// Tells what is wrong with a frame. Who asks and is no longer known is told by the end.
    fn tell_error(&mut self, id: Option<u64>, problem: &Problem, outcome: Option<Outcome>) {
        if problem.kind() == ErrorKind::Unauthenticated {
            return self.fail(problem);
        }
        self.shared.gate.metrics().rejected(Rejection::from(problem));
        self.flush.say(&proto::error(id, problem, outcome));
    }
}

/// The bytes that a frame takes, and so the work it makes: by count too, since a message may have none.
fn weight(frame: &ClientFrame) -> usize {
    let messages = match &frame.frame {
        Some(client_frame::Frame::Publish(asked)) => asked.messages.len(),
        _ => 0,
    };
    size_of::<ClientFrame>() + messages * size_of::<Message>() + prost::Message::encoded_len(frame)
}
