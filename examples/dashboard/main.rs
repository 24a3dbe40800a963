//! This machine, live: its CPU, memory, load, disks and network, published once and shown in a browser by five
//! transports side by side: the browser's own four, and gRPC by a Rust client that hands on what it gets. Cut one there
//! and see it go on from its cursor.
//!
//!     cargo run --release --example dashboard
//!     curl -N 'http://127.0.0.1:8080/sse?topic=host.*&start=snapshot'

mod grpc;
mod sample;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pushpull::{Backend, Broker, Context, Producer, Server};
use pushpull_examples::{address, end, not_bound, page, stopped};
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at},
};

use grpc::OverGrpc;
use sample::Sampler;

/// Time between two samples.
const PERIOD: Duration = Duration::from_millis(500);

const PAGE: &[(&str, &str)] = &[
    ("/", include_str!("page/index.html")),
    ("/style.css", include_str!("page/style.css")),
    ("/app.js", include_str!("page/app.js")),
    ("/panel.js", include_str!("page/panel.js")),
    ("/notes.js", include_str!("page/notes.js")),
    ("/proof.js", include_str!("page/proof.js")),
    ("/transports.js", include_str!("page/transports.js")),
    ("/chart.js", include_str!("page/chart.js")),
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
    let broker = Broker::memory();
    let grpc = OverGrpc::default();
    let (handed_on, drain) = pushpull::service(Backend::new().with_push(grpc.clone()));
    let server = Server::new(broker.clone())
        .with_fallback(page(PAGE).nest_service("/over-grpc", handed_on))
        .with_drain(Duration::from_secs(5))
        .bind(flags.listen)
        .await
        .map_err(not_bound(flags.listen))?;
    grpc.of(&server).await?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    let mut published = Ok(());
    let stopped = async {
        tokio::select! {
            () = signalled => {}
            ended = publish(&broker) => published = ended,
        }
        // What is mounted has an end of its own.
        drain.begin();
    };
    server.serve_until(stopped).await;
    published.map_err(|error| format!("no longer publishing: {error}").into())
}

/// Returns only when it fails.
async fn publish(broker: &Broker) -> Result<(), Box<dyn Error + Send + Sync>> {
    let cx = Context::default();
    let mut sampler = spawn_blocking(Sampler::new).await?;
    // Use and throughput are measured over time: the first sample is due when a period has passed.
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A network file system may keep the call waiting.
        let (sampled, samples) = spawn_blocking(move || {
            let samples = sampler.take();
            (sampler, samples)
        })
        .await?;
        sampler = sampled;
        for (topic, messages) in samples? {
            broker.publish(&cx, &topic, &messages).await?;
        }
    }
}
