//! A chat over one WebSocket a reader: a room is a topic, its history what the broker retains, and who was away goes
//! on from his cursor.
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

use axum::{Router, http::header, response::IntoResponse, routing::get};
use clap::Parser;
use pushpull::{Broker, Gate, Retention, Server};
use pushpull_examples::{address, end, not_bound, stopped};

/// A room's history.
const MESSAGES: usize = 200;
/// More than any message the page can send.
const PAYLOAD: usize = 16 * 1024;
/// What the page may load and talk to: this server alone.
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

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
        .with_fallback(page())
        .with_drain(Duration::from_secs(5))
        .bind(flags.listen)
        .await
        .map_err(not_bound(flags.listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    server.serve_until(signalled).await;
    Ok(())
}

fn page() -> Router {
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/style.css", get(|| file("text/css; charset=utf-8", include_str!("page/style.css"))))
        .route("/chat.js", get(|| file("text/javascript; charset=utf-8", include_str!("page/chat.js"))))
}

async fn file(content_type: &'static str, content: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content)
}
