//! Follows a file, as `tail -F` does, and serves its lines by Server-Sent Events: a reader that was away comes back
//! with its last id and gets what it missed.
//!
//!     cargo run --release --example logtail -- /var/log/syslog
//!     curl -N 'http://127.0.0.1:8080/sse?topic=log&start=earliest'

mod tail;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pushpull::{Broker, Message, ProducerExt, Server, Topic};
use pushpull_examples::{address, end, not_bound, stopped};
use tokio::time::{MissedTickBehavior, interval};

use tail::Tail;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Parser)]
struct Flags {
    /// File to follow; it may come into being later, be truncated, or be rotated.
    file: PathBuf,
    /// Topic to publish its lines to.
    #[arg(long, default_value = "log")]
    topic: Topic,
    /// Begin with the lines that are there already.
    #[arg(long)]
    from_start: bool,
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
    let tail = Tail::open(&flags.file, flags.from_start).await.map_err(in_file(&flags.file))?;
    let server = Server::new(broker.clone())
        .with_drain(Duration::from_secs(5))
        .bind(flags.listen)
        .await
        .map_err(not_bound(flags.listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    writeln!(io::stdout(), "curl -N '{}/sse?topic={}&start=earliest'", server.url(), flags.topic)?;
    let mut followed = Ok(());
    let stopped = async {
        tokio::select! {
            () = signalled => {}
            ended = follow(tail, &flags, &broker) => followed = ended,
        }
    };
    server.serve_until(stopped).await;
    Ok(followed?)
}

/// Returns only when it fails.
async fn follow(mut tail: Tail, flags: &Flags, broker: &Broker) -> Result<(), String> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let lines = tail.look(&flags.file).await.map_err(in_file(&flags.file))?;
        for line in lines {
            broker.publish_one(&flags.topic, Message::text(line)).await.map_err(|error| error.to_string())?;
        }
    }
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot follow {}: {error}", path.display())
}
