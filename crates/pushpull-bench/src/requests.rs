//! Requests as fast as they are answered, over connections that are kept alive.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::{
    dialect::Address,
    meter::{Cost, Meter},
    process::Server,
    report::{Faults, GENERATOR, Run},
    stream::{self, Stream, connect},
    subscriber::Received,
    tls::Protocol,
    wire::http::{answer, refused},
};

/// The longest answer that can be read at once.
const SCRATCH: usize = 4 << 20;
/// How long the last answers may take.
const SETTLE: Duration = Duration::from_secs(10);
/// The longest latency that is told as it is, in microseconds.
const LONGEST: u64 = 60_000_000;

/// What is asked, and what must be answered.
pub(crate) struct Requests {
    pub(crate) request: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) connections: usize,
    /// How long new requests are sent.
    pub(crate) time: Duration,
}

/// What came of them.
pub(crate) struct Answers {
    tally: Tally,
    seconds: f64,
    cost: Cost,
}

struct Tally {
    /// Answers stand in the place of events.
    received: Received,
    asked: u64,
    latency: Histogram<u64>,
}

struct Connection<S = Stream> {
    stream: S,
    rest: Vec<u8>,
    asked_at: Option<Instant>,
}

impl Requests {
    /// Keeps one request in flight on each connection until the time is over, then waits for the last answers.
    ///
    /// `is_right` judges the body of an answer, which a connection (by its number) got.
    ///
    /// # Errors
    ///
    /// An answer has another status, or was not asked for, or the server closed a connection.
    pub(crate) fn run(
        &self,
        server: &Server,
        is_right: &mut impl FnMut(usize, &[u8]) -> bool,
    ) -> io::Result<Answers> {
        let mut poll = Poll::new()?;
        let mut connections = self.open(server.address, &poll)?;
        let (mut events, mut scratch) = (Events::with_capacity(1024), vec![0; SCRATCH]);
        let latency = Histogram::new_with_bounds(1, LONGEST, 3).map_err(io::Error::other)?;
        let mut tally = Tally { received: Received::default(), asked: 0, latency };
        let (meter, origin) = (Meter::start(server), Instant::now());
        for connection in &mut connections {
            connection.ask(&self.request, &mut tally)?;
        }
        let (end, mut last) = (origin + self.time, origin);
        while tally.received.events < tally.asked && last.elapsed() < SETTLE {
            stream::wait(&mut poll, &mut events, Duration::from_millis(20))?;
            for event in &events {
                let number = event.token().0;
                let connection = &mut connections[number];
                let mut judge = |body: &[u8]| is_right(number, body);
                let came = connection.read(self.status, &mut scratch, &mut tally, &mut judge)?;
                last = came.unwrap_or(last);
                if came.is_some_and(|now| now < end) {
                    connection.ask(&self.request, &mut tally)?;
                }
            }
        }
        Ok(Answers { tally, seconds: last.duration_since(origin).as_secs_f64(), cost: meter.stop() })
    }

    fn open(&self, server: Address, poll: &Poll) -> io::Result<Vec<Connection>> {
        let open = |number| {
            let mut stream = connect(server, Protocol::Http1)?.into_nonblocking()?;
            poll.registry().register(stream.socket(), Token(number), Interest::READABLE)?;
            Ok(Connection { stream, rest: Vec::new(), asked_at: None })
        };
        (0..self.connections).map(open).collect()
    }
}

impl<S: Read + Write> Connection<S> {
    fn ask(&mut self, request: &[u8], tally: &mut Tally) -> io::Result<()> {
        self.asked_at = Some(Instant::now());
        tally.asked += 1;
        self.stream.write_all(request)
    }

    /// Reads what is there, and returns when the answer came, if it did.
    fn read(
        &mut self,
        status: u16,
        scratch: &mut [u8],
        tally: &mut Tally,
        is_right: &mut impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<Instant>> {
        loop {
            let kept = self.rest.len();
            scratch[..kept].copy_from_slice(&self.rest);
            let read = match self.stream.read(&mut scratch[kept..]) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            let now = Instant::now();
            tally.received.reads += 1;
            let bytes = &scratch[..kept + read];
            self.rest.clear();
            let Some(answer) = answer(bytes)? else {
                self.rest.extend_from_slice(bytes);
                continue;
            };
            let asked_at = self.asked_at.take().filter(|_| answer.length == bytes.len());
            let asked_at = asked_at.filter(|_| answer.status == status).ok_or_else(|| refused(bytes))?;
            tally.received.events += 1;
            tally.received.garbled += u64::from(!is_right(answer.body));
            tally.latency.saturating_record(now.duration_since(asked_at).as_micros() as u64);
            return Ok(Some(now));
        }
    }
}

impl Answers {
    /// How many came.
    pub(crate) fn number(&self) -> u64 {
        self.tally.received.events
    }

    /// As a run, in which `count` names the number of answers and `done` of the requests took effect.
    pub(crate) fn told(&self, count: &'static str, done: u64) -> Run {
        let Tally { received, asked, latency } = &self.tally;
        let answers = received.events as f64;
        let received = Received { events: done, ..*received };
        Run {
            figures: vec![
                ("requests/s", answers / self.seconds),
                ("server CPU s/M requests", self.cost.server_seconds / answers * 1e6),
                ("p50 us", latency.value_at_quantile(0.5) as f64),
                ("p99 us", latency.value_at_quantile(0.99) as f64),
                (count, answers),
                ("server cores", self.cost.server_seconds / self.seconds),
                (GENERATOR, self.cost.own_cores),
            ],
            foreign_cores: self.cost.foreign_cores,
            faults: Faults::of(&received, *asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A server of one connection that answers each request by `answers` in turn, in two writes, and closes it.
    fn script(answers: Vec<&'static str>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::at(listener.local_addr().unwrap().into());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut chunk = [0; 64];
            for answer in answers {
                if stream.read(&mut chunk).unwrap() == 0 {
                    return;
                }
                let (one, other) = answer.split_at(answer.len() / 2);
                stream.write_all(one.as_bytes()).unwrap();
                stream.write_all(other.as_bytes()).unwrap();
            }
        });
        server
    }

    fn run(time: Duration, answers: Vec<&'static str>) -> io::Result<Answers> {
        let requests = Requests { request: b"ask".to_vec(), status: 200, connections: 1, time };
        requests.run(&script(answers), &mut |number, body| (number, body) == (0, b"yes"))
    }

    const YES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes";
    const LONG: Duration = Duration::from_secs(60);

    /// A stream that brings a byte at a time.
    struct Slow(&'static [u8]);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let (first, rest) = self.0.split_first().ok_or(io::ErrorKind::WouldBlock)?;
            (into[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_in_many_parts_is_one() {
        let latency = Histogram::new_with_bounds(1, LONGEST, 3).unwrap();
        let mut tally = Tally { received: Received::default(), asked: 0, latency };
        let (part, rest) = YES.as_bytes().split_at(YES.len() - 1);
        let mut connection = Connection { stream: Slow(part), rest: Vec::new(), asked_at: None };
        connection.ask(b"ask", &mut tally).unwrap();
        let mut read = |connection: &mut Connection<Slow>| {
            let came = connection.read(200, &mut [0; 64], &mut tally, &mut |body| body == b"yes").unwrap();
            (came.is_some(), tally.received.events, tally.received.reads, tally.received.garbled)
        };
        assert_eq!(read(&mut connection), (false, 0, part.len() as u64, 0));
        connection.stream = Slow(rest);
        assert_eq!(read(&mut connection), (true, 1, YES.len() as u64, 0));
    }

    #[test]
    fn an_answer_is_counted_and_judged() {
        for (answer, garbled) in [(YES, 0), ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", 1)] {
            let Tally { received, asked, latency } = run(Duration::ZERO, vec![answer]).unwrap().tally;
            assert_eq!((asked, received.events, latency.len()), (1, 1, 1));
            assert_eq!((received.garbled, received.closed), (garbled, 0));
        }
    }

    #[test]
    fn the_next_is_asked_once_one_is_answered() {
        let error =
            run(LONG, vec![YES, YES, "HTTP/1.1 503 full\r\ncontent-length: 0\r\n\r\n"]).err().unwrap();
        assert!(error.to_string().contains("503 full"), "{error}");
    }

    #[test]
    fn another_status_an_answer_too_many_or_an_end_is_an_error() {
        for answer in [
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyesHTTP/1.1",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200",
        ] {
            assert!(run(Duration::ZERO, vec![answer]).is_err(), "{answer}");
        }
    }

    #[test]
    fn what_took_no_effect_is_a_fault() {
        let told = |done| run(Duration::ZERO, vec![YES]).unwrap().told("answers 200", done).faults.is_none();
        assert_eq!([told(0), told(1), told(2)], [false, true, false]);
    }
}
