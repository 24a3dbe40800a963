//! The worker of the pipeline: it answers jobs in their order, and its newest answer is its place.

use std::{
    error::Error,
    io::{self, Write},
    mem,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesOrdered};
use pushpull::{
    Cursor, Delivery, Event, Message, Prev, ProducerExt, PushExt, Source, Start, StartAt, Subscribe, connect,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::roles::{JOBS, RESULTS, next, tell};

/// What a worker publishes of a job. It names the job, so that the newest result is the worker's place: the broker
/// keeps answer and place in one step, and no death can come between them.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Done {
    job: Cursor,
    /// A number and its square; `None` if the job was no number that has one. It is answered all the same, or the
    /// place would never come past it.
    pub(crate) answer: Option<(u64, u64)>,
}

/// How many jobs are in flight, over all workers that have it, and how many ever were at once.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

/// A job in flight, until this is dropped.
struct InFlight<'a>(&'a Gauge);

impl Gauge {
    fn take(&self) -> InFlight<'_> {
        self.peak.fetch_max(self.now.fetch_add(1, Relaxed) + 1, Relaxed);
        InFlight(self)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

/// Works for ever: takes jobs, at most `window` at once, for `effort` each, and publishes their results in the order of
/// the jobs.
///
/// # Cancel safety
/// Dropping the future is a death: what is in flight ends where it stands, and the next worker begins with it.
pub(crate) async fn work(
    url: &str,
    window: NonZeroU32,
    effort: Duration,
    gauge: &Gauge,
) -> Result<(), Box<dyn Error>> {
    let broker = connect(url).await?;
    let place = place(&broker).await?;
    let start = place.map_or(Start::Earliest.into(), StartAt::After);
    let mut jobs = broker.consume(Subscribe::to(JOBS)?.from(start).with_window(window)).await?;
    let mut is_unproved = place.is_none();
    // Futures of this one, not tasks, which would go on without it.
    let mut in_flight = FuturesOrdered::new();
    loop {
        tokio::select! {
            // Nothing here holds back what comes: the credit does.
            job = next(&mut jobs) => {
                let job = job?;
                if mem::take(&mut is_unproved) {
                    tell_missed_before(&job);
                }
                in_flight.push_back(square(job, effort, gauge.take()));
            }
            Some((done, _in_flight)) = in_flight.next() => {
                answer(&broker, done, in_flight.len() + 1).await?;
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

/// Who begins with the earliest that is kept is told of no gap; whether it is the first of all is said by the job.
/// Those before it are gone for good, and stopping would only lose more.
fn tell_missed_before(job: &Event) {
    match job.prev() {
        Prev::First => {}
        Prev::At(last) => eprintln!("missed all jobs up to {last}: the broker keeps them no longer"),
        Prev::Unknown => {
            eprintln!("missed any jobs before {}: whether there were is not known", job.cursor())
        }
    }
}

async fn square<'a>(job: Event, effort: Duration, in_flight: InFlight<'a>) -> (Done, InFlight<'a>) {
    sleep(effort).await;
    let number = job.json::<u64>().ok();
    let answer = number.and_then(|number| Some((number, number.checked_mul(number)?)));
    (Done { job: job.cursor(), answer }, in_flight)
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
