//! One message to very many connections, again and again, with silence between.

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
    http::TOPIC,
    launch::{Needs, room_for},
    meter::{Cost, Meter, TAIL},
    outcome::Latency,
    pipeline::Pipelined,
    process::Server,
    report::{Run, median},
    shape::{Content, Shape},
    subscriber::{Received, Subscribers, Target},
    wire::{From, Transport},
};

/// How long a message may take to reach all.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Burst {
    /// How the subscribers are connected; not `http-poll`, by which nobody is told.
    #[arg(
        long,
        default_value = "ws",
        value_parser = EnumValueParser::<Transport>::new().try_map(Transport::telling)
    )]
    pub(crate) transport: Transport,
    /// How many they are.
    #[arg(long, default_value_t = 15_000, value_parser = arguments::count)]
    subscribers: usize,
    /// How many messages are published, each when all have the one before.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Silence between two messages, in milliseconds, which counts for nothing.
    #[arg(long, default_value_t = 200)]
    pause: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128, value_parser = arguments::payload)]
    payload: usize,
}

/// What is read while messages go out.
struct Reading {
    subscribers: Subscribers,
    publisher: Pipelined,
    received: Received,
    latency: Latency,
}

impl Burst {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let shape = Arc::new(Shape::new(Content::Text, self.payload));
        let target = Target::new(self.transport, server.address, shape.clone());
        let mut subscribers = Subscribers::open(target, self.subscribers, 1, From::Now)?;
        let publisher = Pipelined::connect(server.address, 1, &mut subscribers)?;
        let (received, latency) = (Received::default(), Latency::new()?);
        let mut reading = Reading { subscribers, publisher, received, latency };
        let origin = Instant::now();
        reading.subscribers.begin(origin);
        let (mut seconds, mut costs) = (Vec::new(), Vec::new());
        for number in 1..=self.messages {
            reading.rest(Duration::from_millis(self.pause))?;
            let (meter, began) = (Meter::start(server), Instant::now());
            reading.publisher.fill(&shape, origin, |_| TOPIC)?;
            seconds.push(reading.read_to(number, number * self.subscribers as u64, began)?);
            reading.rest(TAIL)?;
            costs.push(meter.stop());
        }
        let Reading { subscribers, received, latency, .. } = reading;
        let faults = subscribers.judged(received, self.messages * self.subscribers as u64)?;
        let figures = self.figures(received.events as f64, &latency, &mut seconds, &costs);
        let foreign_cores = costs.iter().map(|cost| cost.foreign_cores).sum::<f64>() / costs.len() as f64;
        Ok(Run { figures, foreign_cores, faults })
    }

    fn figures(
        &self,
        events: f64,
        latency: &Latency,
        seconds: &mut [f64],
        costs: &[Cost],
    ) -> Vec<(&'static str, f64)> {
        let server_seconds: f64 = costs.iter().map(|cost| cost.server_seconds).sum();
        seconds.sort_by(f64::total_cmp);
        let (each, longest) = (median(seconds), seconds[seconds.len() - 1]);
        vec![
            ("server CPU s/M deliveries", server_seconds / events * 1e6),
            ("ms until all have it", each * 1e3),
            ("the longest, ms", longest * 1e3),
            ("deliveries/s meanwhile", self.subscribers as f64 / each),
            ("p50 us", latency.quantile(0.5)),
            ("p99 us", latency.quantile(0.99)),
        ]
    }

    /// The flags that the server needs.
    pub(crate) fn needs(&self) -> Needs {
        room_for(self.subscribers)
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        format!("{} × {}, {} messages one by one", self.transport.name(), self.subscribers, self.messages)
    }
}

impl Reading {
    /// Reads until so many POSTs are `answered` and so many `events` came, and returns how long that took since
    /// `began`.
    fn read_to(&mut self, answered: u64, events: u64, began: Instant) -> io::Result<f64> {
        let mut last = began;
        while self.received.events < events || self.publisher.progress().1 < answered {
            if began.elapsed() > PATIENCE {
                break;
            }
            let before = self.received.events;
            self.read(Duration::from_millis(20))?;
            if self.received.events > before {
                last = Instant::now();
            }
        }
        Ok(last.duration_since(began).as_secs_f64())
    }

    /// Reads whatever comes for so long.
    fn rest(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.read(left)?;
        }
    }

    fn read(&mut self, wait: Duration) -> io::Result<()> {
        let latency = &mut self.latency;
        self.subscribers.read(wait, &mut self.received, &mut |stamp, now| latency.note(stamp, now))?;
        if self.subscribers.take_other() { self.publisher.read() } else { Ok(()) }
    }
}
