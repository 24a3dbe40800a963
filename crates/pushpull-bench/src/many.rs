//! Many topics, one subscriber each.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{
    Args,
    builder::{EnumValueParser, TypedValueParser as _},
};

use crate::{
    arguments,
    launch::{Needs, room_for},
    meter::Meter,
    outcome::{Latency, Outcome},
    pipeline::Pipelined,
    process::Server,
    report::Run,
    shape::{Content, Shape},
    subscriber::{Received, Subscribers, Target, topic},
    wire::{From, Transport},
};

/// How long the last events may take to arrive.
const SETTLE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Many {
    /// How the subscribers are connected; not `http-poll`, by which nobody is told.
    #[arg(
        long,
        default_value = "ws",
        value_parser = EnumValueParser::<Transport>::new().try_map(Transport::telling)
    )]
    pub(crate) transport: Transport,
    /// How many topics, each with one subscriber, are published to in turn.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    topics: u32,
    /// How many POSTs are under way on the publisher's one connection.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    pipelined: u64,
    /// How long is published.
    #[arg(long, default_value_t = 6, value_parser = arguments::seconds)]
    seconds: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128, value_parser = arguments::payload)]
    payload: usize,
}

impl Many {
    /// Each subscriber must be told of every message to his topic, in order, and of no other's.
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let topics = self.topics as usize;
        let shape = Arc::new(Shape::new(Content::Text, self.payload));
        let target = Target::new(self.transport, server.address, shape.clone());
        let mut subscribers = Subscribers::open(target, topics, topics, From::Now)?;
        let mut publisher = Pipelined::connect(server.address, self.pipelined, &mut subscribers)?;
        let names: Vec<String> = (0..topics).map(|n| topic(n, topics)).collect();
        let name = |number| names[number as usize % topics].as_str();
        let (mut received, mut latency) = (Received::default(), Latency::new()?);
        let (meter, origin) = (Meter::start(server), Instant::now());
        subscribers.begin(origin);
        let (end, mut last_news) = (origin + Duration::from_secs(self.seconds), origin);
        publisher.fill(&shape, origin, name)?;
        loop {
            let before = received.events;
            subscribers.read(Duration::from_millis(20), &mut received, &mut |stamp, now| {
                latency.note(stamp, now);
            })?;
            let now = Instant::now();
            if received.events > before {
                last_news = now;
            }
            if subscribers.take_other() {
                publisher.read()?;
            }
            let (sent, answered) = publisher.progress();
            if now < end {
                publisher.fill(&shape, origin, name)?;
            } else if (answered == sent && received.events >= sent) || last_news.elapsed() > SETTLE {
                break;
            }
        }
        let (seconds, cost) = (last_news.duration_since(origin).as_secs_f64(), meter.stop());
        let (expected, _) = publisher.progress();
        let faults = subscribers.judged(received, expected)?;
        Ok(Outcome { received, faults, seconds, cost, latency }.told())
    }

    /// The flags that the server needs.
    pub(crate) fn needs(&self) -> Needs {
        room_for(self.topics as usize)
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        format!("{} × 1 × {} topics, {} pipelined", self.transport.name(), self.topics, self.pipelined)
    }
}
