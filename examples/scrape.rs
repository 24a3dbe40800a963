//! Pulls `/metrics` of the hub, or of anything, on an interval, and prints what changed.
//!
//!     cargo run --release --example scrape -- http://127.0.0.1:8080/metrics --every 2

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pushpull::http_poll::{Scrape, Scraped};
use pushpull_examples::{end, interval};

#[derive(Debug, Parser)]
struct Flags {
    /// URL to pull.
    url: String,
    /// Seconds between two pulls.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = interval)]
    every: Duration,
    /// How many pulls; goes on for ever if left out. Exits with 1 if the last of them failed.
    #[arg(long)]
    times: Option<u64>,
}

/// The lines of an exposition: a series and its value. Any other text is a line without a value.
type Lines = BTreeMap<String, String>;

#[tokio::main]
async fn main() -> ExitCode {
    end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let mut scrape = Scrape::new(&flags.url)?.every(flags.every);
    let mut known = Lines::new();
    let mut last = Ok(());
    for _ in 0..flags.times.unwrap_or(u64::MAX) {
        let scraped = scrape.next().await;
        last = Ok(());
        match scraped {
            Scraped::Changed(message) => {
                let lines = lines(&String::from_utf8_lossy(message.payload()));
                tell(&known, &lines)?;
                known = lines;
            }
            Scraped::Failed(problem) => {
                writeln!(io::stdout(), "down: {problem}")?;
                last = Err(format!("the last pull of {} failed: {problem}", flags.url));
            }
            _ => {}
        }
    }
    Ok(last?)
}

fn lines(text: &str) -> Lines {
    let told = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    told.map(|line| line.rsplit_once(' ').unwrap_or((line, "")))
        .map(|(series, value)| (series.to_owned(), value.to_owned()))
        .collect()
}

fn tell(before: &Lines, after: &Lines) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (series, value) in after {
        match before.get(series) {
            None => writeln!(out, "+ {series} {value}")?,
            Some(old) if old != value => writeln!(out, "  {series} {old} -> {value}")?,
            Some(_) => {}
        }
    }
    for series in before.keys().filter(|series| !after.contains_key(*series)) {
        writeln!(out, "- {series}")?;
    }
    Ok(())
}
