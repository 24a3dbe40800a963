//! What waits to be written: shared frames, and at most one in the middle.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
#[cfg(feature = "server")]
use pushpull_http::{Gate, Holding};
use tokio::io::AsyncWrite;

/// Most frames in one vectored write.
const SLICES: usize = 64;
/// Up to how many bytes frames are joined: where the stream takes one buffer at a time, and where they are many.
const JOINED: usize = 64 * 1024;
/// So many are many: to copy them costs less than a vectored write of them.
const MANY: usize = 8;
/// A queue that grew beyond this many frames gives its memory back once it is empty.
const KEPT: usize = 8;

thread_local! {
    // Of the queue that was emptied last, for the one that is filled next: whoever writes at once has no queue, and
    // makes none.
    static SPARE: Cell<Option<Box<Queue>>> = Cell::default();
}

/// Frames to be written, in order. A frame that was begun is always finished: it is owned here, whatever became of the
/// event it was made of. Where nothing waits it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// The bytes of all of them that are not written.
    bytes: usize,
    /// Whether the first frame was written in part.
    is_begun: bool,
    /// The answer to the newest ping: an older one need not be answered (RFC 6455, 5.5.3).
    pong: Option<Bytes>,
    /// Where the last answer stands while it waits: a flood of pings must not make the queue grow.
    pong_at: Option<usize>,
    /// Whether the stream may hold bytes that it was given.
    is_unflushed: bool,
    #[cfg(feature = "server")]
    answers: Answers,
    /// Its part of what all connections may hold.
    #[cfg(feature = "server")]
    holding: Option<Holding>,
}

/// The answers among the frames, since the last time that none waited.
#[cfg(feature = "server")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    /// The bytes that are to be written until the last of them is.
    until_last: usize,
}

impl Outbox {
    fn queue(&mut self) -> &mut Queue {
        self.0.get_or_insert_with(|| SPARE.take().unwrap_or_default())
    }

    /// Puts a frame behind all others.
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.queue().push(frame);
    }

    /// Puts an answer behind all others.
    #[cfg(feature = "server")]
    pub(crate) fn push_answer(&mut self, frame: Bytes) {
        let queue = self.queue();
        queue.answers.count += 1;
        queue.answers.bytes += frame.len();
        queue.push(frame);
        queue.answers.until_last = queue.bytes;
    }

    /// Answers a ping, before the frames that were not begun.
    pub(crate) fn pong(&mut self, frame: Bytes) {
        self.queue().pong = Some(frame);
    }

    #[cfg(feature = "server")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|queue| queue.frames.is_empty() && queue.pong.is_none())
    }

    /// The answers that wait, with those before them; all zero if none does.
    #[cfg(feature = "server")]
    pub(crate) fn answers(&self) -> Answers {
        self.0.as_ref().map_or_else(Answers::default, |queue| queue.answers)
    }

    /// Counts what waits into what all connections of `gate` may hold. Beyond that `waker` may be woken, and
    /// [`Outbox::is_over`].
    #[cfg(feature = "server")]
    pub(crate) fn hold(&mut self, gate: &Gate, has_progress: bool, waker: &std::task::Waker) {
        let Some(queue) = &mut self.0 else { return };
        match &mut queue.holding {
            None => queue.holding = Some(gate.hold(queue.bytes, waker)),
            Some(holding) if has_progress => holding.progress(queue.bytes),
            Some(_) => {}
        }
    }

    /// Whether all connections hold too much, of which this one made no progress for longest.
    #[cfg(feature = "server")]
    pub(crate) fn is_over(&self) -> bool {
        self.0.as_ref().and_then(|queue| queue.holding.as_ref()).is_some_and(Holding::is_over)
    }

    /// How many bytes wait.
    #[cfg(all(test, feature = "server"))]
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
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
        if let Some(queue) = &mut self.0 {
            ready!(queue.poll_write(io, cx, progress))?;
            self.rest();
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back the queue, which is empty.
    fn rest(&mut self) {
        if let Some(mut queue) = self.0.take() {
            let frames = std::mem::take(&mut queue.frames);
            *queue = Queue { frames, ..Queue::default() };
            // A thread that ends needs none.
            let _ = SPARE.try_with(|spare| spare.set(Some(queue)));
        }
    }

    /// Writes whole frames, joined, of which only what the stream does not take at once waits here. Nothing else may
    /// wait.
    ///
    /// # Errors
    /// As the stream.
    #[cfg(feature = "server")]
    pub(crate) fn write_joined(
        &mut self,
        frames: &Bytes,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        debug_assert!(self.is_empty(), "what waits comes first");
        match Pin::new(&mut *io).poll_write(cx, frames)? {
            Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(written) if written < frames.len() => {
                let queue = self.queue();
                (queue.is_begun, queue.is_unflushed) = (true, true);
                queue.push(frames.slice(written..));
            }
            Poll::Ready(_) => match Pin::new(&mut *io).poll_flush(cx)? {
                Poll::Ready(()) => return Poll::Ready(Ok(())),
                Poll::Pending => self.queue().is_unflushed = true,
            },
            Poll::Pending => self.push(frames.clone()),
        }
        self.poll_write(io, cx, &mut false)
    }
}

impl Queue {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            self.place_pong();
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

    fn place_pong(&mut self) {
        if self.pong_at.is_none()
            && let Some(pong) = self.pong.take()
        {
            let at = usize::from(self.is_begun);
            self.bytes += pong.len();
            #[cfg(feature = "server")]
            self.answers.pass_by(pong.len());
            self.frames.insert(at, pong);
            self.pong_at = Some(at);
        }
    }

    fn poll_write_some(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !io.is_write_vectored() || self.frames.len() > MANY {
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
            self.pong_at = self.pong_at.map(|_| 0);
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        #[cfg(feature = "server")]
        self.answers.advance(written);
        while let Some(frame) = self.frames.front_mut() {
            if written < frame.len() {
                frame.advance(written);
                self.is_begun |= written > 0;
                return;
            }
            written -= frame.len();
            self.frames.pop_front();
            self.is_begun = false;
            self.pong_at = self.pong_at.and_then(|at| at.checked_sub(1));
        }
        if self.frames.capacity() > KEPT {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(feature = "server")]
impl Answers {
    /// A frame of so many bytes was put before them.
    fn pass_by(&mut self, bytes: usize) {
        if self.until_last > 0 {
            self.until_last += bytes;
        }
    }

    fn advance(&mut self, written: usize) {
        self.until_last = self.until_last.saturating_sub(written);
        if self.until_last == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes at each write, and nothing where that is 0.
    struct Narrow {
        room: VecDeque<usize>,
        is_vectored: bool,
        written: Vec<u8>,
    }

    impl Narrow {
        fn take(&mut self, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let room = self.room.pop_front().unwrap_or(usize::MAX);
            if room == 0 {
                return Poll::Pending;
            }
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = room.min(all.len());
            self.written.extend_from_slice(&all[..taken]);
            Poll::Ready(Ok(taken))
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(&[IoSlice::new(bytes)])
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.take(slices)
        }
        fn is_write_vectored(&self) -> bool {
            self.is_vectored
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_flood_of_pings_waits_as_two_answers() {
        let mut outbox = Outbox::default();
        let mut io = Narrow { room: vec![0; 1000].into(), is_vectored: true, written: Vec::new() };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for n in 0..1000u16 {
            outbox.pong(n.to_be_bytes().to_vec().into());
            assert!(outbox.poll_write(&mut io, &mut cx, &mut false).is_pending());
            assert!(outbox.queue().frames.len() <= 1);
        }
        assert!(outbox.poll_write(&mut io, &mut cx, &mut false).is_ready());
        assert_eq!(io.written, [0, 0, 3, 231], "the first, and the newest");
    }

    proptest! {
        #[test]
        fn frames_come_whole_and_in_order_however_little_is_taken(
            sizes in proptest::collection::vec(1usize..200, 1..150),
            room in proptest::collection::vec(0usize..300, 0..60),
            pongs in proptest::collection::vec(any::<bool>(), 60),
            is_vectored: bool,
        ) {
            let mut outbox = Outbox::default();
            let frames: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(at, size)| vec![(at % 250) as u8; *size]).collect();
            frames.iter().for_each(|frame| outbox.push(frame.clone().into()));
            let mut io = Narrow { room: room.into(), is_vectored, written: Vec::new() };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut pongs = pongs.into_iter();
            while outbox.poll_write(&mut io, &mut cx, &mut false).is_pending() {
                if pongs.next() == Some(true) {
                    outbox.pong(Bytes::from_static(&[255; 3]));
                }
            }
            let mut rest = &io.written[..];
            let mut frames = frames.iter();
            while !rest.is_empty() {
                if let Some(behind) = rest.strip_prefix(&[255; 3]) {
                    rest = behind;
                } else {
                    rest = rest.strip_prefix(&frames.next().unwrap()[..]).expect("the next frame, whole");
                }
            }
            prop_assert_eq!(frames.next(), None);
            prop_assert!(outbox.0.is_none(), "and no memory is held");
        }
    }
}
