//! The services of the pipeline. Each knows the broker's URL, and nothing of the others.

use std::{
    collections::VecDeque,
    error::Error,
    io::{self, Write},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use pushpull::{
    Context, Cursor, Delivery, Event, Link, Message, Producer, ProducerExt, PushExt, Source, Start, StartAt,
    Subscribe, Subscription, connect,
};
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

const JOBS: &str = "jobs";
const RESULTS: &str = "results";
/// How long the broker may take to accept a job, its absence included.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a worker publishes of a job. It names the job, so that the newest result is the worker's place: the broker
/// keeps answer and place in one step, and no death can come between them.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
struct Done {
    job: Cursor,
    /// A number and its square; `None` if the job was no number that has one. It is answered all the same, or the
    /// place would never come past it.
    answer: Option<(u64, u64)>,
}

/// Publishes the numbers from 1 to `items` as jobs, as fast as the broker takes them.
pub(crate) async fn produce(url: &str, items: u64) -> Result<(), Box<dyn Error>> {
    let (broker, jobs) = (connect(url).await?, JOBS.parse()?);
    for number in 1..=items {
        let cx = Context::default().with_deadline(Instant::now() + PATIENCE);
        let published = broker.publish(&cx, &jobs, &[Message::json(&number)?]).await;
        published.map_err(|error| format!("{url}: {error}"))?;
    }
    Ok(writeln!(io::stdout(), "{items} jobs are published")?)
}

/// Works for ever: takes jobs, at most `window` at once, for `effort` each, and publishes their results in the order of
/// the jobs. Raises `peak` to the most that were in flight.
pub(crate) async fn work(
    url: &str,
    window: NonZeroU32,
    effort: Duration,
    peak: &AtomicUsize,
) -> Result<(), Box<dyn Error>> {
    let broker = connect(url).await?;
    let start = place(&broker).await?.map_or(Start::Earliest.into(), StartAt::After);
    let mut jobs = broker.consume(Subscribe::to(JOBS)?.from(start).with_window(window)).await?;
    let mut in_flight: VecDeque<JoinHandle<Done>> = VecDeque::new();
    loop {
        tokio::select! {
            // Nothing here holds back what comes: the credit does.
            job = next(&mut jobs) => {
                in_flight.push_back(tokio::spawn(square(job?, effort)));
                peak.fetch_max(in_flight.len(), Relaxed);
            }
            done = async { (&mut in_flight[0]).await }, if !in_flight.is_empty() => {
                answer(&broker, done?, in_flight.len()).await?;
                in_flight.pop_front();
                jobs.grant(1);
            }
        }
    }
}

/// The job whose result is the newest, if there is any.
async fn place(broker: &Source) -> Result<Option<Cursor>, Box<dyn Error>> {
    let mut newest = broker.consume(Subscribe::to(RESULTS)?.from(Start::Last)).await?;
    let mut place = None;
    loop {
        match newest.next().await.ok_or("the broker ended the subscription")?? {
            Delivery::Event(event) => place = Some(event.json::<Done>()?.job),
            Delivery::Place(_) => return Ok(place),
            other => tell(&other),
        }
    }
}

async fn square(job: Event, effort: Duration) -> Done {
    sleep(effort).await;
    let number = job.json::<u64>().ok();
    let answer = number.and_then(|number| Some((number, number.checked_mul(number)?)));
    Done { job: job.cursor(), answer }
}

/// Who was killed before the broker's answer may have published it: the id makes the repeat one with it.
async fn answer(broker: &Source, done: Done, in_flight: usize) -> Result<(), Box<dyn Error>> {
    let message = Message::json(&done)?.with_idempotency(done.job.to_string());
    broker.publish_one(&RESULTS.parse()?, message).await?;
    match done.answer {
        Some((number, square)) => {
            writeln!(io::stdout(), "{number} squared is {square}; {in_flight} in flight")?
        }
        None => writeln!(io::stdout(), "{} is no job; {in_flight} in flight", done.job)?,
    }
    Ok(())
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

async fn next(events: &mut Subscription) -> Result<Event, Box<dyn Error>> {
    loop {
        match events.next().await.ok_or("the broker ended the subscription")?? {
            Delivery::Event(event) => return Ok(event),
            other => tell(&other),
        }
    }
}

fn tell(delivery: &Delivery) {
    match delivery {
        Delivery::Gap(gap) => eprintln!("missed {gap}"),
        Delivery::Link(link @ Link::Reconnecting { .. }) => eprintln!("{link}"),
        _ => {}
    }
}
