//! Two services and a broker, over gRPC with credit: a producer publishes jobs as fast as it can, a worker takes no
//! more at once than it has granted, publishes a result of each, and is killed now and then: no job is lost by
//! that, none is answered twice. All in one process, with its own check at the end:
//!
//!     cargo run --release --example pipeline
//!
//! or as services, each in a terminal:
//!
//!     cargo run --release --example pipeline -- broker
//!     cargo run --release --example pipeline -- work --window 4 --effort 0.2
//!     cargo run --release --example pipeline -- produce --items 1000
//!     cargo run --release --example pipeline -- results --items 1000
//!
//! That is work for 50 s. Kill the worker (`kill -9`, Ctrl-C) meanwhile and start it again: it goes on behind the last job it
//! has answered. Its lines never tell more jobs in flight than its window, however far ahead the producer is. The broker
//! keeps 10,000 of them: a worker that comes too late for some says on stderr that it has missed them, the first
//! worker of all too. There is one worker: several would share the work by a topic of jobs and one of results each. And there
//! is one `produce` for each broker: another is refused, since `results` counts from the first job on.

mod roles;
mod worker;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use pushpull::{Broker, Server};
use pushpull_examples::{address, at_least_one, end, not_bound, seconds, stopped};

use roles::{Results, produce};
use worker::{Gauge, work};

/// How often the worker begins, where all is in one process.
const LIVES: u64 = 4;

#[derive(Debug, Parser)]
struct Flags {
    /// Which service to be.
    #[arg(value_enum, default_value = "all")]
    role: Role,
    /// Address the broker listens on; port 0 picks a free one [default: 127.0.0.1:8080; all: 127.0.0.1:0].
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// The broker; any transport with credit does.
    #[arg(long, default_value = "grpc://127.0.0.1:8080")]
    url: String,
    /// How many jobs to publish, or results to wait for.
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least_one::<NonZeroU64>)]
    items: NonZeroU64,
    /// Most jobs that the worker has at once.
    #[arg(long, value_name = "N", default_value = "4", value_parser = at_least_one::<NonZeroU32>)]
    window: NonZeroU32,
    /// What a job costs the worker.
    #[arg(long, value_name = "SECONDS", default_value = "0.02", value_parser = seconds)]
    effort: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Everything below in one process, and a worker that is killed.
    All,
    /// Keeps jobs and results.
    Broker,
    /// Publishes jobs, then ends.
    Produce,
    /// Answers jobs until it is stopped.
    Work,
    /// Checks the results, then ends.
    Results,
}

#[tokio::main]
async fn main() -> ExitCode {
    end(run(&Flags::parse()).await)
}

async fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let (url, items, gauge) = (&*flags.url, flags.items.get(), Gauge::default());
    match flags.role {
        Role::All => all(flags).await,
        Role::Broker => broker(flags.listen.unwrap_or(([127, 0, 0, 1], 8080).into())).await,
        Role::Produce => produce(url, items).await,
        Role::Work => tokio::select! {
            () = stopped()? => Ok(()),
            ended = work(url, flags.window, flags.effort, &gauge) => ended,
        },
        Role::Results => {
            Results::open(url).await?.reach(items).await?;
            Ok(writeln!(io::stdout(), "{items} results, each once and in order")?)
        }
    }
}

async fn broker(listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    let server = Server::new(Broker::memory()).with_drain(Duration::from_secs(5));
    let server = server.bind(listen).await.map_err(not_bound(listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    server.serve_until(signalled).await;
    Ok(())
}

async fn all(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let listen = flags.listen.unwrap_or(([127, 0, 0, 1], 0).into());
    let server = Server::new(Broker::memory()).bind(listen).await.map_err(not_bound(listen))?;
    let url = server.url().replacen("http", "grpc", 1);
    let gauge = Gauge::default();
    tokio::select! {
        _ = server.serve_until(std::future::pending()) => {}
        done = async { tokio::try_join!(produce(&url, flags.items.get()), live(&url, flags, &gauge)) } => {
            done?;
        }
    }
    let (items, window, peak) = (flags.items, flags.window, gauge.peak());
    if peak > window.get() as usize {
        return Err(format!("{peak} jobs were in flight, though no more than {window} were granted").into());
    }
    writeln!(
        io::stdout(),
        "{items} jobs, {items} results, each once and in order, by a worker of {LIVES} lives; \
         at most {peak} in flight, {window} allowed"
    )?;
    Ok(())
}

/// A worker that is killed, with all it has in flight, whenever it has answered another part of the jobs.
async fn live(url: &str, flags: &Flags, gauge: &Gauge) -> Result<(), Box<dyn Error>> {
    let mut results = Results::open(url).await?;
    for life in 1..=LIVES {
        let part = flags.items.get() * life / LIVES;
        // What is not done is dropped where it stands, which is all that a death is to the others.
        tokio::select! {
            ended = work(url, flags.window, flags.effort, gauge) => ended?,
            reached = results.reach(part) => reached?,
        }
        writeln!(io::stdout(), "the worker is gone after {part} results")?;
    }
    Ok(())
}
