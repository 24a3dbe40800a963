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
//! target/release/pushpull-bench fanout --transport ws --tls
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

mod arguments;
mod burst;
mod catchup;
mod chart;
mod cli;
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
mod said;
mod scale;
mod shape;
mod stamp;
mod storm;
mod stream;
mod subscriber;
mod tls;
mod wire;

use std::{io, process::ExitCode, time::Duration};

use clap::Parser as _;

use crate::{
    cli::{Cli, Work},
    report::Run,
};

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
    let label = format!("{}{}", cli.work.label(), cli.over());
    let (runs, faulty) = measure(cli, &launch, &cli.work.needs(), |server| cli.work.run(server))?;
    match (cli.json, cli.table) {
        (true, _) => println!("{}", report::json(&label, &runs)),
        (_, true) => println!("{}", report::row(&label, &runs)),
        _ => print!("{}", report::lines(&runs)),
    }
    tell_limit("", &runs);
    judge(&label, &faulty)
}

/// Says so where the load generator may have been what was measured.
fn tell_limit(of: &str, runs: &[Run]) {
    if let Some(cores) = report::busy_generator(runs) {
        eprintln!(
            "pushpull-bench: {of}the load generator had {cores:.2} of its one core: it may have been the limit"
        );
    }
}

/// Makes runs, each with a fresh server, until enough were quiet. The quietest are returned, and the faults of all.
fn measure(
    cli: &Cli,
    launch: &launch::Launch,
    needs: &launch::Needs,
    run: impl Fn(&process::Server) -> io::Result<Run>,
) -> io::Result<(Vec<Run>, Vec<report::Faults>)> {
    let wanted = cli.runs;
    let mut runs: Vec<Run> = Vec::new();
    let is_enough = |runs: &[Run]| {
        let quiet = runs.iter().filter(|run| run.is_quiet(cli.quiet)).count();
        quiet >= wanted || runs.len() > 2 * wanted
    };
    while !is_enough(&runs) {
        meter::wait_for_quiet(cli.quiet, Duration::from_secs(cli.patience));
        runs.push(on_new_server(launch, needs, &run)?);
    }
    let faulty = runs.iter().map(|run| run.faults).filter(|faults| !faults.is_none()).collect();
    Ok((report::quietest(runs, wanted), faulty))
}

/// One run with a fresh server, whose errors say where they are from.
fn on_new_server(
    launch: &launch::Launch,
    needs: &launch::Needs,
    run: impl Fn(&process::Server) -> io::Result<Run>,
) -> io::Result<Run> {
    let server = process::Server::start(launch, needs)?;
    run(&server).map_err(|error| stream::explained(error, server.address.socket))
}

#[allow(clippy::print_stdout, reason = "the figures are what this program is for")]
fn measure_scale(cli: &Cli, launch: &launch::Launch, scale: &scale::Scale) -> io::Result<()> {
    let mut all_faulty = Vec::new();
    let measured = scale.points(&cli.over().to_string(), |fanout, workers| {
        let launch = launch::Launch { workers, ..launch.clone() };
        let (runs, faulty) = measure(cli, &launch, &fanout.needs(), |server| scale::run(fanout, server))?;
        all_faulty.extend(faulty);
        tell_limit(&format!("{}, {}: ", fanout.label(), scale::worker_count(workers)), &runs);
        if !cli.json && !cli.table {
            let workers = scale::worker_count(workers);
            print!("{}{}, {workers}\n{}\n", fanout.label(), cli.over(), report::lines(&runs));
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
        rounds: cli.runs,
        quiet: cli.quiet,
        patience: Duration::from_secs(cli.patience),
        over: cli.over(),
    };
    let contestants = contest.hold(cli.work.compared(), |peer| {
        let mut launch = launch.clone();
        launch.program = peer.map_or(launch.program, |peer| peer.name().to_owned());
        on_new_server(&launch, &cli.work.needs(), |server| cli.work.run(server))
    })?;
    let label = format!("{}{}", cli.work.label(), cli.over());
    for contestant in &contestants {
        tell_limit(&format!("{}: ", contestant.name), &contestant.runs);
    }
    match (cli.json, cli.table) {
        (true, _) => println!("{}", compare::json(&label, &contestants)),
        (_, true) => print!("{}", compare::markdown(&label, &contestants)),
        _ => print!("{}", compare::lines(&label, &contestants)),
    }
    Ok(())
}
