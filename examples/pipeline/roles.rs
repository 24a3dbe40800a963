//! The services of the pipeline but its worker. Each knows the broker's URL, and nothing of the others.

use std::{
    error::Error,
    io::{self, Write},
    time::Duration,
};

use pushpull::{
    Context, Delivery, Event, Fetch, Link, Message, Producer, Pull, PushExt, Source, Start, Subscribe,
    Subscription, connect,
};
use tokio::time::Instant;

use crate::worker::Done;

pub(crate) const JOBS: &str = "jobs";
pub(crate) const RESULTS: &str = "results";
/// How long the broker may take to accept a job, its absence included.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes the numbers from 1 to `items` as jobs, as fast as the broker takes them.
///
/// # Errors
/// If there are jobs already, whose results would be taken for those of these; if the broker refuses one.
pub(crate) async fn produce(url: &str, items: u64) -> Result<(), Box<dyn Error>> {
    let (broker, jobs) = (connect(url).await?, JOBS.parse()?);
    if has_jobs(&broker).await? {
        return Err(format!("{url}: has jobs of an earlier run: start the broker anew").into());
    }
    for number in 1..=items {
        let cx = Context::default().with_deadline(Instant::now() + PATIENCE);
        let published = broker.publish(&cx, &jobs, &[Message::json(&number)?]).await;
        published.map_err(|error| format!("{url}: {error}"))?;
    }
    Ok(writeln!(io::stdout(), "{items} jobs are published")?)
}

async fn has_jobs(broker: &Source) -> Result<bool, Box<dyn Error>> {
    let cx = Context::default().with_deadline(Instant::now() + PATIENCE);
    match broker.fetch(&cx, Fetch::like(&Subscribe::to(JOBS)?.from(Start::Last))).await {
        Ok(newest) => Ok(newest.deliveries.iter().any(|delivery| matches!(delivery, Delivery::Event(_)))),
        // It keeps them in memory: one that is still to start has none.
        Err(error) if error.is_retryable() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The results from the first on, checked.
pub(crate) struct Results {
    events: Subscription,
    seen: u64,
}

impl Results {
    pub(crate) async fn open(url: &str) -> Result<Self, Box<dyn Error>> {
        let request = Subscribe::to(RESULTS)?.from(Start::Earliest);
        Ok(Self { events: connect(url).await?.consume(request).await?, seen: 0 })
    }

    /// Waits until there are `items` in all, each once and in order.
    pub(crate) async fn reach(&mut self, items: u64) -> Result<(), Box<dyn Error>> {
        while self.seen < items {
            let done: Done = next(&mut self.events).await?.json()?;
            let wanted = self.seen + 1;
            if done.answer.is_none_or(|(number, square)| number != wanted || square != wanted * wanted) {
                return Err(format!("the result of {wanted} was to come, not {done:?}").into());
            }
            self.seen = wanted;
        }
        Ok(())
    }
}

/// The next event; all else is told.
pub(crate) async fn next(events: &mut Subscription) -> Result<Event, Box<dyn Error>> {
    loop {
        match events.next().await.ok_or("the broker ended the subscription")?? {
            Delivery::Event(event) => return Ok(event),
            other => tell(&other),
        }
    }
}

pub(crate) fn tell(delivery: &Delivery) {
    match delivery {
        Delivery::Gap(gap) => eprintln!("missed {gap}"),
        Delivery::Link(link @ Link::Reconnecting { .. }) => eprintln!("{link}"),
        _ => {}
    }
}
