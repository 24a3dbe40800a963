//! A [`Live`] body, written to a socket by the connection's own task and by the sweep, whoever comes first.

use std::{
    io,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::socket;
use crate::{
    Connection, Holding, Post, Round, Served,
    live::{Given, Live, in_chunk},
    yield_turn,
};

/// What ends a chunked body (RFC 9112, 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Bytes that are written before others have their turn.
const TURN: usize = 128 * 1024;

/// A body that is streamed to a client, as its task and the sweep share it.
pub(super) struct Stream(Arc<Connection<Writing>>);

struct Writing {
    /// Until it is given back.
    socket: Option<TcpStream>,
    body: Box<dyn Live>,
    /// Of what was taken. Nothing more is, before it is written.
    unsent: Bytes,
    is_ended: bool,
    /// Whether bytes of the next request came: see [`socket::poll_gone`].
    is_early: bool,
    /// Its part of what all connections may hold.
    holding: Option<Box<Holding>>,
    post: Post,
    me: Weak<Connection<Self>>,
}

impl Stream {
    /// Sends `head` and then `body` in chunks. `is_early`: whether bytes of the next request came already.
    pub(super) fn new(socket: TcpStream, head: Vec<u8>, body: Box<dyn Live>, is_early: bool) -> Self {
        Self(Connection::new(|me| Writing {
            socket: Some(socket),
            body,
            unsent: head.into(),
            is_ended: false,
            is_early,
            holding: None,
            post: Post::default(),
            me: me.clone(),
        }))
    }

    /// Ready once the body has ended, with the socket and whether bytes of the next request came, or the client is gone.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<(TcpStream, bool)>> {
        self.0.poll(cx).map(|ended| {
            let mut writing = self.0.lock();
            let is_early = writing.is_early;
            writing.socket.take().filter(|_| ended.is_ok()).map(|socket| (socket, is_early))
        })
    }
}

impl Served for Writing {
    type Output = io::Result<()>;

    fn post(&mut self) -> &mut Post {
        &mut self.post
    }

    fn on_new_waker(&mut self) {}

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut spent = 0;
        while spent < TURN {
            spent += self.unsent.len();
            ready!(self.poll_write(cx))?;
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            let (standing, me) = (self.body.standing(), &self.me);
            let is_swept = self.post.stand(self.body.gate(), standing.as_ref(), || me.clone());
            match self.body.poll_bytes(cx, is_swept) {
                Poll::Ready(Some(bytes)) => self.put(bytes),
                Poll::Ready(None) => self.end(),
                Poll::Pending => {
                    let Some(socket) = &self.socket else { return Poll::Ready(Ok(())) };
                    return socket::poll_gone(socket, &mut self.is_early, cx)
                        .map(|()| Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
        yield_turn(cx);
        Poll::Pending
    }

    fn sweep(&mut self, round: &mut Round, cx: &mut Context<'_>) -> bool {
        if !self.unsent.is_empty() || self.is_ended || !self.post.is_swept() {
            return false;
        }
        match self.body.take(round) {
            Given::Nothing => return false,
            Given::Chunk(chunk) => self.unsent = chunk,
            Given::Bytes(bytes) => self.put(bytes),
            Given::End(bytes) => {
                self.put(bytes);
                self.end();
            }
        }
        let written = self.poll_write(cx);
        // An error is the task's to meet, which tries again.
        self.is_ended || matches!(written, Poll::Ready(Err(_)))
    }
}

impl Writing {
    fn put(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.unsent = in_chunk(&[bytes]);
        }
    }

    fn end(&mut self) {
        self.is_ended = true;
        self.post.leave();
        self.unsent = [&self.unsent[..], LAST_CHUNK].concat().into();
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &self.socket else { return Poll::Ready(Ok(())) };
        let before = self.unsent.len();
        while !self.unsent.is_empty() {
            match socket.try_write(&self.unsent) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.unsent.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if socket.poll_write_ready(cx)?.is_pending() {
                        return self.hold(before, cx).map(Err);
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // What was written may be a part of what others still write.
        (self.unsent, self.holding) = (Bytes::new(), None);
        Poll::Ready(Ok(()))
    }

    /// Counts what waits into what all connections may hold. Ready where it is to end for that.
    fn hold(&mut self, before: usize, cx: &Context<'_>) -> Poll<io::Error> {
        let bytes = self.unsent.len();
        match &mut self.holding {
            None => self.holding = Some(Box::new(self.body.gate().hold(bytes, cx.waker()))),
            Some(holding) if bytes < before => holding.progress(bytes),
            Some(_) => {}
        }
        match self.holding.as_ref().is_some_and(|holding| holding.is_over()) {
            true => Poll::Ready(io::ErrorKind::TimedOut.into()),
            false => Poll::Pending,
        }
    }
}
