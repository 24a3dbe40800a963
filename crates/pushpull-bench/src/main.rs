//! A load generator for pushpull servers that checks what it measures: fan-out, many topics, bursts, reconnect storms,
//! catch-up, idle cost, polls, publishing, and cost against scale.
//!
//! It starts the `hub` example on one core and runs itself on another, so every figure is a core's:
//!
//! ```text
//! cargo build --release -p pushpull-examples --example hub
//! cargo build --release -p pushpull-bench
//! target/release/pushpull-bench fanout --transport ws --ahead 4
//! target/release/pushpull-bench scale --transport sse --chart scale.svg
//! target/release/pushpull-bench --help
//! ```
//!
//! The README of this crate shows each figure with its command.
//!
//! With `--compare` peers run in turns with it, and ratios are told: Nchan, and servers as one writes them by hand
//! (`pushpull-baseline`, of this crate):
//!
//! ```text
//! apt-get install --no-install-recommends nginx-light libnginx-mod-nchan
//! cargo run --release -p pushpull-bench -- fanout --transport ws --compare axum-ws,fastwebsockets,nchan
//! cargo run --release -p pushpull-bench -- catchup --transport sse --compare all
//! ```
//!
//! It fails if any event was missing, repeated, out of order or not as it was sent, any answer was another than was to be
//! had, or a connection was closed.

mod burst;
mod catchup;
mod chart;
mod compare;
mod dialect;
mod fanout;
mod folder;
mod http;
mod idle;
mod launch;
mod many;
mod meter;
mod outcome;
mod pipeline;
mod poll;
mod process;
mod publish;
mod report;
mod requests;
mod scale;
mod shape;
mod stamp;
mod storm;
mod stream;
mod subscriber;
mod tls;
mod wire;

use std::{io, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::report::Run;

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples, after `cargo build --release -p pushpull-examples --example hub` and the same of `-p pushpull-bench`:
  pushpull-bench fanout --transport ws                      one topic, 1,000 subscribers, as fast as acknowledged
  pushpull-bench fanout --transport sse --ahead 4           the same, the publisher at most 4 ahead of the mean
  pushpull-bench fanout --rate 50 --seconds 6               50 messages a second: nothing can be batched
  pushpull-bench fanout --content json --deflate            permessage-deflate; without --deflate: what it is compared with
  pushpull-bench many --transport ws                        1,000 topics with a subscriber each, 16 POSTs pipelined
  pushpull-bench burst --subscribers 15000                  one message to all, again and again
  pushpull-bench storm --transport sse --jitter 500         2,000 connections are cut and come back within 500 ms
  pushpull-bench scale --transport ws --chart scale.svg     100 to 15,000 subscribers, 1 and 2 workers, and a picture
  pushpull-bench catchup --history 1000000 --transport ws   the newest 10,000 of a long history
  pushpull-bench idle --connections 10000                   bytes of the server's memory a connection
  pushpull-bench poll --behind 10                           polls that are answered with 10 events
  pushpull-bench publish                                    POSTs that nobody listens to

A run is checked: the program fails if an event was missing, repeated, out of order or not as it was sent. With more
than `--quiet` foreign cores a run is made again; use `--runs 1 --quiet 99` for a quick look.";

#[derive(Parser)]
#[command(about, after_help = EXAMPLES)]
struct Cli {
    /// Runs of each figure, each with a fresh server; the median is told.
    #[arg(long, global = true, default_value_t = 3)]
    runs: usize,
    /// Foreign load, in cores, above which a run is made again. Of at most twice as many runs and one those with
    /// the least are kept.
    #[arg(long, global = true, default_value_t = 0.15)]
    quiet: f64,
    /// Seconds that are waited before a run for a machine that is as quiet as that.
    #[arg(long, global = true, default_value_t = 0)]
    patience: u64,
    /// The server's program, a peer by its name, or `host:port` of one that runs already (its cost is then not told).
    #[arg(long, global = true, default_value = "target/release/examples/hub")]
    server: String,
    /// Worker threads of the server, each on a core of its own while there are cores.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// Flags for the server, as in `--server-flags "--keep-alive 5"`; they stand above those that a figure sets.
    #[arg(long, global = true, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    server_flags: String,
    /// Speaks TLS 1.3 with the server, subscribers and publishers alike, by a certificate made for the run, which is
    /// all that is trusted. Every handshake is a whole one. The load generator's part costs as much as the server's:
    /// look at `generator cores`.
    #[arg(long, global = true)]
    tls: bool,
    /// Peers that run in turns with the server, in a comma-separated list: axum-ws, fastwebsockets, axum-sse, tonic,
    /// nchan, mounted (pushpull itself, in axum), raw-writes (no server: the machine's own limit); or all, which are
    /// those that can but for the last two. The ratios of medians are told.
    #[arg(long, global = true, value_delimiter = ',')]
    compare: Vec<String>,
    /// Prints JSON: medians and every run.
    #[arg(long, global = true)]
    json: bool,
    /// Prints a row of a Markdown table.
    #[arg(long, global = true, conflicts_with = "json")]
    table: bool,
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    /// One topic, many subscribers: deliveries a second and latency.
    Fanout(fanout::Fanout),
    /// Many topics, one subscriber each, and several POSTs under way: deliveries a second and latency.
    Many(many::Many),
    /// One message to very many connections, one by one: what a delivery costs, and how long all take to have it.
    Burst(burst::Burst),
    /// All connections are cut, and come back from their places while events go on: how long until all have caught up.
    Storm(storm::Storm),
    /// A fan-out at growing numbers of subscribers and workers: a table, and a picture of cost against scale.
    Scale(scale::Scale),
    /// Many connections and no events: bytes of the server's memory a connection.
    Idle(idle::Idle),
    /// A history and one new subscriber: how long he takes to have all of it.
    Catchup(catchup::Catchup),
    /// Polls over connections that are kept alive: answers a second.
    Poll(poll::Poll),
    /// POSTs over connections that are kept alive, and no subscriber: acknowledgements a second.
    Publish(publish::Publish),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pushpull-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "the figures are what this program is for")]
fn run(cli: &Cli) -> io::Result<()> {
    // A connection is an open file.
    rlimit::increase_nofile_limit(u64::MAX)?;
    process::pin_to_last_core();
    let launch = cli.launch()?;
    if !cli.compare.is_empty() {
        return compare(cli, &launch);
    }
    if let Work::Scale(scale) = &cli.work {
        return measure_scale(cli, &launch, scale);
    }
    let label = cli.work.label() + cli.over();
    let (runs, faulty) = measure(cli, &launch, &cli.work.needs(), |server| cli.work.run(server))?;
    match (cli.json, cli.table) {
        (true, _) => println!("{}", report::json(&label, &runs)),
        (_, true) => println!("{}", report::row(&label, &runs)),
        _ => print!("{}", report::lines(&runs)),
    }
    judge(&label, &faulty)
}

/// Makes runs, each with a fresh server, until enough were quiet. The quietest are returned, and the faults of all.
fn measure(
    cli: &Cli,
    launch: &launch::Launch,
    needs: &launch::Needs,
    run: impl Fn(&process::Server) -> io::Result<Run>,
) -> io::Result<(Vec<Run>, Vec<report::Faults>)> {
    let wanted = cli.runs.max(1);
    let mut runs: Vec<Run> = Vec::new();
    let is_enough = |runs: &[Run]| {
        let quiet = runs.iter().filter(|run| run.is_quiet(cli.quiet)).count();
        quiet >= wanted || runs.len() > 2 * wanted
    };
    while !is_enough(&runs) {
        meter::wait_for_quiet(cli.quiet, Duration::from_secs(cli.patience));
        runs.push(run(&process::Server::start(launch, needs)?)?);
    }
    let faulty = runs.iter().map(|run| run.faults).filter(|faults| !faults.is_none()).collect();
    Ok((report::quietest(runs, wanted), faulty))
}

#[allow(clippy::print_stdout, reason = "the figures are what this program is for")]
fn measure_scale(cli: &Cli, launch: &launch::Launch, scale: &scale::Scale) -> io::Result<()> {
    let mut all_faulty = Vec::new();
    let measured = scale.points(cli.over(), |fanout, workers| {
        let launch = launch::Launch { workers, ..launch.clone() };
        let (runs, faulty) = measure(cli, &launch, &fanout.needs(), |server| scale::run(fanout, server))?;
        all_faulty.extend(faulty);
        if !cli.json && !cli.table {
            print!("{}{}, {workers} workers\n{}\n", fanout.label(), cli.over(), report::lines(&runs));
        }
        Ok(runs)
    })?;
    scale.draw(&measured)?;
    match (cli.json, cli.table) {
        (true, _) => println!("{}", measured.json()?),
        (_, true) => print!("{}", measured.table()),
        _ => {}
    }
    judge("scale", &all_faulty)
}

fn judge(label: &str, faulty: &[report::Faults]) -> io::Result<()> {
    if faulty.is_empty() { Ok(()) } else { Err(io::Error::other(format!("{label}: {faulty:?}"))) }
}

#[allow(clippy::print_stdout, reason = "the figures are what this program is for")]
fn compare(cli: &Cli, launch: &launch::Launch) -> io::Result<()> {
    let contest = compare::Contest {
        peers: &cli.compare,
        rounds: cli.runs.max(1),
        quiet: cli.quiet,
        patience: Duration::from_secs(cli.patience),
        over: if cli.tls { compare::Over::Tls } else { compare::Over::Tcp },
    };
    let contestants = contest.hold(cli.work.asks(), |peer| {
        let mut launch = launch.clone();
        launch.program = peer.map_or(launch.program, |peer| peer.name().to_owned());
        cli.work.run(&process::Server::start(&launch, &cli.work.needs())?)
    })?;
    let label = cli.work.label() + cli.over();
    match (cli.json, cli.table) {
        (true, _) => println!("{}", compare::json(&label, &contestants)),
        (_, true) => print!("{}", compare::markdown(&label, &contestants)),
        _ => print!("{}", compare::lines(&label, &contestants)),
    }
    Ok(())
}

impl Cli {
    /// How the server is started.
    fn launch(&self) -> io::Result<launch::Launch> {
        let flags = self.server_flags.split_whitespace().map(str::to_owned).collect();
        let tls = self.tls.then(tls::Identity::new).transpose()?;
        Ok(launch::Launch { program: self.server.clone(), workers: self.workers.into(), flags, tls })
    }

    /// What a label ends with.
    fn over(&self) -> &'static str {
        if self.tls { ", over TLS" } else { "" }
    }
}

impl Work {
    /// What is asked of a server, where peers can be asked for it.
    fn asks(&self) -> Option<compare::Asks> {
        match self {
            Self::Fanout(work) => Some(compare::Asks::Live(work.load.transport)),
            Self::Many(work) => Some(compare::Asks::Topics(work.transport)),
            Self::Burst(work) => Some(compare::Asks::Live(work.transport)),
            Self::Storm(_) | Self::Scale(_) => None,
            Self::Idle(work) => Some(compare::Asks::Live(work.transport)),
            Self::Catchup(work) => Some(compare::Asks::History(work.transport)),
            Self::Poll(work) => Some(compare::Asks::Polls(work.behind.unwrap_or(0))),
            Self::Publish(_) => Some(compare::Asks::Publishes),
        }
    }

    fn needs(&self) -> launch::Needs {
        match self {
            Self::Fanout(work) => work.needs(),
            Self::Many(work) => work.needs(),
            Self::Burst(work) => work.needs(),
            Self::Storm(work) => work.needs(),
            Self::Idle(work) => work.needs(),
            Self::Catchup(work) => work.needs(),
            Self::Poll(_) | Self::Publish(_) | Self::Scale(_) => Vec::new(),
        }
    }

    fn run(&self, server: &process::Server) -> io::Result<Run> {
        match self {
            Self::Fanout(work) => work.run(server),
            Self::Many(work) => work.run(server),
            Self::Burst(work) => work.run(server),
            Self::Storm(work) => work.run(server),
            Self::Idle(work) => work.run(server),
            Self::Catchup(work) => work.run(server),
            Self::Poll(work) => work.run(server),
            Self::Publish(work) => work.run(server),
            Self::Scale(_) => Err(io::Error::other("it has runs of its own")),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Fanout(work) => work.label(),
            Self::Many(work) => work.label(),
            Self::Burst(work) => work.label(),
            Self::Storm(work) => work.label(),
            Self::Idle(work) => work.label(),
            Self::Catchup(work) => work.label(),
            Self::Poll(work) => work.label(),
            Self::Publish(work) => work.label(),
            Self::Scale(_) => "scale".to_owned(),
        }
    }
}
