//! Many connections, no events.

use std::{io, thread, time::Duration};

use clap::Args;

use crate::{Figures, process::Server, subscriber::Subscribers, wire::Transport};

/// How long the server may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Idle {
    /// How the subscribers are connected.
    #[arg(long, value_enum, default_value = "ws")]
    transport: Transport,
    /// How many they are.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// Over how many topics.
    #[arg(long, default_value_t = 1000)]
    topics: usize,
}

impl Idle {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Figures> {
        let warm = Subscribers::open(self.transport, server.address, 10, 1)?;
        thread::sleep(SETTLE);
        let before = server.memory_bytes().unwrap_or(f64::NAN);
        let open = Subscribers::open(self.transport, server.address, self.connections, self.topics)?;
        thread::sleep(SETTLE);
        let after = server.memory_bytes().unwrap_or(f64::NAN);
        drop((warm, open));
        Ok(vec![
            ("bytes a connection", (after - before) / self.connections as f64),
            ("server bytes before", before),
        ])
    }
}
