//! A connection between its own task and the sweep, whoever comes first.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use pushpull_http::{Round, Swept, Taken, Transport};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Opening, Session, Stage};
use crate::codec::server::{frame_form, joined_frames};

/// A connection, as its task and the sweep share it.
pub(super) struct Connection<I> {
    session: Mutex<Session<I>>,
    /// Whether a sweep came by while its task was at it.
    pub(super) is_missed: AtomicBool,
}

/// Serves a connection to its end. A future by itself: a task that is no larger than a pointer.
pub(crate) struct Serving<I>(pub(super) Arc<Connection<I>>);

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Serving<I> {
    /// A connection over `io`, of which `early` was read already.
    pub(crate) fn new(io: I, early: &[u8], opening: Opening) -> Self {
        Self(Arc::new_cyclic(|me| Connection {
            session: Mutex::new(Session::new(io, early, opening, me.clone())),
            is_missed: AtomicBool::new(false),
        }))
    }
}

impl<I> Serving<I> {
    pub(super) fn session(&self) -> MutexGuard<'_, Session<I>> {
        self.0.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Future for Serving<I> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut session = self.session();
            session.remember(cx.waker());
            session.spent = 0;
            let polled = session.poll_rounds(cx);
            session.inbox.rest();
            drop(session);
            // A sweep that found it locked left word before: what it came for may have come after the look at it.
            if polled.is_ready() || !self.0.is_missed.swap(false, Ordering::SeqCst) {
                return polled;
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Swept for Connection<I> {
    fn sweep(&self, round: &mut Round) {
        self.is_missed.store(true, Ordering::SeqCst);
        match self.session.try_lock() {
            Ok(mut session) => {
                self.is_missed.store(false, Ordering::SeqCst);
                session.sweep(round);
            }
            // Its task is at it, and looks once more.
            Err(TryLockError::WouldBlock) => {}
            // Its task is no more.
            Err(TryLockError::Poisoned(_)) => {}
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    fn remember(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
            self.clock.forget_waker();
        }
    }

    /// Joins the sweep of those that its subscription stands with, or leaves it where it stands with them no more.
    pub(super) fn stand(&mut self) {
        let Some(standing) = self.subscription.as_ref().and_then(|running| running.standing()) else {
            self.membership = None;
            return;
        };
        if !self.membership.as_ref().is_some_and(|known| known.is_of(&standing.signal)) {
            self.membership = self.shared.gate.sweep(&standing, self.me.clone());
        }
    }

    /// Writes what is new, as far as the peer takes it at once: the rest is its own task's.
    fn sweep(&mut self, round: &mut Round) {
        let is_free = self.stage == Stage::Running && !self.inbox.has_last() && self.pump.outbox.is_empty();
        if !is_free || self.membership.is_none() {
            return;
        }
        let (Some(subscription), Some(waker)) = (&mut self.subscription, self.waker.take()) else { return };
        let shape = self.shape;
        match round.take(subscription, frame_form(shape), |events| joined_frames(events, shape)) {
            Taken::Nothing => {}
            Taken::Joined { bytes, events, .. } => {
                self.write_joined(bytes, events, &mut Context::from_waker(&waker))
            }
            Taken::Own(deliveries, polled) => {
                self.write(deliveries, polled);
                self.poll_write(&mut Context::from_waker(&waker));
            }
        }
        if self.stage != Stage::Running || !self.pump.outbox.is_empty() {
            waker.wake_by_ref();
        }
        self.waker = Some(waker);
    }

    fn write_joined(&mut self, bytes: Bytes, events: u64, cx: &mut Context<'_>) {
        self.shared.gate.metrics().delivered(Transport::Ws, events);
        self.is_gap_last = false;
        match self.pump.write_joined(bytes, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.stage = Stage::Ended,
            Poll::Pending => self.clock.wrote(true, false),
        }
    }
}
