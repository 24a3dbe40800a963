//! A load generator for pushpull servers: fan-out and idle cost, checked for completeness and order.
//!
//! It starts the `hub` example on one core and runs itself on another, so every figure is a core's:
//!
//! ```text
//! cargo build --release --example hub
//! cargo run --release -p pushpull-bench -- fanout --transport ws
//! cargo run --release -p pushpull-bench -- idle --transport sse --connections 5000
//! ```

mod fanout;
mod http;
mod idle;
mod process;
mod subscriber;
mod wire;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about)]
struct Cli {
    /// Runs of each figure; the median is told.
    #[arg(long, global = true, default_value_t = 3)]
    runs: usize,
    /// The server's program, or `host:port` of one that runs already (its cost is then not told).
    #[arg(long, global = true, default_value = "target/release/examples/hub")]
    server: String,
    /// Prints JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    /// One topic, many subscribers: deliveries a second and latency.
    Fanout(fanout::Fanout),
    /// Many connections and no events: bytes of the server's memory a connection.
    Idle(idle::Idle),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pushpull-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "the figures are what this program is for")]
fn run(cli: &Cli) -> io::Result<()> {
    process::pin_to_last_core();
    let mut figures = Vec::new();
    for _ in 0..cli.runs.max(1) {
        let server = process::Server::start(&cli.server)?;
        figures.push(match &cli.work {
            Work::Fanout(work) => work.run(&server)?,
            Work::Idle(work) => work.run(&server)?,
        });
    }
    let median = median(&figures);
    if cli.json {
        println!("{}", serde_json::json!({ "median": median, "runs": figures }));
    } else {
        median.iter().for_each(|(name, value)| println!("{name:<32} {value:>16.2}"));
    }
    Ok(())
}

/// Named figures of one run, in the order in which they are told.
type Figures = Vec<(&'static str, f64)>;

fn median(runs: &[Figures]) -> Figures {
    let Some(first) = runs.first() else { return Figures::new() };
    let of = |at: usize| {
        let mut values: Vec<f64> = runs.iter().map(|run| run[at].1).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    first.iter().enumerate().map(|(at, (name, _))| (*name, of(at))).collect()
}
