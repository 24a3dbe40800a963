//! One subscriber's connection.

use std::{
    io::{self, Read, Write},
    net,
    time::{Duration, Instant},
};

use memchr::memmem;
use mio::net::TcpStream;

use super::{Received, Target};
use crate::{
    dialect::Address,
    stamp::Stamp,
    wire::{
        self, From, Transport,
        grpc::{Reader, Stage},
        http::{page, refused},
        ws,
    },
};

/// How long a handshake may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection whose subscription stands.
pub(super) struct Connection {
    stream: TcpStream,
    topic: String,
    rest: Vec<u8>,
    next: u64,
    grpc: Reader,
}

impl Connection {
    /// Opens a subscription to `topic`, and waits until it stands.
    pub(super) fn open(target: Target, topic: String, from: From<'_>) -> io::Result<Self> {
        let Target { transport, server, .. } = target;
        let mut stream = connect(server)?;
        stream.write_all(&transport.request(server, &topic, from))?;
        let mut grpc = Reader::default();
        match (transport, from) {
            (Transport::Longpoll, From::Now) => {
                let place = place(&mut stream)?;
                stream.write_all(&transport.request(server, &topic, From::After(&place)))?;
            }
            (Transport::HttpPoll, From::Now) => drop(place(&mut stream)?),
            (Transport::Longpoll | Transport::HttpPoll, _) => {}
            (Transport::Ws | Transport::WsJson, _) => accepted(&mut stream, b"HTTP/1.1 101")?,
            (Transport::Sse, _) => accepted(&mut stream, b"HTTP/1.1 200")?,
            (Transport::Grpc, From::Now) => called(&mut stream, &mut grpc, &topic, Stage::Stands)?,
            (Transport::Grpc, _) => called(&mut stream, &mut grpc, &topic, Stage::Accepted)?,
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream: TcpStream::from_std(stream), topic, rest: Vec::new(), next: 0, grpc })
    }

    /// What is waited for.
    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads what is there. `each` gets the stamp of every event and when the read that brought it returned.
    pub(super) fn read(
        &mut self,
        target: Target,
        is_ending: bool,
        scratch: &mut [u8],
        received: &mut Received,
        each: &mut impl FnMut(Stamp, Instant),
    ) -> io::Result<()> {
        loop {
            let kept = self.rest.len();
            scratch[..kept].copy_from_slice(&self.rest);
            let free = &mut scratch[kept..];
            let asked = free.len();
            let read = match self.stream.read(free) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                _ => {
                    received.closed += 1;
                    return Ok(());
                }
            };
            let now = Instant::now();
            received.reads += 1;
            let done = self.take(target, &scratch[..kept + read], received, &mut |stamp| each(stamp, now))?;
            self.rest.clear();
            self.rest.extend_from_slice(&scratch[done..kept + read]);
            // A short read has emptied the socket: what comes later is a new edge (epoll(7)), but for an end that
            // came with it.
            if read < asked && !is_ending {
                return Ok(());
            }
        }
    }

    fn take(
        &mut self,
        target: Target,
        bytes: &[u8],
        received: &mut Received,
        each: &mut impl FnMut(Stamp),
    ) -> io::Result<usize> {
        let mut next = self.next;
        let mut note = |payload: &[u8]| match Stamp::read(payload, target.payload) {
            Some(stamp) => {
                received.events += 1;
                received.out_of_order += u64::from(stamp.number != next);
                next = stamp.number + 1;
                each(stamp);
            }
            None => received.garbled += 1,
        };
        let done = match target.transport {
            Transport::Ws => ws::messages(bytes, &mut note),
            Transport::WsJson => ws::json_messages(bytes, &mut note),
            Transport::Sse => wire::blocks(bytes, &mut note),
            Transport::Longpoll | Transport::HttpPoll => self.take_pages(target, bytes, &mut note)?,
            Transport::Grpc => {
                let done = self.grpc.take(bytes, &self.topic, &mut note)?;
                self.stream.write_all(&self.grpc.replies())?;
                done
            }
        };
        self.next = next;
        Ok(done)
    }

    /// Takes pages and asks on: a long poll always, a poll while there is more.
    fn take_pages(
        &mut self,
        target: Target,
        bytes: &[u8],
        each: &mut impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let Target { transport, server, .. } = target;
        let mut done = 0;
        while let Some(page) = page(&bytes[done..])? {
            wire::objects(page.body, each);
            if transport == Transport::Longpoll || page.has_more {
                let request = transport.request(server, &self.topic, From::After(page.cursor));
                self.stream.write_all(&request)?;
            }
            done += page.length;
        }
        Ok(done)
    }
}

/// Opens a connection for a handshake, which may not take longer than [`PATIENCE`].
pub(crate) fn connect(server: Address) -> io::Result<net::TcpStream> {
    let stream = net::TcpStream::connect(server.socket)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads the answer to a poll that does not wait: the place to poll from.
pub(crate) fn place(stream: &mut net::TcpStream) -> io::Result<String> {
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

/// Reads the head of the answer, which must begin with `status`, and no byte behind it.
fn accepted(stream: &mut net::TcpStream, status: &[u8]) -> io::Result<()> {
    let mut chunk = [0; 2048];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = stream.peek(&mut chunk)?;
        if let Some(end) = memmem::find(&chunk[..seen], b"\r\n\r\n") {
            stream.read_exact(&mut chunk[..end + 4])?;
            return chunk.starts_with(status).then_some(()).ok_or_else(|| refused(&chunk[..seen]));
        }
        if seen == 0 || seen == chunk.len() || Instant::now() > deadline {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads frames until the call has come to `stage`, and no byte behind them.
fn called(stream: &mut net::TcpStream, reader: &mut Reader, topic: &str, stage: Stage) -> io::Result<()> {
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
