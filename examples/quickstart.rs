//! Publish and consume in one process.
//!
//!     cargo run --example quickstart
#![allow(clippy::print_stdout, reason = "the example shows what it got")]

use std::{error::Error, process::ExitCode};

use pushpull::{Broker, Delivery, Message, ProducerExt, PushExt, Start, Subscribe};
use pushpull_examples::end;

#[tokio::main]
async fn main() -> ExitCode {
    end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let broker = Broker::memory();
    for price in ["189.3", "189.4", "189.1"] {
        broker.publish_one(&"quotes.AAPL".parse()?, Message::text(price).with_key("AAPL")).await?;
    }

    let mut quotes = broker.consume(Subscribe::to("quotes.*")?.from(Start::Earliest)).await?;
    for _ in 0..4 {
        match quotes.next().await.ok_or("the subscription ended")?? {
            Delivery::Event(event) => println!("{} {:?}", event.topic(), event.payload()),
            Delivery::Gap(gap) => println!("missed {gap}"),
            _ => {}
        }
    }
    Ok(())
}
