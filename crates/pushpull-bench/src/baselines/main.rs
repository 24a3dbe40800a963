//! Live servers as a Rust developer writes them by hand today, for `pushpull-bench` to compare with.
//!
//! ```text
//! pushpull-baseline axum-ws --listen 127.0.0.1:0
//! ```
//!
//! All share the `hub` example's allocator, mimalloc, so that no ratio is an allocator's. Each but `mounted` and
//! `raw-writes` is a task a connection over a `tokio::sync::broadcast` of 1,024 messages a topic, on `#[tokio::main]`,
//! with the defaults of its libraries but for `TCP_NODELAY`. `POST /topics/{topic}` publishes and is answered with 201
//! at once. These have no history, cursors, resume, heartbeats, limits, authorization or checks of what is asked; who
//! falls more than 1,024 messages behind loses them in silence. `mounted` is pushpull's own service in axum, with the
//! hub's flags for what a figure needs; `raw-writes` is no server, but the machine's own limit.

mod axum_sse;
mod axum_ws;
mod fast_ws;
mod mounted;
mod raw_writes;
mod tls;
mod tonic_stream;
mod topics;

use std::{io, net::SocketAddr, path::PathBuf};

use axum::{
    Router,
    serve::{Listener as _, ListenerExt as _},
};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "A live server written by hand.")]
struct Cli {
    /// How events are told.
    #[command(subcommand)]
    kind: Kind,
    /// Where to listen; port 0 takes a free one, which is then told.
    #[arg(long, global = true, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File with the certificate chain (PEM), to speak TLS; `raw-writes` speaks none.
    #[arg(long, global = true, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with its private key (PEM).
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Kind {
    /// axum's WebSocket: tokio-tungstenite.
    AxumWs,
    /// fastwebsockets in axum.
    Fastwebsockets,
    /// axum's Server-Sent Events.
    AxumSse,
    /// tonic's server streaming.
    Tonic,
    /// pushpull, mounted into axum.
    Mounted(mounted::Limits),
    /// No server at all: frames written by one thread, the machine's own limit.
    RawWrites,
}

fn main() -> io::Result<()> {
    let Cli { kind, listen, tls_cert, tls_key } = Cli::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let app = match kind {
        Kind::AxumWs => axum_ws::app(),
        Kind::Fastwebsockets => fast_ws::app(),
        Kind::AxumSse => axum_sse::app(),
        Kind::Tonic => tonic_stream::app(),
        Kind::Mounted(limits) => mounted::app(&limits)?,
        Kind::RawWrites => return raw_writes::serve(listen),
    };
    run(app, listen, tls_cert.zip(tls_key))
}

#[tokio::main]
async fn run(app: Router, listen: SocketAddr, tls: Option<(PathBuf, PathBuf)>) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    match tls {
        Some((certificate, key)) => serve_tls(tls::Listener::over(listener, &certificate, &key)?, app).await,
        None => serve(listener, app).await,
    }
}

#[allow(clippy::print_stdout, reason = "whoever started it reads where it listens")]
async fn serve_tls(listener: tls::Listener, app: Router) -> io::Result<()> {
    println!("listening on https://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}

#[allow(clippy::print_stdout, reason = "whoever started it reads where it listens")]
async fn serve(listener: TcpListener, app: Router) -> io::Result<()> {
    println!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // A socket that is gone already is noticed when it is read.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
