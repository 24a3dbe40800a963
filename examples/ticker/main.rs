//! A market of 200 symbols at 5,000 updates a second, and clients that take of it what they can use: each begins with a
//! snapshot, conflates by key, and says how often it wants to hear. What it was spared is counted for it.
//!
//!     cargo run --release --example ticker
//!     cargo run --release --example ticker -- watch http://127.0.0.1:8080 --rate 2
//!
//! Open http://127.0.0.1:8080 and move the slider: the market goes on at its own pace, the page gets the newest price of
//! each symbol at yours. Each `watch` has a rate of its own, too. It may also take grpc://127.0.0.1:8080; over Server-Sent
//! Events and polls it gets the same, but nothing there tells what it was spared, so it prints `spared unknown`.

mod market;
mod watch;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU32,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use pushpull::{Broker, Gate, Rate, Retention, Server};
use pushpull_examples::{address, at_least_one, end, not_bound, page, stopped};

use market::Market;

/// The market's history: longer than the slowest client, at 0.1 flushes a second, lags behind.
const HISTORY: Duration = Duration::from_secs(25);
/// How often clients hear what they were spared.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const PAGE: &[(&str, &str)] = &[
    ("/", include_str!("page/index.html")),
    ("/style.css", include_str!("page/style.css")),
    ("/ticker.js", include_str!("page/ticker.js")),
    ("/board.js", include_str!("page/board.js")),
    ("/chart.js", include_str!("page/chart.js")),
];

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Flags {
    #[command(subcommand)]
    role: Option<Role>,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// Updates a second, of all symbols together.
    #[arg(long, value_name = "N", default_value = "5000", value_parser = at_least_one::<NonZeroU32>)]
    updates: NonZeroU32,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Prints once a second what came of the market, and what was spared.
    Watch {
        /// URL of the ticker, as in http://127.0.0.1:8080.
        url: String,
        /// Most times a second that anything is sent, 0.1 to 1000; as it comes if left out.
        #[arg(long, value_name = "RATE", value_parser = rate)]
        rate: Option<Rate>,
    },
}

fn rate(text: &str) -> Result<Rate, String> {
    let flushes = text.parse().ok().and_then(Rate::per_second);
    flushes.ok_or_else(|| "not a number from 0.1 to 1000".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    end(run().await.map_err(|failure| failure as Box<dyn Error>))
}

async fn run() -> Result<(), Failure> {
    let Flags { role, listen, updates } = Flags::parse();
    let Some(Role::Watch { url, rate }) = role else { return serve(listen, updates).await };
    let signalled = stopped()?;
    tokio::select! {
        () = signalled => Ok(()),
        ended = watch::watch(&url, rate) => ended,
    }
}

async fn serve(listen: SocketAddr, updates: NonZeroU32) -> Result<(), Failure> {
    let broker = Broker::memory_with(Retention::default().with_age(HISTORY));
    let market = Market::open(broker.clone()).await?;
    let server = Server::new(broker)
        .with_gate(Gate::builder().with_keep_alive(KEEP_ALIVE).build()?)
        .with_fallback(page(PAGE))
        .with_drain(Duration::from_secs(5))
        .bind(listen)
        .await
        .map_err(not_bound(listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    // A task of its own: publishing to memory never waits, and must not hold up who accepts connections.
    let mut trading = tokio::spawn(market.trade(updates));
    let mut traded = Ok(Ok(()));
    let stopped = async {
        tokio::select! {
            () = signalled => trading.abort(),
            ended = &mut trading => traded = ended,
        }
    };
    server.serve_until(stopped).await;
    traded?.map_err(|error| format!("the market closed: {error}").into())
}
