//! Requests that came together: taken one after another without another look, and answered in one write.

use std::io;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{
    head::{Plain, Verdict},
    socket, write,
};

/// Most requests that a connection has answered before others have their turn.
const MOST: usize = 32;
/// Bytes of answers from which on they are written, even if more requests are there.
const GATHERED: usize = 16 * 1024;

/// What is under way while a connection is polled. It is settled before the poll ends.
#[derive(Debug, Default)]
pub(super) struct Turn {
    // Bytes that were looked at, and how many of them are requests that were taken.
    seen: usize,
    taken: usize,
    requests: usize,
    gathered: Vec<u8>,
}

impl Turn {
    /// Notes a request that was taken from the socket.
    pub(super) fn begin(&mut self) {
        self.requests += 1;
    }

    /// Notes that a request of `taken` bytes is the first of `seen`, which are still in the socket.
    pub(super) fn begin_ahead(&mut self, taken: usize, seen: usize) {
        (self.taken, self.seen) = (taken, seen);
    }

    /// The next request of those looked at, if it is whole and plain.
    pub(super) fn next(&mut self) -> Option<Box<Plain>> {
        if !self.may_gather() {
            return None;
        }
        match socket::judge_again(self.taken, self.seen) {
            Verdict::Plain(plain) => {
                self.taken += plain.bytes;
                Some(plain)
            }
            _ => None,
        }
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
        self.seen > self.taken && !self.is_over() && self.gathered.len() < GATHERED
    }

    /// Takes from the socket what was taken of what it was looked at.
    pub(super) fn consume(&mut self, stream: &TcpStream) -> io::Result<()> {
        let taken = std::mem::take(&mut self.taken);
        self.seen = 0;
        socket::take(stream, taken)
    }

    /// The same, and writes the answers that were gathered. Gives back what the socket did not take.
    pub(super) fn settle(&mut self, stream: &TcpStream) -> io::Result<Option<write::Left>> {
        self.consume(stream)?;
        if self.gathered.is_empty() {
            return Ok(None);
        }
        write::begin_after(self.take_gathered(), stream, |_| {}, Bytes::new(), b"")
    }
}
