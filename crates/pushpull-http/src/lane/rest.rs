//! A connection between two requests.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    Onward,
    head::{Plain, Verdict},
    turn::Turn,
};
use crate::{Alarm, Drain, ListenerConfig};

/// How long the lane waits for the rest of a body whose head has come. Then it is the service's to wait, by its own times.
const PATIENCE: Duration = Duration::from_millis(500);

/// What comes after a rest.
pub(super) enum Next {
    Request(Box<Plain>),
    /// With what was received and not taken.
    Onward(Onward),
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
    pub(super) fn begin(&mut self, config: &ListenerConfig, now: Instant) {
        (self.due, self.stage) = (now + config.head, Stage::Later);
    }

    /// Wakes nobody while a long answer is under way.
    pub(super) fn pause(&mut self) {
        self.alarm.unset();
    }

    /// Takes the next request if that is plain, or says what comes else. `verdict`: of what was received, if that was judged
    /// already.
    pub(super) fn poll_next(
        &mut self,
        stream: &mut TcpStream,
        turn: &mut Turn,
        verdict: Option<Verdict>,
        (config, drain): (&ListenerConfig, &Drain),
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        let mut verdict = verdict.or_else(|| turn.judge());
        loop {
            match verdict {
                None => {}
                Some(Verdict::Plain(plain)) => return Poll::Ready(Next::Request(plain)),
                Some(Verdict::Partial) => self.see_head(config),
                Some(Verdict::BodyPartial) => self.see_body(),
                Some(Verdict::Bare) => return Poll::Ready(Next::Onward(Onward::Bare)),
                Some(Verdict::Http2) if matches!(self.stage, Stage::New | Stage::First) => {
                    return Poll::Ready(Next::Onward(Onward::Http2));
                }
                Some(Verdict::Other | Verdict::Http2) => return Poll::Ready(Next::Onward(Onward::Http1)),
            }
            match turn.poll_more(stream, cx) {
                Poll::Ready(Ok(1..)) => verdict = turn.judge(),
                Poll::Ready(_) => return Poll::Ready(Next::End),
                Poll::Pending => break,
            }
        }
        let is_due = self.alarm.poll_at(self.due, cx).is_ready();
        match self.stage {
            _ if !is_due && !drain.is_draining() => Poll::Pending,
            Stage::Body => Poll::Ready(Next::Onward(Onward::Http1)),
            _ => Poll::Ready(Next::End),
        }
    }

    fn see_head(&mut self, config: &ListenerConfig) {
        let begun = match self.stage {
            Stage::New => Stage::First,
            Stage::Later => Stage::Cut,
            Stage::First | Stage::Cut | Stage::Body => return,
        };
        (self.due, self.stage) = (Instant::now() + config.head, begun);
    }

    fn see_body(&mut self) {
        if self.stage != Stage::Body {
            (self.due, self.stage) = (Instant::now() + PATIENCE, Stage::Body);
        }
    }
}
