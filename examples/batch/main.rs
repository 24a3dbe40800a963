//! Pulls a topic into a file, a batch at a time, when it suits: each record once, in order, though the process is
//! killed at any moment, by `kill -9` or with its machine (if its disk has what it said that it has).
//!
//!     cargo run --release --example hub
//!     cargo run --release --example batch -- http://127.0.0.1:8080 --topic 'orders.>' --output orders.ndjson
//!
//! and in a third terminal, as often as you like:
//!
//!     curl -d '{"item":"tea"}' -H 'Content-Type: application/json' http://127.0.0.1:8080/topics/orders.shop
//!
//! Kill the batch, publish on, start it again: it goes on where the file ends. What it has stands in
//! `orders.ndjson.checkpoint`, and what it was asked for; what the hub no longer had is told on stderr, and counted.
//! Only across a `reset` or `rewound` told there may records repeat: the hub has another history since. Other servers
//! do as well as the hub.

mod count;
mod disk;
mod output;
mod record;

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pushpull::{
    Backoff, Batch, Context, Delivery, ErrorKind, Fetch, Pattern, Pull, Retry, Start, StartAt, Topics,
    http_poll::HttpPollClient,
};
use pushpull_examples::{end, interval, stopped};
use tokio::time::sleep;

use count::Count;
use disk::System;
use output::{Checkpoint, Output};
use record::line;

#[derive(Debug, Parser)]
struct Flags {
    /// Server to pull from, as in http://127.0.0.1:8080.
    url: String,
    /// Topic or pattern to pull; repeatable.
    #[arg(long, required = true)]
    topic: Vec<Pattern>,
    /// File to append records to, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Most records of a batch, up to 1000.
    #[arg(long, value_name = "N", default_value = "100", value_parser = count::limit)]
    limit: usize,
    /// Time between two pulls when nothing more waits.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    every: Duration,
    /// Ends once nothing more waits, or at the first failure: for a timer of the system's.
    #[arg(long)]
    once: bool,
}

// One thread: writing to the disk may hold it up, since nothing is to be done meanwhile.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let source = HttpPollClient::new(&flags.url)?;
    let topics = Topics::new(flags.topic.iter().cloned())?;
    let mut output = Output::open(System, &flags.output, &topics)?;
    tokio::select! {
        // A commit waits for nothing, so that it is never cut in two here.
        () = stopped()? => {}
        ended = pull(&source, &topics, &flags, &mut output) => ended?,
    }
    let Checkpoint { records, gaps, .. } = output.committed();
    let (records, gaps) = (Count(*records, "record"), Count(*gaps, "gap"));
    writeln!(io::stdout(), "{} holds {records}; {gaps}", flags.output.display())?;
    Ok(())
}

async fn pull(
    source: &HttpPollClient,
    topics: &Topics,
    flags: &Flags,
    output: &mut Output<System>,
) -> Result<(), Box<dyn Error>> {
    let mut backoff = Backoff::default();
    loop {
        let place = output.committed().cursor;
        let start = place.map_or(Start::Earliest.into(), StartAt::After);
        let request = Fetch::new(topics.clone()).from(start).with_limit(flags.limit);
        match source.fetch(&Context::default(), request).await {
            Ok(batch) => {
                backoff.reset();
                take(&batch, output)?;
                match batch.more && batch.place != place {
                    true => {}
                    false if flags.once => return Ok(()),
                    false => sleep(flags.every).await,
                }
            }
            // What answers against the protocol is no server of ours.
            Err(error) if flags.once || !error.is_retryable() || error.kind() == ErrorKind::Protocol => {
                return Err(format!("{}: {error}", flags.url).into());
            }
            Err(error) => {
                let own = backoff.next_delay();
                let delay = if let Retry::After(hint) = error.retry() { hint.max(own) } else { own };
                eprintln!("again in {delay:.1?}: {error}");
                sleep(delay).await;
            }
        }
    }
}

fn take(batch: &Batch, output: &mut Output<System>) -> Result<(), Box<dyn Error>> {
    let before = output.committed().clone();
    let cursor = batch.place.ok_or("the server told no place")?;
    if before.cursor == Some(cursor) && batch.deliveries.is_empty() {
        return Ok(());
    }
    let mut next = before.clone();
    next.cursor = Some(cursor);
    let mut lines = Vec::new();
    for delivery in &batch.deliveries {
        match delivery {
            Delivery::Event(event) => {
                lines.extend(line(event)?);
                next.records += 1;
            }
            Delivery::Gap(gap) => {
                eprintln!("missed {gap}");
                next.gaps += 1;
            }
            _ => {}
        }
    }
    let (more, all) = (Count(next.records - before.records, "record"), next.records);
    output.commit(&lines, next)?;
    if more.0 > 0 {
        writeln!(io::stdout(), "{more} more, {all} in all, up to {cursor}")?;
    }
    Ok(())
}
