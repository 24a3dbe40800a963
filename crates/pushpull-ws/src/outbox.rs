//! What waits to be written: shared frames, and at most one in the middle.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Most frames in one vectored write.
const SLICES: usize = 64;
/// Where the stream takes one buffer at a time, frames are joined up to this size.
const JOINED: usize = 16 * 1024;
/// A queue that grew beyond this many frames gives its memory back once it is empty.
const KEPT: usize = 8;

/// Frames to be written, in order. A frame that was begun is always finished: it is owned here, whatever became of the
/// event it was made of.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Bytes>,
    /// Whether the first frame was written in part.
    is_begun: bool,
    /// The answer to the newest ping: an older one need not be answered (RFC 6455, 5.5.3).
    pong: Option<Bytes>,
    /// Whether the stream may hold bytes that it was given.
    is_unflushed: bool,
}

impl Outbox {
    /// Puts a frame behind all others.
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.frames.push_back(frame);
    }

    /// Answers a ping, before the frames that were not begun.
    pub(crate) fn pong(&mut self, frame: Bytes) {
        self.pong = Some(frame);
    }

    #[cfg(feature = "server")]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.pong.is_none()
    }

    /// How many frames wait.
    #[cfg(feature = "server")]
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Writes until all is written, or the stream takes no more. `progress` becomes true if it took anything.
    ///
    /// # Errors
    /// As the stream.
    pub(crate) fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(pong) = self.pong.take() {
                self.frames.insert(usize::from(self.is_begun), pong);
            }
            if self.frames.is_empty() {
                break;
            }
            let written = ready!(self.poll_write_some(io, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.is_unflushed = true;
            self.advance(written);
        }
        if self.is_unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_some(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !io.is_write_vectored() {
            self.join();
        }
        match (self.frames.len(), self.frames.front()) {
            (1, Some(frame)) => Pin::new(io).poll_write(cx, frame),
            _ => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.frames.len().min(SLICES);
                for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                    *slice = IoSlice::new(frame);
                }
                Pin::new(io).poll_write_vectored(cx, &slices[..count])
            }
        }
    }

    fn join(&mut self) {
        let mut bytes = 0;
        let fitting = self.frames.iter().take_while(|frame| {
            bytes += frame.len();
            bytes <= JOINED
        });
        let count = fitting.count();
        if count > 1 {
            let mut joined = BytesMut::with_capacity(self.frames.iter().take(count).map(Bytes::len).sum());
            self.frames.drain(..count).for_each(|frame| joined.extend_from_slice(&frame));
            self.frames.push_front(joined.freeze());
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(frame) = self.frames.front_mut() {
            if written < frame.len() {
                frame.advance(written);
                self.is_begun |= written > 0;
                return;
            }
            written -= frame.len();
            self.frames.pop_front();
            self.is_begun = false;
        }
        if self.frames.capacity() > KEPT {
            self.frames = VecDeque::new();
        }
    }
}
