//! A [`Live`] body, written to a socket by the connection's own task and by the sweep, whoever comes first.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::socket;
use crate::{
    Membership, Round, Swept,
    live::{Given, Live, in_chunk},
};

/// What ends a chunked body (RFC 9112, 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A body that is streamed to a client, as its task and the sweep share it.
pub(super) struct Stream {
    writing: Mutex<Writing>,
    /// Whether a sweep came by while its task was at it.
    is_missed: AtomicBool,
}

struct Writing {
    /// Until it is given back.
    socket: Option<TcpStream>,
    body: Box<dyn Live>,
    /// Of what was taken. Nothing more is, before it is written.
    unsent: Bytes,
    is_ended: bool,
    membership: Option<Membership>,
    /// Its task's.
    waker: Option<Waker>,
}

impl Stream {
    /// Sends `head` and then `body` in chunks.
    pub(super) fn new(socket: TcpStream, head: Vec<u8>, body: Box<dyn Live>) -> Arc<Self> {
        let writing = Writing {
            socket: Some(socket),
            body,
            unsent: head.into(),
            is_ended: false,
            membership: None,
            waker: None,
        };
        Arc::new(Self { writing: Mutex::new(writing), is_missed: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once the body has ended, with the socket, or the client is gone. `early` is set as by [`socket::poll_gone`].
    pub(super) fn poll(self: &Arc<Self>, early: &mut bool, cx: &mut Context<'_>) -> Poll<Option<TcpStream>> {
        loop {
            let mut writing = self.lock();
            if let Poll::Ready(written) = writing.poll(self, early, cx) {
                return Poll::Ready(writing.socket.take().filter(|_| written.is_ok()));
            }
            drop(writing);
            if !self.is_missed.swap(false, Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
    }
}

impl Swept for Stream {
    fn sweep(&self, round: &mut Round) {
        self.is_missed.store(true, Ordering::SeqCst);
        if let Ok(mut writing) = self.writing.try_lock() {
            self.is_missed.store(false, Ordering::SeqCst);
            writing.sweep(round);
        }
    }
}

impl Writing {
    fn poll(&mut self, stream: &Arc<Stream>, early: &mut bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        loop {
            ready!(self.poll_write(cx))?;
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            self.stand(stream);
            match self.body.poll_bytes(cx, self.membership.is_some()) {
                Poll::Ready(Some(bytes)) => self.put(bytes),
                Poll::Ready(None) => self.end(),
                Poll::Pending => {
                    let Some(socket) = &self.socket else { return Poll::Ready(Ok(())) };
                    return socket::poll_gone(socket, early, cx)
                        .map(|()| Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
    }

    /// Joins the sweep of those that it stands with, or leaves it where it stands with them no more.
    fn stand(&mut self, stream: &Arc<Stream>) {
        let Some(standing) = self.body.standing() else {
            self.membership = None;
            return;
        };
        if !self.membership.as_ref().is_some_and(|known| known.is_of(&standing.signal)) {
            let member: Weak<dyn Swept> = Arc::<Stream>::downgrade(stream);
            self.membership = self.body.gate().sweep(&standing, member);
        }
    }

    fn put(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.unsent = in_chunk(&[bytes]);
        }
    }

    fn end(&mut self) {
        self.is_ended = true;
        self.membership = None;
        self.unsent = [&self.unsent[..], LAST_CHUNK].concat().into();
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &self.socket else { return Poll::Ready(Ok(())) };
        while !self.unsent.is_empty() {
            match socket.try_write(&self.unsent) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_write_ready(cx))?
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // What was written may be a part of what others still write.
        self.unsent = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Writes what is new, as far as the client takes it at once: the rest is its own task's.
    fn sweep(&mut self, round: &mut Round) {
        if !self.unsent.is_empty() || self.is_ended || self.membership.is_none() {
            return;
        }
        match self.body.take(round) {
            Given::Nothing => return,
            Given::Chunk(chunk) => self.unsent = chunk,
            Given::Bytes(bytes) => self.put(bytes),
            Given::End(bytes) => {
                self.put(bytes);
                self.end();
            }
        }
        let Some(waker) = self.waker.take() else { return };
        let written = self.poll_write(&mut Context::from_waker(&waker));
        // An error is the task's to meet, which tries again.
        if self.is_ended || matches!(written, Poll::Ready(Err(_))) {
            waker.wake_by_ref();
        }
        self.waker = Some(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_small() {
        assert!(size_of::<Stream>() <= 144, "{} bytes", size_of::<Stream>());
    }
}
