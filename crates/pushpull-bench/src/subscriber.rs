//! Many subscribers on one thread.

mod connection;
mod inflate;
mod returning;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Source};

use crate::{
    dialect::Address,
    http::TOPIC,
    report::Faults,
    shape::Shape,
    stamp::Stamp,
    stream,
    wire::{From, Transport, ws},
};
use connection::{Connection, Reading};
pub(crate) use connection::{State, place};
use inflate::Inflater;

/// The longest answer that can be read at once.
const SCRATCH: usize = 1 << 20;
/// How long is read on when all has come, for what must not come.
const WATCH: Duration = Duration::from_millis(50);
/// Stands for what is watched besides connections.
const OTHER: Token = Token(usize::MAX);

/// What all connections have in common.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) server: Address,
    pub(crate) shape: Arc<Shape>,
    /// Whether deflated messages are asked for.
    pub(crate) deflate: bool,
    /// Whether each connection keeps the place it could go on from.
    pub(crate) keeps_places: bool,
    /// The epoch of all cursors, where events tell their seqs alone.
    pub(crate) epoch: Option<String>,
}

/// Connections that stand, read by one thread.
pub(crate) struct Subscribers {
    target: Target,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Those that have something to read of which the poll knows nothing.
    behind: Vec<usize>,
    scratch: Vec<u8>,
    inflater: Inflater,
    origin: Instant,
    is_other_ready: bool,
}

/// What was received so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) events: u64,
    pub(crate) reads: u64,
    pub(crate) bytes: u64,
    /// Events that did not follow the one before.
    pub(crate) out_of_order: u64,
    /// Payloads that were not what was sent.
    pub(crate) garbled: u64,
    /// Connections that the server closed.
    pub(crate) closed: u64,
}

impl Target {
    pub(crate) fn new(transport: Transport, server: Address, shape: Arc<Shape>) -> Self {
        Self { transport, server, shape, deflate: false, keeps_places: false, epoch: None }
    }

    /// The request of one subscriber to `topic`.
    fn request(&self, topic: &str, from: From<'_>) -> Vec<u8> {
        let mut request = self.transport.request(self.server, topic, from);
        if self.deflate {
            let end = request.len() - "\r\n".len();
            request.splice(end..end, ws::OFFER.bytes());
        }
        request
    }

    /// How the head begins that grants it.
    fn status(&self) -> &'static [u8] {
        match self.transport {
            Transport::Ws | Transport::WsJson | Transport::WsProto => b"HTTP/1.1 101",
            _ => b"HTTP/1.1 200",
        }
    }

    /// The length of a payload that stands in an event object as it is.
    fn document(&self) -> Option<usize> {
        self.shape.is_json().then_some(self.shape.length())
    }
}

impl Subscribers {
    /// Opens `count` subscriptions spread over `topics` topics, and waits until each stands. Of the messages those
    /// of the same number, counted round, go to a topic.
    pub(crate) fn open(target: Target, count: usize, topics: usize, from: From<'_>) -> io::Result<Self> {
        Self::open_behind(target, count, topics, from, 0)
    }

    /// The same where the first message is the one of number `first`.
    pub(crate) fn open_behind(
        target: Target,
        count: usize,
        topics: usize,
        from: From<'_>,
        first: u64,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for n in 0..count {
            let numbers = (first + (n % topics) as u64, topics as u64);
            let opened = Connection::open(&target, topic(n, topics), numbers, from);
            let mut connection = opened.map_err(|error| behind(n, error))?;
            poll.registry().register(connection.source(), Token(n), Interest::READABLE)?;
            connections.push(connection);
        }
        let keeping = connections.iter().enumerate().filter(|(_, connection)| connection.keeps_some());
        let behind = keeping.map(|(number, _)| number).collect();
        Ok(Self {
            target,
            poll,
            events: Events::with_capacity(1024),
            connections,
            behind,
            scratch: vec![0; SCRATCH],
            inflater: Inflater::new(),
            origin: Instant::now(),
            is_other_ready: false,
        })
    }

    /// Times are told from `origin` on; from when all stood on, unless this is called.
    pub(crate) fn begin(&mut self, origin: Instant) {
        self.origin = origin;
    }

    /// Watches something besides the connections.
    pub(crate) fn watch(&mut self, other: &mut impl Source) -> io::Result<()> {
        self.poll.registry().register(other, OTHER, Interest::READABLE)
    }

    /// Whether what is watched besides was ready since this was last asked.
    pub(crate) fn take_other(&mut self) -> bool {
        std::mem::take(&mut self.is_other_ready)
    }

    /// Whether any message came deflated.
    pub(crate) fn has_inflated(&self) -> bool {
        self.inflater.is_used()
    }

    /// Reads what comes within `wait`. `each` gets the stamp of every event and when the read that brought it
    /// returned, in nanoseconds.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        received: &mut Received,
        each: &mut impl FnMut(Stamp, u64),
    ) -> io::Result<()> {
        let wait = if self.behind.is_empty() { wait } else { Duration::ZERO };
        stream::wait(&mut self.poll, &mut self.events, wait)?;
        let mut reading = Reading {
            target: &self.target,
            scratch: &mut self.scratch,
            inflater: &mut self.inflater,
            received,
            origin: self.origin,
            each,
        };
        for number in self.behind.drain(..) {
            self.connections[number].read(&mut reading, false)?;
        }
        for event in &self.events {
            let Some(connection) = self.connections.get_mut(event.token().0) else {
                self.is_other_ready = true;
                continue;
            };
            if connection.state() == State::Connecting && event.is_writable() {
                connection.ask(&self.target, self.poll.registry(), event.token())?;
            }
            connection.read(&mut reading, event.is_read_closed())?;
        }
        Ok(())
    }

    /// Reads whatever comes for so long, and what is there at least. Nothing of it is timed.
    pub(crate) fn rest(&mut self, time: Duration, received: &mut Received) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.read(left, received, &mut |_, _| {})?;
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    /// Judges what was received where `expected` events had to come, and what comes in 50 ms more: the last event
    /// may be repeated, or a connection be closed behind it.
    pub(crate) fn judged(mut self, mut received: Received, expected: u64) -> io::Result<Faults> {
        self.rest(WATCH, &mut received)?;
        Ok(Faults::of(&received, expected))
    }
}

/// What went wrong with the connection that is opened behind `others`.
fn behind(others: usize, error: io::Error) -> io::Error {
    match others {
        0 => error,
        _ => io::Error::new(error.kind(), format!("{error} (when {others} connections stood)")),
    }
}

/// The topic of the `n`th of those that share `topics` of them.
pub(crate) fn topic(n: usize, topics: usize) -> String {
    if topics == 1 { TOPIC.to_owned() } else { format!("{TOPIC}.{}", n % topics) }
}

#[cfg(test)]
mod tests;
