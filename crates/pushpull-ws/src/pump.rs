//! Moves bytes between a stream and the decoder and outbox.

#[cfg(feature = "server")]
use std::any::Any;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(feature = "server")]
use tokio::{io::Interest, net::TcpStream};
use tungstenite::protocol::frame::coding::OpCode;

use crate::{
    decoder::{Decoder, Fault, Message, Side},
    frame,
    outbox::Outbox,
};

/// Bytes read at once.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    // Read into by all connections of a thread, so that an idle one holds no buffer.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// A connection, as far as bytes go.
// In this order, since a sweep turns to the first two alone.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pump<I> {
    pub(crate) outbox: Outbox,
    io: I,
    decoder: Decoder,
    /// Read, but not looked at. A message is made when it is asked for: deflated, 16 KiB may hold many MiB.
    unread: Option<Box<Bytes>>,
    is_ended: bool,
    /// Whether bytes came, since it was last asked.
    heard: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Pump<I> {
    /// A pump over `io`, of which `early` was read already.
    pub(crate) fn new(io: I, decoder: Decoder, early: &[u8]) -> Self {
        Self { outbox: Outbox::default(), io, decoder, unread: unread(early), is_ended: false, heard: false }
    }

    /// The next message; `None` once the stream has ended or failed.
    ///
    /// # Errors
    /// What the peer did that ends the connection, once.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Fault>> {
        loop {
            if let Some(decoded) = self.decode_unread().transpose() {
                return Poll::Ready(decoded.map(Some));
            }
            if self.is_ended {
                return Poll::Ready(Ok(None));
            }
            if let Some(decoded) = ready!(self.poll_read(cx)).transpose() {
                return Poll::Ready(decoded.map(Some));
            }
        }
    }

    fn decode_unread(&mut self) -> Result<Option<Message>, Fault> {
        let Some(mut unread) = self.unread.take() else { return Ok(None) };
        let mut rest = &unread[..];
        let decoded = self.decode(&mut rest);
        let taken = unread.len() - rest.len();
        unread.advance(taken);
        self.unread = Some(unread).filter(|unread| !unread.is_empty());
        decoded
    }

    /// Takes the next message, if it is there whole, off the front of `bytes`. Behind a fault nothing can be read.
    fn decode(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, Fault> {
        let decoded = self.decoder.decode(bytes);
        if decoded.is_err() {
            (*bytes, self.is_ended) = (&[], true);
        }
        decoded
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Fault>> {
        READ.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
            let mut bytes = buffer.filled();
            self.is_ended = read.is_err() || bytes.is_empty();
            self.heard = !self.is_ended;
            let decoded = self.decode(&mut bytes);
            self.unread = unread(bytes);
            Poll::Ready(decoded)
        })
    }

    /// Reads and drops what comes. `Ready` at the end of the stream.
    #[cfg(feature = "server")]
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        READ.with_borrow_mut(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
                if read.is_err() || buffer.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
        })
    }

    /// Whether bytes came since it was last asked.
    pub(crate) fn was_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Puts a frame of this side's own behind all others.
    pub(crate) fn send(&mut self, opcode: OpCode, payload: &[u8]) {
        let frame = self.frame(opcode, payload);
        self.outbox.push(frame);
    }

    /// The same of an answer, which the outbox counts.
    #[cfg(feature = "server")]
    pub(crate) fn answer(&mut self, opcode: OpCode, payload: &[u8]) {
        let frame = self.frame(opcode, payload);
        self.outbox.push_answer(frame);
    }

    /// Answers a ping.
    pub(crate) fn send_pong(&mut self, payload: &[u8]) {
        let frame = self.frame(frame::PONG, payload);
        self.outbox.pong(frame);
    }

    fn frame(&self, opcode: OpCode, payload: &[u8]) -> Bytes {
        frame::encode(opcode, payload, (self.decoder.side() == Side::Client).then(mask_key))
    }

    /// Writes what waits: see [`Outbox::poll_write`].
    ///
    /// # Errors
    /// As the stream.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, progress: &mut bool) -> Poll<io::Result<()>> {
        self.outbox.poll_write(&mut self.io, cx, progress)
    }

    /// Writes frames at once where nothing waits: see [`Outbox::write_joined`].
    ///
    /// # Errors
    /// As the stream.
    #[cfg(feature = "server")]
    pub(crate) fn write_joined(&mut self, frames: &Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.write_joined(frames, &mut self.io, cx)
    }

    /// Has the processor fetch what a write to a socket looks at first, while other things are done.
    #[cfg(feature = "server")]
    pub(crate) fn look_ahead(&self)
    where
        I: 'static,
    {
        if let Some(socket) = (&self.io as &dyn Any).downcast_ref::<TcpStream>() {
            let _ = socket.try_io(Interest::WRITABLE, || Ok(()));
        }
    }

    /// Says that nothing more is written.
    ///
    /// # Errors
    /// As the stream.
    #[cfg(feature = "server")]
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn unread(bytes: &[u8]) -> Option<Box<Bytes>> {
    (!bytes.is_empty()).then(|| Box::new(Bytes::copy_from_slice(bytes)))
}

/// Unpredictable, so that nobody who chooses the payload chooses what is on the wire (RFC 6455, 10.3).
#[cfg(feature = "client")]
fn mask_key() -> [u8; 4] {
    let mut key = [0; 4];
    // Without a source of randomness a connection works all the same: masking protects third parties only.
    let _ = getrandom::fill(&mut key);
    key
}

#[cfg(not(feature = "client"))]
fn mask_key() -> [u8; 4] {
    [0; 4]
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;
    use crate::{deflate::deflate, frame};

    impl<I> Pump<I> {
        /// The stream.
        pub(crate) fn io(&self) -> &I {
            &self.io
        }

        /// The bytes that were read, but made no message yet.
        pub(crate) fn held(&self) -> usize {
            self.unread.as_ref().map_or(0, |unread| unread.len()) + self.decoder.held()
        }
    }

    #[test]
    fn a_message_is_made_when_it_is_asked_for() {
        let bomb = deflate(&vec![0; 1 << 20]).unwrap();
        let mut bytes = frame::encode_deflated(frame::BINARY, &bomb).repeat(8);
        bytes.truncate(SCRATCH);
        let decoder = Decoder::new(Side::Client, 1 << 20).with_deflate(true);
        let mut pump = Pump::new(tokio::io::empty(), decoder, &bytes);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..8 {
            assert!(pump.held() <= SCRATCH, "{} bytes are held", pump.held());
            let message = pump.poll_message(&mut cx);
            assert_eq!(message, Poll::Ready(Ok(Some(Message::Binary(vec![0; 1 << 20].into())))));
        }
        assert_eq!(pump.held(), 0);
    }
}
