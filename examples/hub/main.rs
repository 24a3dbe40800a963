//! The standalone hub (wire contract, section 8): every transport over one broker on one port.
//!
//!     cargo run --release --example hub -- --listen 127.0.0.1:8080

mod flags;

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use pushpull::{
    Broker, Server,
    webhook::{WebhookService, Webhooks},
};
use pushpull_examples::{not_bound, stopped};

use flags::Flags;

/// Tens of thousands of connections are many small pieces: it holds them in an eighth less memory than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
        .init();
    pushpull_examples::end(start(&Flags::parse()))
}

fn start(flags: &Flags) -> Result<(), Box<dyn Error>> {
    use_small_pages();
    // One socket is one descriptor: take all that the system allows.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = flags.workers {
        runtime.worker_threads(workers.get());
    }
    runtime.enable_all().build()?.block_on(serve(flags))
}

/// Memory comes by pages of 4 KiB, also where the system gives huge ones to whoever does not ask: by those, which the
/// allocator would ask for, a connection by gRPC takes 41 KB in place of 25, for no CPU that could be measured.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("huge pages stay in use: {error}");
    }
}

async fn serve(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let broker = Broker::memory_with(flags.retention());
    let gate = flags.gate()?;
    let webhooks = flags.webhooks().map(|config| Webhooks::new(Arc::new(broker.clone()), config));
    let mut server =
        Server::new(broker).with_gate(gate.clone()).with_listener(flags.listener()).with_drain(flags.drain);
    if let Some(webhooks) = &webhooks {
        webhooks.resume().await?;
        server = server.with_webhooks(WebhookService::new(webhooks.clone(), gate));
    }
    if let Some(tls) = flags.tls()? {
        server = server.with_tls(tls);
    }
    let server = server.bind(flags.listen).await.map_err(not_bound(flags.listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    let stopped = async {
        signalled.await;
        tracing::info!("draining");
    };
    if !server.serve_until(stopped).await {
        tracing::warn!("some clients were cut off");
    }
    if let Some(webhooks) = webhooks {
        webhooks.stop().await;
    }
    Ok(())
}
