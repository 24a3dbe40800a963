//! Requests that came together: taken one after another from what was received at once, and answered in one write.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{net::TcpStream, time::Instant};

use super::{
    head::{Plain, Verdict},
    received::Received,
    write,
};

/// Most requests that a connection has answered before others have their turn.
const MOST: usize = 32;
/// Bytes of answers from which on they are written, even if more requests are there.
const GATHERED: usize = 16 * 1024;

/// What is under way while a connection is polled. It is settled, and what is left of it kept, before the poll ends.
#[derive(Debug, Default)]
pub(super) struct Turn {
    received: Received,
    requests: usize,
    gathered: Vec<u8>,
    now: Option<Instant>,
}

/// What is the next of a connection.
#[derive(Debug)]
pub(super) enum Ahead {
    Request(Box<Plain>),
    /// Anything else, as far as it was judged already.
    Other(Option<Verdict>),
}

impl Turn {
    /// Goes on with what an earlier turn left.
    pub(super) fn resume(&mut self, kept: Option<Box<[u8]>>) {
        if let Some(kept) = kept {
            self.received.put(&kept);
        }
    }

    /// What was received and not taken.
    pub(super) fn kept(&self) -> Option<Box<[u8]>> {
        self.received.kept()
    }

    /// Takes the next request behind others, if it is whole and plain and may be answered with them.
    pub(super) fn ahead(&mut self) -> Ahead {
        match self.may_gather().then(|| self.judge()).flatten() {
            Some(Verdict::Plain(plain)) => Ahead::Request(plain),
            verdict => Ahead::Other(verdict),
        }
    }

    /// Judges what was received, and takes it if it is a request. `None` if there is nothing to judge.
    pub(super) fn judge(&mut self) -> Option<Verdict> {
        let verdict = (!self.received.is_empty()).then(|| self.received.judge());
        if let Some(Verdict::Plain(plain)) = &verdict {
            self.received.take(plain.bytes);
        }
        verdict
    }

    /// Receives what has come. How many bytes: none if the client has ended.
    pub(super) fn poll_more(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.received.poll_more(stream, cx)
    }

    /// Notes a request that is asked.
    pub(super) fn begin(&mut self) {
        self.requests += 1;
    }

    /// The time, asked for once a turn.
    pub(super) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Whether others are to have their turn.
    pub(super) fn is_over(&self) -> bool {
        self.requests >= MOST
    }

    /// Where an answer is put that may wait for the next one; `None` if it is to be written, after what was gathered.
    pub(super) fn gathering(&mut self) -> Option<&mut Vec<u8>> {
        if !self.may_gather() {
            return None;
        }
        if self.gathered.capacity() == 0 {
            self.gathered = write::room();
        }
        Some(&mut self.gathered)
    }

    /// The answers that were gathered, which come before all others.
    pub(super) fn take_gathered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.gathered)
    }

    fn may_gather(&self) -> bool {
        !self.received.is_empty() && !self.is_over() && self.gathered.len() < GATHERED
    }

    /// Writes the answers that were gathered. Gives back what the socket did not take.
    pub(super) fn settle(&mut self, stream: &TcpStream) -> io::Result<Option<write::Left>> {
        if self.gathered.is_empty() {
            return Ok(None);
        }
        write::begin_after(self.take_gathered(), stream, |_| {}, Bytes::new(), b"")
    }
}
