//! Moves bytes between a stream and the decoder and outbox.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
#[derive(Debug)]
pub(crate) struct Pump<I> {
    io: I,
    side: Side,
    decoder: Decoder,
    inbox: VecDeque<Message>,
    fault: Option<Fault>,
    is_ended: bool,
    /// Whether bytes came, since it was last asked.
    heard: bool,
    pub(crate) outbox: Outbox,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Pump<I> {
    /// A pump over `io`, of which `early` was read already.
    pub(crate) fn new(io: I, side: Side, decoder: Decoder, early: &[u8]) -> Self {
        let mut pump = Self {
            io,
            side,
            decoder,
            inbox: VecDeque::new(),
            fault: None,
            is_ended: false,
            heard: false,
            outbox: Outbox::default(),
        };
        pump.decode(early);
        pump
    }

    /// The next message; `None` once the stream has ended or failed.
    ///
    /// # Errors
    /// What the peer did that ends the connection, once.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Fault>> {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Poll::Ready(Ok(Some(message)));
            }
            if let Some(fault) = self.fault.take() {
                self.is_ended = true;
                return Poll::Ready(Err(fault));
            }
            if self.is_ended {
                return Poll::Ready(Ok(None));
            }
            if self.inbox.capacity() > 8 {
                self.inbox = VecDeque::new();
            }
            ready!(self.poll_read(cx));
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        READ.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
            self.is_ended = read.is_err() || buffer.filled().is_empty();
            self.heard = !self.is_ended;
            self.decode(buffer.filled());
            Poll::Ready(())
        })
    }

    fn decode(&mut self, mut bytes: &[u8]) {
        while self.fault.is_none() && !bytes.is_empty() {
            match self.decoder.decode(&mut bytes) {
                Ok(Some(message)) => self.inbox.push_back(message),
                Ok(None) => return,
                Err(fault) => self.fault = Some(fault),
            }
        }
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

    /// Answers a ping.
    pub(crate) fn send_pong(&mut self, payload: &[u8]) {
        let frame = self.frame(frame::PONG, payload);
        self.outbox.pong(frame);
    }

    fn frame(&self, opcode: OpCode, payload: &[u8]) -> Bytes {
        frame::encode(opcode, payload, (self.side == Side::Client).then(mask_key))
    }

    /// Writes what waits: see [`Outbox::poll_write`].
    ///
    /// # Errors
    /// As the stream.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, progress: &mut bool) -> Poll<io::Result<()>> {
        self.outbox.poll_write(&mut self.io, cx, progress)
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
