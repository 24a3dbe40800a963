//! A node of a distribution tree: one subscription upstream, any number of consumers here, by every transport.
//!
//!     cargo run --release --example relay -- --upstream http://127.0.0.1:8080 --listen 127.0.0.1:8081
//!     curl -N 'http://127.0.0.1:8081/sse?topic=quotes.>&start=earliest'

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pushpull::{Broker, Pattern, RelayEngine, Retention, Server, Topics, connect};
use pushpull_examples::{address, end, not_bound, stopped};

#[derive(Debug, Parser)]
struct Flags {
    /// Server to follow, as in http://127.0.0.1:8080; its scheme may pin a transport (ws, sse+http, grpc, ...).
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", value_parser = address)]
    listen: SocketAddr,
    /// Topics or patterns to carry, each by a flag of its own; all others are refused.
    #[arg(long, value_name = "PATTERN", default_value = ">", value_parser = pattern)]
    topics: Vec<Pattern>,
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| error.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
        .init();
    end(run(Flags::parse()).await)
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    if is_at(&flags.upstream, flags.listen).await {
        let loops = "is this relay itself: --upstream names the server to follow";
        return Err(format!("{} {loops}", flags.upstream).into());
    }
    let upstream = connect(&flags.upstream).await?;
    // Whether it is reached, lost or cut off is logged by the engine.
    tracing::info!("following {}", flags.upstream);
    let engine =
        RelayEngine::new(upstream.clone()).with_producer(upstream).with_topics(Topics::new(flags.topics)?);
    let broker = Broker::open(engine, Retention::default())
        .await
        .map_err(|problem| format!("{} cannot be followed: {problem}", flags.upstream))?;
    let server = Server::new(broker)
        .with_drain(Duration::from_secs(10))
        .bind(flags.listen)
        .await
        .map_err(not_bound(flags.listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    server.serve_until(signalled).await;
    Ok(())
}

/// Whether the server at `url` would be the one that listens on `here`. Loops over several nodes are not seen.
async fn is_at(url: &str, here: SocketAddr) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let Ok(mut found) = tokio::net::lookup_host(authority).await else { return false };
    let is_here = |ip: IpAddr| ip == here.ip() || (here.ip().is_unspecified() && ip.is_loopback());
    found.any(|there| there.port() == here.port() && is_here(there.ip()))
}
