//! A history, and one subscriber who wants all of it.

use std::{
    io,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    http::Publisher,
    meter::Meter,
    process::Server,
    report::{Faults, Run},
    stamp::{LEAST, Stamp},
    subscriber::{Received, Subscribers, Target},
    wire::{From, Transport},
};

/// How long nothing may come before the rest is given up.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Catchup {
    /// How the subscriber is connected.
    #[arg(long, value_enum, default_value = "ws-json")]
    transport: Transport,
    /// How many messages were published before, at most 20000.
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Catchup {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let payload = self.payload.max(LEAST);
        let mut publisher = Publisher::connect(server.address)?;
        for number in 0..self.messages {
            publisher.publish(Stamp { number, sent: 0 }.payload(payload).as_bytes())?;
        }
        let meter = Meter::start(server);
        let origin = Instant::now();
        let target = Target { transport: self.transport, server: server.address, payload };
        let mut subscriber = Subscribers::open(target, 1, 1, From::Earliest)?;
        let (mut received, mut last_news) = (Received::default(), origin);
        while received.events < self.messages && last_news.elapsed() < SETTLE {
            subscriber.read(Duration::from_millis(20), &mut received, &mut |_, now| last_news = now)?;
        }
        let (seconds, cost) = (last_news.duration_since(origin).as_secs_f64(), meter.stop());
        let events = received.events as f64;
        Ok(Run {
            figures: vec![
                ("messages/s", events / seconds),
                ("server CPU s/M messages", cost.server_seconds / events * 1e6),
                ("milliseconds", seconds * 1e3),
                ("events a read", events / received.reads.max(1) as f64),
            ],
            foreign_cores: cost.foreign_cores,
            faults: Faults::of(&received, self.messages),
        })
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        format!("{} × {} messages", self.transport.name(), self.messages)
    }
}
