//! Many connections, no events.

use std::{io, sync::Arc, thread, time::Duration};

use clap::Args;

use crate::{
    arguments,
    launch::{Needs, room_for},
    meter::Meter,
    process::Server,
    report::Run,
    shape::{Content, Shape},
    subscriber::{Received, Subscribers, Target},
    wire::{From, Transport},
};

/// How long the server may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Idle {
    /// How the subscribers are connected.
    #[arg(long, value_enum, default_value = "ws")]
    pub(crate) transport: Transport,
    /// How many they are.
    #[arg(long, default_value_t = 5000, value_parser = arguments::count)]
    connections: usize,
    /// Over how many topics.
    #[arg(long, default_value_t = 1000, value_parser = arguments::count)]
    topics: usize,
}

impl Idle {
    /// What all connections add to a server that never had one, by their number.
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let shape = Arc::new(Shape::new(Content::Text, 0));
        let target = Target::new(self.transport, server.address, shape);
        let memory = || server.memory_bytes().unwrap_or(f64::NAN);
        thread::sleep(SETTLE);
        let before = memory();
        let meter = Meter::start(server);
        let open = Subscribers::open(target, self.connections, self.topics, From::Now)?;
        let cost = meter.stop();
        thread::sleep(SETTLE);
        let after = memory();
        let faults = open.judged(Received::default(), 0)?;
        Ok(Run {
            figures: vec![
                ("bytes a connection", (after - before) / self.connections as f64),
                ("server bytes before", before),
                ("server CPU us a connect", cost.server_seconds / self.connections as f64 * 1e6),
            ],
            foreign_cores: cost.foreign_cores,
            faults,
        })
    }

    /// The flags that the server needs.
    pub(crate) fn needs(&self) -> Needs {
        room_for(self.connections)
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        format!("{} × {}", self.transport.name(), self.connections)
    }
}
