//! Many subscribers on one thread.

use std::{
    io::{self, Read, Write},
    net::{self, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::wire::{Transport, topic};

/// Connections that stand, read by one thread.
pub(crate) struct Subscribers {
    transport: Transport,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    pub(crate) reads: u64,
}

struct Connection {
    stream: TcpStream,
    rest: Vec<u8>,
    next: Option<u64>,
}

/// What was received so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) events: u64,
    pub(crate) out_of_order: u64,
    pub(crate) closed: u64,
}

impl Subscribers {
    /// Opens `count` subscriptions spread over `topics` topics, and waits until each stands.
    pub(crate) fn open(
        transport: Transport,
        server: SocketAddr,
        count: usize,
        topics: usize,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for n in 0..count {
            let mut stream = net::TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.write_all(transport.request(server, &topic(n, topics)).as_bytes())?;
            let rest =
                if transport == Transport::Longpoll { Vec::new() } else { accepted(&mut stream, transport)? };
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(n), Interest::READABLE)?;
            connections.push(Connection { stream, rest, next: None });
        }
        let scratch = vec![0; 1 << 18];
        Ok(Self { transport, poll, events: Events::with_capacity(1024), connections, scratch, reads: 0 })
    }

    /// Reads what comes within `wait`. `each` gets the time stamp of one event a read, in nanoseconds.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        received: &mut Received,
        each: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        self.poll.poll(&mut self.events, Some(wait))?;
        for event in &self.events {
            let connection = &mut self.connections[event.token().0];
            self.reads += connection.read(self.transport, &mut self.scratch, received, each)?;
        }
        Ok(())
    }
}

impl Connection {
    fn read(
        &mut self,
        transport: Transport,
        scratch: &mut [u8],
        received: &mut Received,
        each: &mut impl FnMut(u64),
    ) -> io::Result<u64> {
        let mut reads = 0;
        loop {
            let kept = self.rest.len();
            scratch[..kept].copy_from_slice(&self.rest);
            let read = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => {
                    received.closed += 1;
                    return Ok(reads);
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(reads),
                Err(error) => return Err(error),
            };
            reads += 1;
            let mut stamp = None;
            let done = transport.events(&scratch[..kept + read], &mut |payload| {
                stamp = self.take(payload, received).or(stamp);
            });
            self.rest.clear();
            self.rest.extend_from_slice(&scratch[done..kept + read]);
            stamp.into_iter().for_each(&mut *each);
        }
    }

    fn take(&mut self, payload: &[u8], received: &mut Received) -> Option<u64> {
        let number = digits(payload.get(..20)?)?;
        received.events += 1;
        if self.next.is_some_and(|next| next != number) {
            received.out_of_order += 1;
        }
        self.next = Some(number + 1);
        digits(payload.get(20..40)?)
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads the head of the answer; what came behind it is kept.
fn accepted(stream: &mut net::TcpStream, transport: Transport) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 2048];
    let deadline = Instant::now() + Duration::from_secs(10);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    loop {
        let read = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            if bytes.starts_with(transport.accepted().as_bytes()) {
                return Ok(bytes.split_off(end + 4));
            }
            return Err(io::Error::other(String::from_utf8_lossy(&bytes).into_owned()));
        }
        if read == 0 || Instant::now() > deadline {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
