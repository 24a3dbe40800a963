//! Webhooks and polling as one consumer: each event once and in order, though many webhooks do not get through. Needs
//! a hub that sends webhooks to this machine:
//!
//!     cargo run --release --example hub -- --webhooks --webhook-allow 127.0.0.1/32 --webhook-first-retry 0.2
//!     cargo run --release --example hybrid -- http://127.0.0.1:8080 --topic orders --drop 0.2
//!
//! and in a third terminal, with bash:
//!
//!     for n in {1..100}; do curl -d "order $n" http://127.0.0.1:8080/topics/orders; sleep .2; done
//!
//! Every line says whether a webhook pushed the event, as about four of five are here, or a poll pulled it; stderr tells which
//! webhooks did not get through. One that was lost had been acknowledged, so that nobody would miss it, but for the next
//! webhook, which names the place before it. One that was refused comes again, here after 0.2 s, and those behind it wait for
//! it, since they come in order; after a second without any (`--every`) a poll brings them. So with a first retry of 1 s or
//! later, polls bring most of what comes so quickly, though the webhooks work. Ctrl-C ends it, sums up, and removes the
//! endpoint from the hub, as does whatever else ends it but a `kill -9`: then `DELETE` the URL that the first line has told.

mod endpoint;
mod front;
mod pulled;

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use pushpull::{
    Delivery, Hybrid, Pattern, PushExt, Schedule, Subscribe, Subscription, Topics,
    http_poll::HttpPollClient,
    webhook::{Receiver, ReceiverConfig},
};
use pushpull_examples::{address, end, interval, not_bound, stopped};
use tokio::net::TcpListener;

use endpoint::Endpoint;
use pulled::Pulled;

#[derive(Debug, Parser)]
struct Flags {
    /// Hub that sends the webhooks and answers the polls.
    url: String,
    /// Topic or pattern; repeatable.
    #[arg(long, required = true)]
    topic: Vec<Pattern>,
    /// Address the webhooks come to; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = address)]
    listen: SocketAddr,
    /// The part of the webhooks that do not get through, 0 to 1: half of them refused, half of them lost.
    #[arg(long, value_name = "PART", default_value = "0", value_parser = part)]
    drop: f64,
    /// Time without a webhook after which it polls.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    every: Duration,
    /// Ends after so many events; goes on until it is stopped if left out.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
}

#[derive(Default)]
struct Count {
    pushed: u64,
    pulled: u64,
    gaps: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    end(run(&Flags::parse()).await)
}

async fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let topics = Topics::new(flags.topic.iter().cloned())?;
    let listener = TcpListener::bind(flags.listen).await.map_err(not_bound(flags.listen))?;
    let signalled = stopped()?;
    let hook = format!("http://{}/hook", listener.local_addr()?);
    let endpoint = Endpoint::register(&flags.url, &hook, &topics).await?;
    let ended = tell(flags, topics, listener, &hook, &endpoint, signalled).await;
    // Whatever ended it, a closed standard output too: what is left behind the hub would try for a day.
    match (ended, endpoint.remove().await) {
        (Err(ended), Err(left)) => Err(format!("{ended}; and {left}").into()),
        (ended, removed) => ended.and(removed),
    }
}

/// Tells what comes to `hook`, and sums up.
async fn tell(
    flags: &Flags,
    topics: Topics,
    listener: TcpListener,
    hook: &str,
    endpoint: &Endpoint,
    signalled: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let pulled = Arc::new(Pulled::new(HttpPollClient::new(&flags.url)?));
    let receiver = Receiver::new(endpoint.secret.clone(), ReceiverConfig::default());
    let front = axum::serve(listener, front::router(receiver.service(), flags.drop));
    let hybrid = Hybrid::new(Arc::new(receiver), pulled.clone()).with_schedule(Schedule::every(flags.every));
    // From the place the hub sends from: nothing falls between the two.
    let mut events = hybrid.consume(Subscribe::new(topics).from(endpoint.start)).await?;
    writeln!(io::stdout(), "listening on {hook} as {}", endpoint.url())?;

    let mut count = Count::default();
    let ended = tokio::select! {
        () = signalled => Ok(()),
        served = front.into_future() => served.map_err(Into::into),
        consumed = consume(&mut events, &pulled, flags.events, &mut count) => consumed,
    };
    let Count { pushed, pulled, gaps } = count;
    writeln!(io::stdout(), "{pushed} pushed, {pulled} pulled, {gaps} gaps")?;
    ended
}

async fn consume(
    events: &mut Subscription,
    pulled: &Pulled<HttpPollClient>,
    limit: Option<u64>,
    count: &mut Count,
) -> Result<(), Box<dyn Error>> {
    while limit.is_none_or(|limit| count.pushed + count.pulled < limit) {
        match events.next().await.ok_or("the subscription ended")?? {
            Delivery::Event(event) => {
                let way = match pulled.brought(event.cursor()) {
                    true => ("pulled", &mut count.pulled),
                    false => ("pushed", &mut count.pushed),
                };
                *way.1 += 1;
                let payload = String::from_utf8_lossy(event.payload());
                writeln!(io::stdout(), "{} {} {} {payload}", way.0, event.cursor(), event.topic())?;
            }
            Delivery::Gap(gap) => {
                count.gaps += 1;
                eprintln!("missed {gap}");
            }
            Delivery::Link(link) => eprintln!("{link}"),
            _ => {}
        }
    }
    Ok(())
}

fn part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..=1.0).contains(&part).then_some(part).ok_or_else(|| "not between 0 and 1".to_owned())
}
