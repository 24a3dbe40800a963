//! A connection between two requests.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Onward,
    head::{Plain, Verdict},
    socket,
};
use crate::{Drain, ListenerConfig};

/// How long the lane waits for the rest of a body whose head has come. Then it is hyper's to wait.
const BODY_PATIENCE: Duration = Duration::from_millis(500);

/// What comes after a rest.
pub(super) enum Next {
    Request(Box<Plain>),
    Onward(Onward),
    /// The same, after the readiness of the socket was cleared.
    Late(Onward),
    End,
}

pin_project! {
    /// A connection between two requests: how long it may rest, and what ends it.
    pub(super) struct Rest {
        #[pin]
        sleep: Sleep,
        #[pin]
        drained: WaitForCancellationFutureOwned,
        head: Duration,
        due: Instant,
        stage: Stage,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has ever come.
    New,
    /// A first request has begun.
    First,
    /// The head of a later one is waited for.
    Later,
    /// A head has come, of which the body is waited for.
    Body,
}

impl Rest {
    pub(super) fn new(config: &ListenerConfig, drain: &Drain) -> Self {
        let due = Instant::now() + config.first_byte;
        Self {
            sleep: sleep_until(due),
            drained: drain.wait_begun(),
            head: config.head,
            due,
            stage: Stage::New,
        }
    }

    /// Begins to rest after an answer.
    pub(super) fn begin(self: Pin<&mut Self>) {
        let rest = self.project();
        (*rest.due, *rest.stage) = (Instant::now() + *rest.head, Stage::Later);
    }

    /// Takes the next request if that is plain, or says what comes else.
    pub(super) fn poll_next(
        mut self: Pin<&mut Self>,
        stream: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        while let Poll::Ready(looked) = socket::poll_look(stream, cx) {
            let Ok(Some((verdict, seen))) = looked else { return Poll::Ready(Next::End) };
            match verdict {
                Verdict::Plain(plain) => return Poll::Ready(Next::Request(plain)),
                Verdict::Partial => self.as_mut().see_head(),
                Verdict::BodyPartial => self.as_mut().see_body(),
                Verdict::Bare => return Poll::Ready(Next::Onward(Onward::Bare(seen))),
                Verdict::Http2 if matches!(self.stage, Stage::New | Stage::First) => {
                    return Poll::Ready(Next::Onward(Onward::Http2));
                }
                Verdict::Other | Verdict::Http2 => return Poll::Ready(Next::Onward(Onward::Http1)),
            }
        }
        let is_due = self.as_mut().poll_due(cx).is_ready();
        let rest = self.project();
        let is_over = is_due || rest.drained.poll(cx).is_ready();
        match rest.stage {
            _ if !is_over => Poll::Pending,
            Stage::Body => Poll::Ready(Next::Late(Onward::Http1)),
            _ => Poll::Ready(Next::End),
        }
    }

    fn see_head(self: Pin<&mut Self>) {
        let rest = self.project();
        if *rest.stage == Stage::New {
            (*rest.due, *rest.stage) = (Instant::now() + *rest.head, Stage::First);
        }
    }

    fn see_body(self: Pin<&mut Self>) {
        let rest = self.project();
        if *rest.stage != Stage::Body {
            (*rest.due, *rest.stage) = (Instant::now() + BODY_PATIENCE, Stage::Body);
        }
    }

    /// Ready once the time is over. The timer is only moved when it fires too early, or would too late.
    fn poll_due(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut rest = self.project();
        if *rest.due < rest.sleep.deadline() {
            rest.sleep.as_mut().reset(*rest.due);
        }
        while rest.sleep.as_mut().poll(cx).is_ready() {
            if rest.sleep.deadline() >= *rest.due {
                return Poll::Ready(());
            }
            rest.sleep.as_mut().reset(*rest.due);
        }
        Poll::Pending
    }
}
