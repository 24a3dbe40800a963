//! A plant's sensors push, a poller pulls. A gateway a site posts every reading, keyed by its sensor, over a few kept
//! connections; the poller asks once a second for each sensor's newest reading, however many there were meanwhile.
//!
//!     cargo run --release --example iot          # a server, the gateways and a poller, in one
//!     curl 'http://127.0.0.1:8080/poll?topic=plant.*.temperature&start=snapshot'
//!
//! or apart, with any server:
//!
//!     cargo run --release --example hub
//!     cargo run --release --example iot -- gateway http://127.0.0.1:8080
//!     cargo run --release --example iot -- watch http://127.0.0.1:8080 --every 5
//!
//! Watch `received`: it stays at about the number of sensors a poll, whatever is published. With `--every 5` only `spared`
//! grows. A sensor falls silent now and then, for 20 readings out of 200, as if it had been unplugged: its gateway then removes
//! its key by an empty payload, and `silent` counts those whose last word was that.

mod gateway;
mod watch;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU16,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use pushpull::{Broker, Server};
use pushpull_examples::{address, at_least_one, end, interval, not_bound, stopped};
use serde::{Deserialize, Serialize};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Flags {
    #[command(subcommand)]
    role: Option<Role>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    #[command(flatten)]
    plant: Plant,
    #[command(flatten)]
    pace: Pace,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Pushes the readings of every site's sensors to a server.
    Gateway {
        /// URL of the server, as in http://127.0.0.1:8080.
        url: String,
        #[command(flatten)]
        plant: Plant,
    },
    /// Pulls each sensor's newest reading from a server.
    Watch {
        /// URL of the server, as in http://127.0.0.1:8080.
        url: String,
        #[command(flatten)]
        pace: Pace,
    },
}

#[derive(Debug, Args)]
struct Plant {
    /// How many sensors there are, in all sites together.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least_one::<NonZeroU16>)]
    sensors: NonZeroU16,
    /// Seconds between two readings of a sensor.
    #[arg(long, value_name = "SECONDS", default_value = "0.25", value_parser = interval)]
    period: Duration,
}

#[derive(Debug, Args)]
struct Pace {
    /// Seconds between two polls.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    every: Duration,
}

/// What a sensor says.
#[derive(Debug, Serialize, Deserialize)]
struct Reading {
    /// Counts what was published of this sensor, and what may have been, so that who did not get all of it knows how
    /// many he was spared.
    number: u64,
    celsius: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    end(run().await.map_err(|failure| failure as Box<dyn Error>))
}

async fn run() -> Result<(), Failure> {
    let Flags { role, listen, plant, pace } = Flags::parse();
    match role {
        None => all(listen, &plant, &pace).await,
        Some(Role::Gateway { url, plant }) => until(stopped()?, gateway::push(&url, &plant)).await,
        Some(Role::Watch { url, pace }) => until(stopped()?, watch::pull(&url, pace.every)).await,
    }
}

async fn until(
    signalled: impl Future<Output = ()>,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::select! {
        () = signalled => Ok(()),
        ended = work => ended,
    }
}

/// A server, who pushes to it, and who pulls from it: over sockets, as if they were far apart.
async fn all(listen: SocketAddr, plant: &Plant, pace: &Pace) -> Result<(), Failure> {
    let server = Server::new(Broker::memory())
        .with_drain(Duration::from_secs(5))
        .bind(listen)
        .await
        .map_err(not_bound(listen))?;
    let (url, signalled) = (server.url(), stopped()?);
    writeln!(io::stdout(), "listening on {url}")?;
    let mut worked = Ok(());
    let work = async {
        let both = async { tokio::try_join!(gateway::push(&url, plant), watch::pull(&url, pace.every)) };
        worked = until(signalled, async { both.await.map(drop) }).await;
    };
    server.serve_until(work).await;
    worked
}
