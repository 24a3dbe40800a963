//! Subprotocols: frames that subscribe, publish and grant.

use pushpull_core::{Cursor, ErrorKind, Outcome, Problem, Start, StartAt, Subscribe, Topics};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{FirstWord, Session, Unit, command::Done};
use crate::{
    close::Closing,
    codec::server::{self as codec, Asked, ClientFrame, Id, Said},
    handshake::Mode,
};

impl Unit {
    /// Whether what is asked for begins with a snapshot.
    pub(crate) fn of(request: &Subscribe) -> Self {
        match request.start {
            StartAt::Start(Start::Snapshot | Start::Last) => Self::Snapshot,
            _ => Self::None,
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    pub(super) fn on_frame(&mut self, ClientFrame { id, asked }: ClientFrame) {
        match asked {
            Asked::Subscribe { wanted: Ok(wanted), option } => self.on_subscribe(id, *wanted, option),
            Asked::Unsubscribe(Ok(topics)) => self.on_unsubscribe(id, &topics),
            Asked::Credit(Ok(events)) => self.on_credit(id, events),
            Asked::Publish(Ok((topic, messages))) => {
                self.inbox.fill().work =
                    Some(self.shared.publish(self.caller.context(), id, topic, messages));
            }
            Asked::Publish(Err(problem)) => {
                self.tell_error(id.as_ref(), &problem, Some(Outcome::NotApplied));
            }
            Asked::Subscribe { wanted: Err(problem), .. }
            | Asked::Unsubscribe(Err(problem))
            | Asked::Credit(Err(problem)) => {
                self.tell_error(id.as_ref(), &problem, None);
            }
        }
    }

    fn on_subscribe(&mut self, id: Option<Id>, wanted: Subscribe, option: Option<String>) {
        self.inbox.fill().work = match (&self.subscription, option) {
            (None, _) => Some(self.shared.subscribe(self.caller.context(), id, wanted)),
            (Some(_), None) => Some(self.shared.allow(self.caller.context(), id, wanted.topics)),
            (Some(_), Some(option)) => {
                let detail = "only the subscribe that begins a subscription may bear it";
                return self.tell_error(id.as_ref(), &Problem::invalid(option, detail), None);
            }
        };
    }

    fn on_unsubscribe(&mut self, id: Option<Id>, fewer: &Topics) {
        match self.topics.as_ref().and_then(|topics| topics.without(fewer)) {
            Some(topics) => self.retarget(id, topics),
            None => {
                self.left_at = self.place().map(Box::new);
                (self.subscription, self.topics) = (None, None);
                self.inbox.take_first_word();
                self.is_in_snapshot = false;
                self.tell_ok(id);
            }
        }
    }

    fn on_credit(&mut self, id: Option<Id>, events: u64) {
        match &mut self.subscription {
            Some(subscription) if subscription.credit().is_some() => {
                subscription.grant(events);
                self.tell_ok(id);
            }
            _ => {
                let problem = Problem::invalid("events", "there is no subscription with a window");
                self.tell_error(id.as_ref(), &problem, None);
            }
        }
    }

    fn retarget(&mut self, id: Option<Id>, topics: Topics) {
        let Some(subscription) = &mut self.subscription else { return };
        match subscription.retarget(topics.clone()) {
            Ok(()) => {
                self.topics = Some(topics);
                self.tell_ok(id);
            }
            Err(error) => self.tell_error(id.as_ref(), error.problem(), None),
        }
    }

    pub(super) fn on_framed_done(&mut self, done: Done) {
        match done {
            Done::Subscribed { id, request, result: Ok(subscription) } => {
                let unit = Unit::of(&request);
                if unit == Unit::Snapshot {
                    self.attach(subscription, request.topics, unit, FirstWord::Heartbeat);
                    self.tell_ok(id);
                } else {
                    self.attach(subscription, request.topics, unit, FirstWord::Answer(id));
                }
            }
            Done::Allowed { id, topics, result: Ok(()) } => {
                let all = self.topics.as_ref().map_or(Ok(topics.clone()), |known| known.with(&topics));
                match all {
                    Ok(all) => self.retarget(id, all),
                    Err(error) => self.tell_error(id.as_ref(), &error.into(), None),
                }
            }
            Done::Subscribed { id, result: Err(problem), .. }
            | Done::Allowed { id, result: Err(problem), .. } => {
                self.tell_error(id.as_ref(), &problem, None);
            }
            Done::Published { id, result: Ok(published) } => {
                if let Some(id) = id {
                    self.answer(&Said::Published { id: &id, published: &published });
                }
            }
            Done::Published { id, result: Err(error) } => {
                self.tell_error(id.as_ref(), error.problem(), Some(error.outcome()));
            }
        }
    }

    /// Tells what is wrong with a frame. Who asks and is no longer known is told by closing.
    fn tell_error(&mut self, id: Option<&Id>, problem: &Problem, outcome: Option<Outcome>) {
        self.shared.gate.metrics().rejected(problem.into());
        self.answer(&Said::Error { id, problem, outcome });
        if problem.kind() == ErrorKind::Unauthenticated {
            let place = self.place();
            self.close(&Closing::over(problem.kind()).resuming(None, place));
        }
    }

    fn tell_ok(&mut self, id: Option<Id>) {
        if let Some(id) = id {
            self.answer(&Said::Ok { id: &id, place: self.place() });
        }
    }

    /// Tells the starting place, and each that the source tells later. A subscribe without an id is not answered, but its
    /// place is told all the same.
    pub(super) fn tell_place(&mut self, place: Cursor) {
        let place = Some(place);
        match self.inbox.take_first_word() {
            Some(FirstWord::Answer(Some(id))) => self.answer(&Said::Ok { id: &id, place }),
            Some(FirstWord::Answer(None) | FirstWord::Heartbeat) | None => {
                self.say(&Said::Heartbeat { place, conflated: self.conflated });
            }
        }
    }

    pub(super) fn beat(&mut self) {
        let conflated = self.subscription.as_ref().map_or(self.conflated, |running| running.conflated());
        self.say(&Said::Heartbeat { place: self.place(), conflated });
    }

    /// Says it, where frames are spoken: payloads alone say nothing of themselves.
    pub(super) fn say(&mut self, said: &Said<'_>) {
        let Mode::Framed(subprotocol) = self.shape.mode else { return };
        let (opcode, payload) = codec::write(said, subprotocol);
        self.pump.send(opcode, &payload);
    }

    /// Says what a command came to.
    fn answer(&mut self, said: &Said<'_>) {
        let Mode::Framed(subprotocol) = self.shape.mode else { return };
        let (opcode, payload) = codec::write(said, subprotocol);
        self.pump.answer(opcode, &payload);
    }
}
