//! One topic, many subscribers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    arguments,
    compare::Asks,
    http::Publisher,
    launch::{Needs, room_for},
    meter::Meter,
    outcome::{Latency, Outcome},
    process::Server,
    report::Run,
    shape::{Content, Shape},
    stamp::Stamp,
    subscriber::{Received, Subscribers, Target},
    wire::{From, Transport},
};
use clap::{
    Args,
    builder::{EnumValueParser, TypedValueParser as _},
};

/// How long the last events may take to arrive.
const SETTLE: Duration = Duration::from_secs(10);

#[derive(Args, Clone, Debug)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) load: Load,
    /// How many subscribers there are.
    #[arg(long, default_value_t = 1000, value_parser = arguments::count)]
    pub(crate) subscribers: usize,
}

/// What is published, and by what it is carried.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// How the subscribers are connected; not `http-poll`, by which nobody is told.
    #[arg(
        long,
        default_value = "ws",
        value_parser = EnumValueParser::<Transport>::new().try_map(Transport::telling)
    )]
    pub(crate) transport: Transport,
    /// How long is published.
    #[arg(long, default_value_t = 8, value_parser = arguments::some_seconds)]
    pub(crate) seconds: u64,
    /// How many messages are published at most, in that time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,
    /// Bytes of a payload, at least 40 [default: 128; of JSON 1024, at least 200].
    #[arg(long, value_parser = arguments::payload)]
    pub(crate) payload: Option<usize>,
    /// What a payload is.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) content: Content,
    /// Asks for deflated messages, on a raw WebSocket: each is inflated, or compared with one that was, and checked.
    #[arg(long)]
    pub(crate) deflate: bool,
    /// Messages a second; as fast as acknowledged if left out. Latency then counts from when a message was due, not
    /// from when the acknowledgement of the one before let it go: a server that stalls is charged for what waits.
    #[arg(long, value_parser = arguments::rate)]
    pub(crate) rate: Option<f64>,
    /// How many messages the publisher may be ahead of the mean subscriber, at least 1.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ahead: Option<u64>,
}

impl Fanout {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let subscribers = self.open(server)?;
        Ok(self.drive(server, subscribers)?.told())
    }

    /// Opens the subscriptions.
    pub(crate) fn open(&self, server: &Server) -> io::Result<Subscribers> {
        if self.load.deflate && self.load.transport != Transport::Ws {
            return Err(io::Error::other("only `--transport ws` is measured deflated"));
        }
        let mut target = Target::new(self.load.transport, server.address, Arc::new(self.load.shape()?));
        target.deflate = self.load.deflate;
        Subscribers::open(target, self.subscribers, 1, From::Now)
    }

    /// Publishes to them until the time is over, and waits for the last events.
    pub(crate) fn drive(&self, server: &Server, mut subscribers: Subscribers) -> io::Result<Outcome> {
        let publisher = Publisher::connect(server.address)?;
        let progress = Arc::new(AtomicU64::new(0));
        let meter = Meter::start(server);
        let origin = Instant::now();
        subscribers.begin(origin);
        let mut publisher = Some(self.load.publish(publisher, &progress, origin));
        let mut latency = Latency::new()?;
        let (mut received, mut published, mut last_news) = (Received::default(), None, origin);
        loop {
            let before = received.events;
            subscribers.read(Duration::from_millis(20), &mut received, &mut |stamp, now| {
                latency.note(stamp, now);
            })?;
            let mean = received.events / self.subscribers as u64;
            let is_further = progress.swap(mean, Ordering::AcqRel) != mean;
            if let Some(publisher) = publisher.as_ref().filter(|_| is_further) {
                publisher.thread().unpark();
            }
            if received.events > before {
                last_news = Instant::now();
            }
            if let Some(done) = publisher.take_if(|publisher| publisher.is_finished()) {
                published = Some(done.join().map_err(|_| io::Error::other("the publisher failed"))??);
            }
            let all = published.map(|published| published * self.subscribers as u64);
            if all.is_some_and(|all| received.events >= all || last_news.elapsed() > SETTLE) {
                break;
            }
        }
        if self.load.deflate && received.events > 0 && !subscribers.has_inflated() {
            return Err(io::Error::other("not one message came deflated, which `--deflate` asks for"));
        }
        let seconds = last_news.duration_since(origin).as_secs_f64();
        let expected = published.unwrap_or(0) * self.subscribers as u64;
        let cost = meter.stop();
        let faults = subscribers.judged(received, expected)?;
        Ok(Outcome { received, faults, seconds, cost, latency })
    }

    /// The flags that the server needs.
    pub(crate) fn needs(&self) -> Needs {
        room_for(self.subscribers)
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        format!("{} × {}{}", self.load.transport.name(), self.subscribers, self.load.arguments())
    }
}

impl Load {
    /// What is asked of a server.
    pub(crate) fn asks(&self) -> Asks {
        if self.deflate { Asks::Deflated } else { Asks::Live(self.transport) }
    }

    /// What is measured, without the number of subscribers.
    pub(crate) fn label(&self) -> String {
        format!("{}{}", self.transport.name(), self.arguments())
    }

    fn arguments(&self) -> String {
        let ahead = self.ahead.map_or_else(String::new, |ahead| format!(", at most {ahead} ahead"));
        let rate = self.rate.map_or_else(String::new, |rate| format!(", {rate} msg/s"));
        let content = match self.content {
            Content::Text => String::new(),
            _ => format!(", JSON of {} bytes", self.length()),
        };
        let deflate = if self.deflate { ", deflated" } else { "" };
        format!("{ahead}{rate}{content}{deflate}")
    }

    fn shape(&self) -> io::Result<Shape> {
        Shape::fitting(self.content, self.length())
    }

    /// Bytes of a payload.
    fn length(&self) -> usize {
        self.payload.unwrap_or(if self.content == Content::Text { 128 } else { 1024 })
    }

    fn publish(
        &self,
        mut publisher: Publisher,
        progress: &Arc<AtomicU64>,
        origin: Instant,
    ) -> thread::JoinHandle<io::Result<u64>> {
        let (progress, shape) = (progress.clone(), Shape::new(self.content, self.length()));
        let (rate, ahead, most) = (self.rate, self.ahead, self.messages.unwrap_or(u64::MAX));
        let end = origin + Duration::from_secs(self.seconds);
        thread::spawn(move || {
            let mut number = 0;
            while number < most && Instant::now() < end {
                if ahead.is_some_and(|most| number >= progress.load(Ordering::Acquire) + most) {
                    thread::park_timeout(Duration::from_millis(20));
                    continue;
                }
                let sent = due(number, rate).unwrap_or_else(|| origin.elapsed());
                publisher.publish(&shape, Stamp { number, sent: sent.as_nanos() as u64 })?;
                number += 1;
                if let Some(next) = due(number, rate) {
                    thread::sleep(next.saturating_sub(origin.elapsed()));
                }
            }
            Ok(number)
        })
    }
}

/// When a message is to be published, where it has a time: no earlier, and by a server that keeps up no later.
fn due(number: u64, rate: Option<f64>) -> Option<Duration> {
    rate.map(|rate| Duration::from_secs_f64(number as f64 / rate))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read as _, Write as _},
        net::TcpListener,
    };

    use clap::Parser;

    use super::*;
    use crate::stamp::LEAST;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        load: Load,
    }

    /// What a server is sent by `flags`, each message of which is acknowledged.
    fn stamps(flags: &str) -> Vec<Stamp> {
        let load = Cli::parse_from(flags.split(' ')).load;
        let length = load.length();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let publisher = Publisher::connect(listener.local_addr().unwrap().into()).unwrap();
        let publishing = load.publish(publisher, &Arc::default(), Instant::now());
        let (mut stream, _) = listener.accept().unwrap();
        let mut requests = BufReader::new(stream.try_clone().unwrap());
        let mut stamps = Vec::new();
        loop {
            let head: Vec<String> =
                requests.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            if head.is_empty() {
                break;
            }
            let mut body = vec![0; length];
            requests.read_exact(&mut body).unwrap();
            stamps.extend(Stamp::of(body.first_chunk::<LEAST>().unwrap()));
            stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        assert_eq!(publishing.join().unwrap().unwrap(), stamps.len() as u64);
        stamps
    }

    #[test]
    fn latency_counts_from_when_a_message_was_due() {
        let due = |number| Stamp { number, sent: number * 500_000 };
        let told = stamps("fanout --rate 2000 --messages 4 --seconds 600");
        assert_eq!(told, [0, 1, 2, 3].map(due));
    }

    #[test]
    fn without_a_rate_latency_counts_from_the_post() {
        let told = stamps("fanout --messages 4 --seconds 600");
        assert!(told.is_sorted_by(|one, other| one.sent < other.sent), "{told:?}");
        assert_eq!(told.iter().map(|stamp| stamp.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
