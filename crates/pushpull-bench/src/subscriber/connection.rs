//! One subscriber's connection.

use std::{
    io::{self, Read, Write},
    net,
    time::{Duration, Instant},
};

use memchr::memmem;
use mio::{Interest, Registry, Token, net::TcpStream};

use super::{Received, Target, inflate::Inflater};
use crate::{
    dialect::{Dialect, nchan},
    stamp::Stamp,
    stream::{PATIENCE, Stream, connect, explained},
    wire::{
        self, From, Transport,
        grpc::{Reader, Stage},
        http::{self, last_member, page, refused},
        ws,
    },
};

/// What ends the head of an answer.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A connection, and how far its subscription has come.
pub(super) struct Connection {
    stream: Stream,
    topic: String,
    rest: Vec<u8>,
    /// The number of the next message, and how far apart two of them are.
    next: u64,
    step: u64,
    /// The seq of the last event, by `pushpull.v1.proto`.
    seq: Option<u64>,
    grpc: Reader,
    state: State,
    /// Where to go on from, where that is kept.
    cursor: Option<String>,
}

/// How far a connection that was begun has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The request is not written yet.
    Connecting,
    /// The answer's head has not come.
    Asked,
    /// The subscription stands.
    Stands,
    /// The server was full, and asked to be left alone for so long.
    Refused(Duration),
}

/// What all reads of a thread share.
pub(super) struct Reading<'a, E> {
    pub(super) target: &'a Target,
    /// What the bytes of a read are compared and taken apart in.
    pub(super) scratch: &'a mut [u8],
    pub(super) inflater: &'a mut Inflater,
    pub(super) received: &'a mut Received,
    /// Times are told from here on.
    pub(super) origin: Instant,
    pub(super) each: &'a mut E,
}

impl Connection {
    /// Opens a subscription to `topic`, and waits until it stands. Its messages are the `first` and each `step`
    /// behind.
    pub(super) fn open(
        target: &Target,
        topic: String,
        numbers: (u64, u64),
        from: From<'_>,
    ) -> io::Result<Self> {
        let opened = Self::open_at(target, topic, numbers, from);
        opened.map_err(|error| explained(error, target.server.socket))
    }

    fn open_at(
        target: &Target,
        topic: String,
        (first, step): (u64, u64),
        from: From<'_>,
    ) -> io::Result<Self> {
        let (transport, server) = (target.transport, target.server);
        let mut stream = connect(server, transport.protocol())?;
        stream.write_all(&target.request(&topic, from))?;
        let mut grpc = Reader::default();
        match (transport, from) {
            // Nchan begins with what is kept, and answers when there is something.
            (Transport::Longpoll, From::Now) if server.dialect != Dialect::Nchan => {
                let place = place(&mut stream)?;
                stream.write_all(&target.request(&topic, From::After(&place)))?;
            }
            (Transport::HttpPoll, From::Now) => drop(place(&mut stream)?),
            (Transport::Longpoll | Transport::HttpPoll, _) => {}
            (Transport::Ws | Transport::WsJson | Transport::WsProto | Transport::Sse, _) => {
                accepted(&mut stream, target)?;
            }
            (Transport::Grpc, From::Now) => called(&mut stream, &mut grpc, &topic, Stage::Stands)?,
            (Transport::Grpc, _) => called(&mut stream, &mut grpc, &topic, Stage::Accepted)?,
        }
        let stream = stream.into_nonblocking()?;
        let (rest, seq, cursor, state) = (Vec::new(), None, None, State::Stands);
        Ok(Self { stream, topic, rest, next: first, step, seq, grpc, state, cursor })
    }

    /// What is waited for.
    pub(super) fn source(&mut self) -> &mut TcpStream {
        self.stream.socket()
    }

    /// Whether something came that nobody will be told of again: it lies here already.
    pub(super) fn keeps_some(&self) -> bool {
        self.stream.keeps_some()
    }

    /// How far it has come.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The number of the message that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Ends the connection in the middle of whatever it is at. Nothing that was not read counts.
    pub(super) fn cut(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(self.stream.socket())?;
        // The server may have been faster.
        let _ = self.stream.socket().shutdown(net::Shutdown::Both);
        Ok(())
    }

    /// Begins a new connection in place of one that was cut.
    pub(super) fn reopen(&mut self, target: &Target, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream = Stream::begin(target.server, target.transport.protocol())?;
        self.rest.clear();
        self.grpc = Reader::default();
        self.state = State::Connecting;
        registry.register(self.stream.socket(), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Asks to go on from where the last connection ended, once the server is there.
    pub(super) fn ask(&mut self, target: &Target, registry: &Registry, token: Token) -> io::Result<()> {
        if let Some(error) = self.stream.socket().take_error()? {
            return Err(explained(error, target.server.socket));
        }
        self.stream.socket().set_nodelay(true)?;
        let cursor = self.cursor.as_deref().ok_or_else(|| io::Error::other("no place to go on from"))?;
        self.stream.write_all(&target.request(&self.topic, From::After(cursor)))?;
        self.state = State::Asked;
        registry.reregister(self.stream.socket(), token, Interest::READABLE)
    }

    /// Reads what is there.
    pub(super) fn read<E: FnMut(Stamp, u64)>(
        &mut self,
        reading: &mut Reading<'_, E>,
        is_ending: bool,
    ) -> io::Result<()> {
        loop {
            let kept = self.rest.len();
            reading.scratch[..kept].copy_from_slice(&self.rest);
            let free = &mut reading.scratch[kept..];
            let room = free.len();
            let read = match self.stream.read(free) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                _ => {
                    reading.received.closed += u64::from(!matches!(self.state, State::Refused(_)));
                    return Ok(());
                }
            };
            // All that one read brought came at one time.
            let now = reading.origin.elapsed().as_nanos() as u64;
            reading.received.reads += 1;
            reading.received.bytes += read as u64;
            self.take(reading, kept + read, now)?;
            if self.stream.is_drained(read, room) && !is_ending {
                return Ok(());
            }
        }
    }

    /// Takes what is whole of the `length` bytes in the scratch, and keeps the rest.
    fn take<E: FnMut(Stamp, u64)>(
        &mut self,
        reading: &mut Reading<'_, E>,
        length: usize,
        now: u64,
    ) -> io::Result<()> {
        let bytes = &reading.scratch[..length];
        let head = match self.state {
            State::Asked => self.take_head(reading.target, bytes)?,
            State::Stands => Some(0),
            State::Connecting | State::Refused(_) => Some(length),
        };
        let done = match head {
            Some(head) => {
                let mut judge = Judge { next: self.next, step: self.step, now, of: reading.received };
                let shape = &reading.target.shape;
                let each = &mut *reading.each;
                let inflater = &mut *reading.inflater;
                let taken =
                    self.take_events(reading.target, &bytes[head..], &mut |payload, is_deflated| {
                        let stamp = match is_deflated {
                            true => inflater.read(payload, judge.next, shape),
                            false => shape.read(payload),
                        };
                        judge.note(stamp, each);
                    })?;
                self.next = judge.next;
                head + taken
            }
            None => 0,
        };
        if reading.target.keeps_places {
            self.keep_place(reading.target, &bytes[..done]);
        }
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[done..]);
        Ok(())
    }

    fn take_events(
        &mut self,
        target: &Target,
        bytes: &[u8],
        each: &mut impl FnMut(&[u8], bool),
    ) -> io::Result<usize> {
        let mut plain = |payload: &[u8]| each(payload, false);
        Ok(match target.transport {
            Transport::Ws if target.deflate => ws::maybe_deflated(bytes, each),
            Transport::Ws => ws::messages(bytes, &mut plain),
            Transport::WsJson => {
                let document = target.document();
                ws::messages(bytes, &mut |message| wire::objects(message, document, &mut plain))
            }
            Transport::WsProto => ws::proto_messages(bytes, &self.topic, &mut self.seq, &mut plain)?,
            Transport::Sse => wire::blocks(bytes, &mut plain),
            Transport::Longpoll | Transport::HttpPoll => self.take_pages(target, bytes, &mut plain)?,
            Transport::Grpc => {
                let done = self.grpc.take(bytes, &self.topic, &mut plain)?;
                self.stream.write_all(&self.grpc.replies())?;
                done
            }
        })
    }

    /// Takes pages and asks on: a long poll always, a poll while there is more.
    fn take_pages(
        &mut self,
        target: &Target,
        bytes: &[u8],
        each: &mut impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut done = 0;
        if target.server.dialect == Dialect::Nchan {
            while let Some(page) = nchan::page(&bytes[done..])? {
                page.message.iter().for_each(|message| each(message));
                if let Some(place) = page.place.filter(|_| page.message.is_some()) {
                    self.stream.write_all(&target.request(&self.topic, From::After(&place)))?;
                }
                done += page.length;
            }
            return Ok(done);
        }
        while let Some(page) = page(&bytes[done..])? {
            wire::objects(page.body, target.document(), each);
            if target.transport == Transport::Longpoll || page.has_more {
                self.stream.write_all(&target.request(&self.topic, From::After(page.cursor)))?;
            }
            done += page.length;
        }
        Ok(done)
    }

    /// Reads the head of the answer to a connection that came back, and returns how many bytes of it are done with;
    /// none if it is not there yet.
    fn take_head(&mut self, target: &Target, bytes: &[u8]) -> io::Result<Option<usize>> {
        if target.transport == Transport::Grpc {
            // Its reader knows heads.
            self.state = State::Stands;
            return Ok(Some(0));
        }
        let Some(end) = memmem::find(bytes, HEAD_END) else { return Ok(None) };
        let head = &bytes[..end];
        if let Some(pause) = http::pause(head) {
            self.state = State::Refused(pause);
            return Ok(Some(bytes.len()));
        }
        self.state = State::Stands;
        match target.transport {
            // Its pages are read with their heads.
            Transport::Longpoll | Transport::HttpPoll => Ok(Some(0)),
            _ => head.starts_with(target.status()).then_some(Some(end + 4)).ok_or_else(|| refused(bytes)),
        }
    }

    /// Keeps the place that `done` bytes tell last.
    fn keep_place(&mut self, target: &Target, done: &[u8]) {
        let told = match target.transport {
            Transport::Sse => last_member(done, b"\nid: ", b'\n'),
            Transport::WsJson | Transport::Longpoll => last_member(done, b"\"cursor\":\"", b'"'),
            Transport::Ws | Transport::HttpPoll | Transport::WsProto | Transport::Grpc => None,
        };
        let seq = if target.transport == Transport::Grpc { self.grpc.seq() } else { self.seq };
        let told = told.map(str::to_owned).or_else(|| Some(format!("{}-{}", target.epoch.as_ref()?, seq?)));
        self.cursor = told.or_else(|| self.cursor.take());
    }
}

/// Whether each message follows the one before.
struct Judge<'a> {
    next: u64,
    step: u64,
    now: u64,
    of: &'a mut Received,
}

impl Judge<'_> {
    /// Notes a payload's stamp, or that it had none.
    fn note(&mut self, stamp: Option<Stamp>, each: &mut impl FnMut(Stamp, u64)) {
        let Some(stamp) = stamp else {
            self.of.garbled += 1;
            return;
        };
        self.of.events += 1;
        self.of.out_of_order += u64::from(stamp.number != self.next);
        self.next = stamp.number.saturating_add(self.step);
        each(stamp, self.now);
    }
}

/// Reads the answer to a poll that does not wait: the place to poll from.
pub(crate) fn place(stream: &mut Stream<net::TcpStream>) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let read = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(page) = page(&bytes)? {
            return Ok(page.cursor.to_owned());
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads the head of the answer, which must be the one to be had, and no byte behind it.
fn accepted(stream: &mut Stream<net::TcpStream>, target: &Target) -> io::Result<()> {
    let mut chunk = [0; 2048];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = stream.peek(&mut chunk)?;
        if let Some(end) = memmem::find(&chunk[..seen], HEAD_END) {
            stream.read_exact(&mut chunk[..end + 4])?;
            if !chunk.starts_with(target.status()) {
                return Err(refused(&chunk[..seen]));
            }
            let is_taken = !target.deflate || memmem::find(&chunk[..end], ws::TAKEN).is_some();
            let none = || io::Error::other("the server negotiates no permessage-deflate");
            return is_taken.then_some(()).ok_or_else(none);
        }
        if seen == 0 || seen == chunk.len() || Instant::now() > deadline {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads frames until the call has come to `stage`, and no byte behind them.
fn called(
    stream: &mut Stream<net::TcpStream>,
    reader: &mut Reader,
    topic: &str,
    stage: Stage,
) -> io::Result<()> {
    let mut frame = Vec::new();
    let mut early = 0;
    while reader.stage() < stage {
        let wanted = Reader::wanted(&frame)?;
        let known = frame.len();
        frame.resize(wanted, 0);
        stream.read_exact(&mut frame[known..])?;
        if reader.take(&frame, topic, &mut |_| early += 1)? > 0 {
            frame.clear();
            stream.write_all(&reader.replies())?;
        }
    }
    let told = || io::Error::other("an event came before anything was published");
    (early == 0).then_some(()).ok_or_else(told)
}
