//! A connection between two requests.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    Onward,
    head::{Plain, Verdict},
    socket,
    turn::Turn,
};
use crate::{Alarm, Drain, ListenerConfig};

/// How long the lane waits for the rest of a body whose head has come, or of a head behind other requests. Then it is
/// hyper's to wait: what is left in a socket holds the whole segment that it came in, and the system may have no room for
/// the rest.
const PATIENCE: Duration = Duration::from_millis(500);

/// What comes after a rest.
pub(super) enum Next {
    Request(Box<Plain>),
    Onward(Onward),
    /// The same, after the readiness of the socket was cleared.
    Late(Onward),
    End,
}

/// A connection between two requests: how long it may rest, and what ends it.
pub(super) struct Rest {
    /// Goes off when a drain begins, too.
    alarm: Alarm,
    due: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has ever come.
    New,
    /// A first request has begun.
    First,
    /// The head of a later one is waited for.
    Later,
    /// The head of a later one has come in part.
    Cut,
    /// A head has come, of which the body is waited for.
    Body,
}

impl Rest {
    pub(super) fn new(config: &ListenerConfig, alarm: Alarm) -> Self {
        Self { alarm, due: Instant::now() + config.first_byte, stage: Stage::New }
    }

    /// Begins to rest after an answer.
    pub(super) fn begin(&mut self, config: &ListenerConfig) {
        (self.due, self.stage) = (Instant::now() + config.head, Stage::Later);
    }

    /// Wakes nobody while a long answer is under way.
    pub(super) fn pause(&mut self) {
        self.alarm.unset();
    }

    /// Takes the next request if that is plain, or says what comes else.
    pub(super) fn poll_next(
        &mut self,
        stream: &TcpStream,
        turn: &mut Turn,
        config: &ListenerConfig,
        drain: &Drain,
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        while let Poll::Ready(looked) = socket::poll_look(stream, turn, cx) {
            let Ok(Some((verdict, seen))) = looked else { return Poll::Ready(Next::End) };
            match verdict {
                Verdict::Plain(plain) => return Poll::Ready(Next::Request(plain)),
                Verdict::Partial => self.see_head(config),
                Verdict::BodyPartial => self.see_body(),
                Verdict::Bare => return Poll::Ready(Next::Onward(Onward::Bare(seen))),
                Verdict::Http2 if matches!(self.stage, Stage::New | Stage::First) => {
                    return Poll::Ready(Next::Onward(Onward::Http2));
                }
                Verdict::Other | Verdict::Http2 => return Poll::Ready(Next::Onward(Onward::Http1)),
            }
        }
        let is_due = self.alarm.poll_at(self.due, cx).is_ready();
        match self.stage {
            _ if !is_due && !drain.is_draining() => Poll::Pending,
            Stage::Cut if !drain.is_draining() => Poll::Ready(Next::Late(Onward::Http1)),
            Stage::Body => Poll::Ready(Next::Late(Onward::Http1)),
            _ => Poll::Ready(Next::End),
        }
    }

    fn see_head(&mut self, config: &ListenerConfig) {
        match self.stage {
            Stage::New => (self.due, self.stage) = (Instant::now() + config.head, Stage::First),
            Stage::Later => {
                (self.due, self.stage) = (self.due.min(Instant::now() + PATIENCE), Stage::Cut);
            }
            Stage::First | Stage::Cut | Stage::Body => {}
        }
    }

    fn see_body(&mut self) {
        if self.stage != Stage::Body {
            (self.due, self.stage) = (Instant::now() + PATIENCE, Stage::Body);
        }
    }
}
