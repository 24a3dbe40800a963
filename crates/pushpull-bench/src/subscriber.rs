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
            let mut connection = Connection::open(&target, topic(n, topics), numbers, from)?;
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

    /// Reads what comes within `wait`. `each` gets the stamp of every event and when the read that brought it
    /// returned, in nanoseconds.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        received: &mut Received,
        each: &mut impl FnMut(Stamp, u64),
    ) -> io::Result<()> {
        let wait = if self.behind.is_empty() { wait } else { Duration::ZERO };
        self.poll.poll(&mut self.events, Some(wait))?;
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

/// The topic of the `n`th of those that share `topics` of them.
pub(crate) fn topic(n: usize, topics: usize) -> String {
    if topics == 1 { TOPIC.to_owned() } else { format!("{TOPIC}.{}", n % topics) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net, thread,
    };

    use super::*;
    use crate::{shape::Content, stream::PATIENCE, wire::grpc::tests::answered};

    /// A server that answers one connection's requests by `answers` in turn and ends it. Returns all request lines.
    fn script(answers: Vec<String>) -> (Address, thread::JoinHandle<Vec<String>>) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().into();
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
            stream.shutdown(net::Shutdown::Write).unwrap();
            asked.extend(lines.filter(|line| line.starts_with("GET ")));
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

    fn target(transport: Transport, server: Address) -> Target {
        Target::new(transport, server, Arc::new(Shape::new(Content::Text, 64)))
    }

    fn payload(number: u64) -> String {
        Stamp { number, sent: 5 }.payload(64)
    }

    #[test]
    fn a_stream_is_judged_event_by_event() {
        let block = |text: String| format!("id: a-1\ndata: {text}\n\n");
        let blocks = [payload(0), payload(1), payload(3), "short".to_owned()].map(block).concat();
        let (server, _) = script(vec![format!("HTTP/1.1 200 OK\r\n\r\n{blocks}")]);
        let target = target(Transport::Sse, server);
        let (received, stamps) = read_all(target, From::Now);
        assert_eq!((received.events, received.out_of_order), (3, 1));
        assert_eq!((received.garbled, received.closed), (1, 1));
        assert_eq!(stamps, [0, 1, 3].map(|number| Stamp { number, sent: 5 }));
    }

    #[test]
    fn what_comes_behind_the_last_event_is_judged() {
        let block = |number| format!("id: a-1\ndata: {}\n\n", payload(number));
        let judged = |behind: String, ends: bool| {
            let (mut stream, mut subscribers) = one_stream(&block(0));
            let mut received = Received::default();
            subscribers.read(PATIENCE, &mut received, &mut |_, _| {}).unwrap();
            assert_eq!((received.events, received.closed), (1, 0));
            stream.write_all(behind.as_bytes()).unwrap();
            let open = (!ends).then_some(stream);
            let faults = subscribers.judged(received, 1).unwrap();
            drop(open);
            faults
        };
        assert!(judged(String::new(), false).is_none());
        let repeated = Received { events: 2, out_of_order: 1, ..Received::default() };
        assert_eq!(judged(block(0), false), Faults::of(&repeated, 1));
        let closed = Received { events: 1, closed: 1, ..Received::default() };
        assert_eq!(judged(String::new(), true), Faults::of(&closed, 1));
    }

    /// A stream of the server's that begins with `text`, and who reads it.
    fn one_stream(text: &str) -> (net::TcpStream, Subscribers) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = target(Transport::Sse, listener.local_addr().unwrap().into());
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{text}");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
            stream.write_all(answer.as_bytes()).unwrap();
            stream
        });
        let subscribers = Subscribers::open(target, 1, 1, From::Now).unwrap();
        (server.join().unwrap(), subscribers)
    }

    fn page(numbers: &[u64], cursor: &str, more: bool) -> String {
        let event = |number: &u64| format!("{{\"cursor\":\"a-1\",\"data\":\"{}\"}}", payload(*number));
        let events = numbers.iter().map(event).collect::<Vec<_>>().join(",");
        let body = format!("{{\"events\":[{events}],\"cursor\":\"{cursor}\",\"more\":{more}}}");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_poller_asks_while_there_is_more() {
        let (server, asked) = script(vec![page(&[0, 1], "a-9", true), page(&[2], "a-10", false)]);
        let target = target(Transport::HttpPoll, server);
        let (received, _) = read_all(target, From::Earliest);
        assert_eq!((received.events, received.out_of_order, received.garbled), (3, 0, 0));
        let asked = asked.join().unwrap();
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked[0].contains("&start=earliest ") && asked[1].contains("&after=a-9 "), "{asked:?}");
    }

    #[test]
    fn a_poll_goes_on_where_the_last_one_ended() {
        let pages = [page(&[], "a-7", false), page(&[0, 1], "a-9", false), page(&[2], "a-10", false)];
        let (server, asked) = script(pages.into());
        let target = target(Transport::Longpoll, server);
        let (received, stamps) = read_all(target, From::Now);
        assert_eq!((received.events, received.out_of_order, received.garbled), (3, 0, 0));
        assert_eq!(stamps.len(), 3);
        let asked = asked.join().unwrap();
        for (line, end) in asked.iter().zip(["&wait=0 ", "&after=a-7 ", "&after=a-9 "]) {
            assert!(line.contains(end), "{line} should have {end}");
        }
    }

    /// A server of one call that says `answer`, then nothing more. Returns all that it was sent.
    fn called(answer: Vec<u8>) -> (Address, thread::JoinHandle<Vec<u8>>) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().into();
        let told = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&answer).unwrap();
            stream.shutdown(net::Shutdown::Write).unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            asked
        });
        (server, told)
    }

    #[test]
    fn a_call_is_read_from_its_place_on() {
        let payloads = [0, 1, 3].map(payload);
        let payloads: Vec<&[u8]> = payloads.iter().map(String::as_bytes).chain([&b"short"[..]]).collect();
        let (server, told) = called(answered(TOPIC, &payloads));
        let target = target(Transport::Grpc, server);
        let (received, stamps) = read_all(target, From::Earliest);
        assert_eq!((received.events, received.out_of_order), (3, 1));
        assert_eq!((received.garbled, received.closed), (1, 1));
        assert_eq!(stamps.len(), 3);
        let acknowledged = b"\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\x01\0\0\0\0pingpong";
        assert!(told.join().unwrap().ends_with(acknowledged), "settings and ping");
    }

    #[test]
    fn an_event_before_anything_was_published_is_an_error() {
        let (server, _) = called(answered(TOPIC, &[payload(0).as_bytes()]));
        let target = target(Transport::Grpc, server);
        let error = Subscribers::open(target, 1, 1, From::Now).err().unwrap();
        assert!(error.to_string().contains("before anything was published"), "{error}");
    }

    #[test]
    fn a_call_that_is_not_accepted_is_an_error() {
        let settings = b"\0\0\0\x04\0\0\0\0\0";
        for end in [&b""[..], b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07", b"\0\0\0\0\0\0\0\0\x01"] {
            let (server, _) = called([settings, end].concat());
            let target = target(Transport::Grpc, server);
            assert!(Subscribers::open(target, 1, 1, From::Now).is_err(), "{end:?}");
        }
    }

    #[test]
    fn a_refused_subscription_is_an_error() {
        let (server, _) = script(vec!["HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned()]);
        let target = target(Transport::Ws, server);
        assert!(Subscribers::open(target, 1, 1, From::Now).is_err());
    }
    #[test]
    fn messages_to_another_topic_are_out_of_order() {
        let judged = |numbers: [[u64; 2]; 2]| {
            let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
            let server = listener.local_addr().unwrap().into();
            let answering = thread::spawn(move || {
                numbers.map(|numbers| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let blocks = numbers.map(|number| format!("data: {}\n\n", payload(number))).concat();
                    stream
                        .write_all(format!("HTTP/1.1 200 OK\r\n\r\nid: a-0\n\n{blocks}").as_bytes())
                        .unwrap();
                    stream
                })
            });
            let target = target(Transport::Sse, server);
            let mut subscribers = Subscribers::open(target, 2, 2, From::Now).unwrap();
            let (mut received, deadline) = (Received::default(), Instant::now() + PATIENCE);
            while received.events < 4 && Instant::now() < deadline {
                subscribers.read(Duration::from_millis(100), &mut received, &mut |_, _| {}).unwrap();
            }
            drop(answering.join().unwrap());
            (received.events, received.out_of_order)
        };
        assert_eq!(judged([[0, 2], [1, 3]]), (4, 0));
        assert_eq!(judged([[1, 3], [0, 2]]), (4, 2));
    }
}
