//! One program, any transport: which one carries the events is decided by a Cargo feature alone.
//!
//!     cargo run -p pushpull-examples --example switch --no-default-features --features ws
//!     cargo run -p pushpull-examples --example switch --no-default-features --features sse
//!     cargo run -p pushpull-examples --example switch --no-default-features --features longpoll
//!     cargo run -p pushpull-examples --example switch --no-default-features --features http-poll
//!     cargo run -p pushpull-examples --example switch --no-default-features --features grpc-stream
//!
//! All print the same lines; the transport's name goes to stderr.
#![allow(clippy::print_stdout, reason = "what it prints is what is compared")]

use std::{error::Error, process::ExitCode};

use pushpull::{Broker, Delivery, Message, ProducerExt, PushExt, Server, Start, Subscribe, connect};
use pushpull_examples::end;

#[tokio::main]
async fn main() -> ExitCode {
    end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let server = Server::new(Broker::memory()).bind("127.0.0.1:0").await?;
    let url = server.url();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve_until(async { stopped.await.unwrap_or_default() }));

    consume(&url).await?;

    drop(stop);
    serving.await?;
    Ok(())
}

async fn consume(url: &str) -> Result<(), Box<dyn Error>> {
    let source = connect(url).await?;
    eprintln!("by {}", source.transport());
    for n in 1..=3 {
        source.publish_one(&"news.sport".parse()?, Message::text(format!("headline {n}"))).await?;
    }
    let mut news = source.consume(Subscribe::to("news.>")?.from(Start::Earliest)).await?;
    let mut seen = 0;
    while seen < 6 {
        match news.next().await.ok_or("the subscription ended")?? {
            Delivery::Event(event) => {
                seen += 1;
                println!("{} {}: {:?}", event.cursor().seq(), event.topic(), event.payload());
                if seen == 3 {
                    for n in 1..=3 {
                        let weather = Message::json(&n)?.with_name("degrees");
                        source.publish_one(&"news.weather".parse()?, weather).await?;
                    }
                }
            }
            Delivery::Gap(gap) => println!("missed {gap}"),
            _ => {}
        }
    }
    Ok(())
}
