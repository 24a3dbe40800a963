//! A connection served by its own task and by the sweep.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use pushpull_http::{Connection, Post, Round, Served, Taken, Transport};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Opening, Session, Spent, Stage};
use crate::codec::server::{frame_form, joined_frames};

/// Serves a connection to its end. A future by itself: a task that is no larger than a pointer.
pub(crate) struct Serving<I>(pub(super) Arc<Connection<Session<I>>>);

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serving<I> {
    /// A connection over `io`, of which `early` was read already.
    pub(crate) fn new(io: I, early: &[u8], opening: Opening) -> Self {
        Self(Connection::new(|me| Session::new(io, early, opening, me.clone())))
    }
}

#[cfg(test)]
impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serving<I> {
    pub(super) fn session(&self) -> std::sync::MutexGuard<'_, Session<I>> {
        self.0.lock()
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Future for Serving<I> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Served for Session<I> {
    type Output = ();

    fn post(&mut self) -> &mut Post {
        &mut self.post
    }

    fn on_new_waker(&mut self) {
        self.clock.forget_waker();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.spent = Spent::default();
        let polled = self.poll_rounds(cx);
        self.inbox.rest();
        polled
    }

    fn sweep(&mut self, round: &mut Round, cx: &mut Context<'_>) -> bool {
        let is_free = self.stage == Stage::Running && !self.inbox.has_last() && self.pump.outbox.is_empty();
        if !is_free || !self.post.is_swept() {
            return false;
        }
        let Some(subscription) = &mut self.subscription else { return false };
        self.pump.look_ahead();
        let shape = self.shape;
        match round.take(subscription, frame_form(shape), |events| joined_frames(events, shape)) {
            Taken::Nothing => {}
            Taken::Joined { bytes, events, .. } => self.write_joined(bytes, events, cx),
            Taken::Own(deliveries, polled) => {
                self.write(deliveries, polled);
                self.poll_write(cx);
            }
        }
        self.stage != Stage::Running || !self.pump.outbox.is_empty()
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    /// Joins the sweep of those that its subscription stands with, or leaves it where it stands with them no more.
    pub(super) fn stand(&mut self) -> bool {
        let standing = self.subscription.as_ref().and_then(|running| running.standing());
        let me = &self.me;
        self.post.stand(&self.shared.gate, standing.as_ref(), || me.clone())
    }

    fn write_joined(&mut self, bytes: &Bytes, events: u64, cx: &mut Context<'_>) {
        self.shared.gate.metrics().delivered(Transport::Ws, events);
        self.is_gap_last = false;
        match self.pump.write_joined(bytes, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.stage = Stage::Ended,
            Poll::Pending => self.clock.wrote(true, false),
        }
    }
}
