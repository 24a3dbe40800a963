//! A chat over one WebSocket a reader: a room is a topic, its history what the broker retains, and whoever was away goes on
//! from their cursor.
//!
//!     cargo run --release --example chat
//!     curl -d 'hello' -H 'content-type: text/plain' http://127.0.0.1:8080/topics/chat.lobby

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pushpull::{Broker, Gate, Retention, Server};
use pushpull_examples::{address, end, not_bound, page, stopped};

/// A room's history.
const MESSAGES: usize = 200;
/// More than any message the page can send.
const PAYLOAD: usize = 16 * 1024;
const PAGE: &[(&str, &str)] = &[
    ("/", include_str!("page/index.html")),
    ("/style.css", include_str!("page/style.css")),
    ("/chat.js", include_str!("page/chat.js")),
];

#[derive(Debug, Parser)]
struct Flags {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let broker = Broker::memory_with(Retention::default().with_messages(MESSAGES).with_payload(PAYLOAD));
    let server = Server::new(broker)
        .with_gate(Gate::builder().with_max_payload(PAYLOAD).build()?)
        .with_fallback(page(PAGE))
        .with_drain(Duration::from_secs(5))
        .bind(flags.listen)
        .await
        .map_err(not_bound(flags.listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    server.serve_until(signalled).await;
    Ok(())
}
