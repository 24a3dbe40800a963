//! Many subscribers on one thread.

use std::{
    io::{self, Read, Write},
    net::{self, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    http::TOPIC,
    stamp::Stamp,
    wire::{From, Transport, answer},
};

/// The longest answer that can be read at once.
const SCRATCH: usize = 1 << 20;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all connections have in common.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) server: SocketAddr,
    /// Bytes of a payload.
    pub(crate) payload: usize,
}

/// Connections that stand, read by one thread.
pub(crate) struct Subscribers {
    target: Target,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    topic: String,
    rest: Vec<u8>,
    next: u64,
}

/// What was received so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) events: u64,
    pub(crate) reads: u64,
    /// Events that did not follow the one before.
    pub(crate) out_of_order: u64,
    /// Payloads that were not what was sent.
    pub(crate) garbled: u64,
    /// Connections that the server closed.
    pub(crate) closed: u64,
}

impl Subscribers {
    /// Opens `count` subscriptions spread over `topics` topics, and waits until each stands.
    pub(crate) fn open(target: Target, count: usize, topics: usize, from: From<'_>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for n in 0..count {
            let topic = if topics == 1 { TOPIC.to_owned() } else { format!("{TOPIC}.{}", n % topics) };
            let mut connection = Connection::open(target, topic, from)?;
            poll.registry().register(&mut connection.stream, Token(n), Interest::READABLE)?;
            connections.push(connection);
        }
        let events = Events::with_capacity(1024);
        Ok(Self { target, poll, events, connections, scratch: vec![0; SCRATCH] })
    }

    /// Reads what comes within `wait`. `each` gets the stamp of every event and when the read that brought it
    /// returned.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        received: &mut Received,
        each: &mut impl FnMut(Stamp, Instant),
    ) -> io::Result<()> {
        self.poll.poll(&mut self.events, Some(wait))?;
        for event in &self.events {
            let connection = &mut self.connections[event.token().0];
            let is_ending = event.is_read_closed();
            connection.read(self.target, is_ending, &mut self.scratch, received, each)?;
        }
        Ok(())
    }
}

impl Connection {
    fn open(target: Target, topic: String, from: From<'_>) -> io::Result<Self> {
        let Target { transport, server, .. } = target;
        let mut stream = net::TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(transport.request(server, &topic, from).as_bytes())?;
        match (transport, from) {
            (Transport::Longpoll, From::Now) => {
                let place = place(&mut stream)?;
                stream.write_all(transport.request(server, &topic, From::After(&place)).as_bytes())?;
            }
            (Transport::Longpoll, _) => {}
            _ => accepted(&mut stream, transport)?,
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream: TcpStream::from_std(stream), topic, rest: Vec::new(), next: 0 })
    }

    fn read(
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
        let mut done = 0;
        if target.transport == Transport::Longpoll {
            while let Some(answer) = answer(&bytes[done..])? {
                target.transport.events(answer.body, &mut note);
                let request = From::After(answer.cursor);
                let request = target.transport.request(target.server, &self.topic, request);
                self.stream.write_all(request.as_bytes())?;
                done += answer.length;
            }
        } else {
            done = target.transport.events(bytes, &mut note);
        }
        self.next = next;
        Ok(done)
    }
}

/// Reads the head of the answer and no byte behind it.
fn accepted(stream: &mut net::TcpStream, transport: Transport) -> io::Result<()> {
    let mut chunk = [0; 2048];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = stream.peek(&mut chunk)?;
        if let Some(end) = memchr::memmem::find(&chunk[..seen], b"\r\n\r\n") {
            stream.read_exact(&mut chunk[..end + 4])?;
            let is_accepted = chunk.starts_with(transport.accepted().as_bytes());
            let refused = || io::Error::other(String::from_utf8_lossy(&chunk[..seen]).into_owned());
            return is_accepted.then_some(()).ok_or_else(refused);
        }
        if seen == 0 || seen == chunk.len() || Instant::now() > deadline {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads the answer to a poll that does not wait: the place to poll from.
fn place(stream: &mut net::TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let read = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(answer) = answer(&bytes)? {
            return Ok(answer.cursor.to_owned());
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        thread,
    };

    use super::*;

    /// A server that answers one connection's requests by `answers` in turn and closes it. Returns the request lines.
    fn script(answers: Vec<String>) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let told = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let mut next =
                || lines.by_ref().take_while(|line| !line.is_empty()).collect::<Vec<_>>().remove(0);
            let mut asked = Vec::new();
            for answer in answers {
                asked.push(next());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (server, told)
    }

    fn read_all(target: Target, from: From<'_>) -> (Received, Vec<Stamp>) {
        let mut subscribers = Subscribers::open(target, 1, 1, from).unwrap();
        let (mut received, mut stamps) = (Received::default(), Vec::new());
        let deadline = Instant::now() + PATIENCE;
        while received.closed == 0 && Instant::now() < deadline {
            let mut each = |stamp, _| stamps.push(stamp);
            subscribers.read(Duration::from_millis(100), &mut received, &mut each).unwrap();
        }
        (received, stamps)
    }

    fn payload(number: u64) -> String {
        Stamp { number, sent: 5 }.payload(64)
    }

    #[test]
    fn a_stream_is_judged_event_by_event() {
        let block = |text: String| format!("id: a-1\ndata: {text}\n\n");
        let blocks = [payload(0), payload(1), payload(3), "short".to_owned()].map(block).concat();
        let (server, _) = script(vec![format!("HTTP/1.1 200 OK\r\n\r\n{blocks}")]);
        let target = Target { transport: Transport::Sse, server, payload: 64 };
        let (received, stamps) = read_all(target, From::Now);
        assert_eq!((received.events, received.out_of_order), (3, 1));
        assert_eq!((received.garbled, received.closed), (1, 1));
        assert_eq!(stamps, [0, 1, 3].map(|number| Stamp { number, sent: 5 }));
    }

    #[test]
    fn a_poll_goes_on_where_the_last_one_ended() {
        let page = |events: String, cursor: &str| {
            let body = format!("{{\"events\":[{events}],\"cursor\":\"{cursor}\",\"more\":false}}");
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let event = |number| format!("{{\"cursor\":\"a-1\",\"data\":\"{}\"}}", payload(number));
        let (server, asked) = script(vec![
            page(String::new(), "a-7"),
            page(format!("{},{}", event(0), event(1)), "a-9"),
            page(event(2), "a-10"),
        ]);
        let target = Target { transport: Transport::Longpoll, server, payload: 64 };
        let (received, stamps) = read_all(target, From::Now);
        assert_eq!((received.events, received.out_of_order, received.garbled), (3, 0, 0));
        assert_eq!(stamps.len(), 3);
        let asked = asked.join().unwrap();
        for (line, end) in asked.iter().zip(["&wait=0 ", "&after=a-7 ", "&after=a-9 "]) {
            assert!(line.contains(end), "{line} should have {end}");
        }
    }

    #[test]
    fn a_refused_subscription_is_an_error() {
        let (server, _) = script(vec!["HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned()]);
        let target = Target { transport: Transport::Ws, server, payload: 64 };
        assert!(Subscribers::open(target, 1, 1, From::Now).is_err());
    }
}
