//! POSTs over one connection, the next sent as one is answered.

use std::{
    io::{self, Read, Write},
    time::Instant,
};

use crate::{
    dialect::{Address, Dialect},
    http::put_publish,
    shape::Shape,
    stamp::Stamp,
    stream::{Stream, connect},
    subscriber::Subscribers,
    tls::Protocol,
    wire::http::answer,
};

/// Requests that are written, and answers that are read, on one connection; knows no socket.
#[derive(Debug)]
struct Pipeline {
    dialect: Dialect,
    /// Most requests without an answer.
    depth: u64,
    sent: u64,
    answered: u64,
    /// What must still be written.
    out: Vec<u8>,
    /// The beginning of an answer whose end has not come.
    part: Vec<u8>,
}

/// Publishes over one connection, with several POSTs under way, beside subscribers that are read by the same thread.
pub(crate) struct Pipelined {
    stream: Stream,
    pipeline: Pipeline,
    scratch: Vec<u8>,
}

impl Pipeline {
    fn new(dialect: Dialect, depth: u64) -> Self {
        Self { dialect, depth, sent: 0, answered: 0, out: Vec::new(), part: Vec::new() }
    }

    fn has_room(&self) -> bool {
        self.sent - self.answered < self.depth
    }

    /// Takes what was read.
    ///
    /// # Errors
    ///
    /// An answer is none, is not that of a message that was published, or was not asked for.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.part.extend_from_slice(bytes);
        let mut done = 0;
        while let Some(answer) = answer(&self.part[done..])? {
            let bytes = &self.part[done..done + answer.length];
            self.dialect.published(answer.status, bytes)?;
            done += answer.length;
            self.answered += 1;
        }
        self.part.drain(..done);
        let told = || io::Error::other("an answer that was not asked for");
        (self.answered <= self.sent).then_some(()).ok_or_else(told)
    }
}

impl Pipelined {
    /// Connects, with at most `depth` POSTs under way; `beside` wakes when there is something to [`read`](Self::read).
    pub(crate) fn connect(address: Address, depth: u64, beside: &mut Subscribers) -> io::Result<Self> {
        let mut stream = connect(address, Protocol::Http1)?.into_nonblocking()?;
        beside.watch(stream.socket())?;
        Ok(Self { stream, pipeline: Pipeline::new(address.dialect, depth), scratch: vec![0; 1 << 16] })
    }

    /// How many were published, and how many of them acknowledged.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.pipeline.sent, self.pipeline.answered)
    }

    /// Publishes as many messages as may be under way: each to the topic that is told for its number, with the time
    /// since `origin`.
    pub(crate) fn fill<'a>(
        &mut self,
        shape: &Shape,
        origin: Instant,
        topic: impl Fn(u64) -> &'a str,
    ) -> io::Result<()> {
        while self.pipeline.has_room() {
            let stamp = Stamp { number: self.pipeline.sent, sent: origin.elapsed().as_nanos() as u64 };
            put_publish(&mut self.pipeline.out, topic(stamp.number), shape, stamp)?;
            self.pipeline.sent += 1;
        }
        self.write()
    }

    /// Reads the answers that are there.
    pub(crate) fn read(&mut self) -> io::Result<()> {
        loop {
            match self.stream.read(&mut self.scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.pipeline.take(&self.scratch[..read])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what the socket takes: the rest goes with the next.
    fn write(&mut self) -> io::Result<()> {
        let out = &mut self.pipeline.out;
        while !out.is_empty() {
            match self.stream.write(out) {
                Ok(written) => drop(out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 16\r\n\r\n{\"cursor\":\"a-1\"}";

    fn pipeline(depth: u64, sent: u64) -> Pipeline {
        Pipeline { sent, ..Pipeline::new(Dialect::Pushpull, depth) }
    }

    #[test]
    fn an_answer_makes_room_for_one() {
        let mut pipeline = pipeline(2, 2);
        assert!(!pipeline.has_room());
        pipeline.take(ANSWER).unwrap();
        assert!(pipeline.has_room());
        pipeline.sent += 1;
        assert!(!pipeline.has_room());
    }

    #[test]
    fn answers_may_be_cut_anywhere() {
        let three = ANSWER.repeat(3);
        for cut in 0..three.len() {
            let mut pipeline = pipeline(16, 3);
            pipeline.take(&three[..cut]).unwrap();
            assert_eq!(pipeline.answered, (cut / ANSWER.len()) as u64);
            pipeline.take(&three[cut..]).unwrap();
            assert_eq!((pipeline.answered, pipeline.part.len()), (3, 0), "cut at {cut}");
        }
    }

    #[test]
    fn a_refusal_or_an_answer_too_many_is_an_error() {
        let refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}";
        let error = pipeline(16, 3).take(refusal).unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
        assert!(pipeline(16, 1).take(&ANSWER.repeat(2)).is_err());
        assert!(pipeline(16, 2).take(&ANSWER.repeat(2)).is_ok());
    }
}
