//! A gateway a site: reads its sensors and posts what they say, over a few connections that are kept.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use pushpull::{Context, Message, Outcome, Producer, PublishError, Source, Topic, connect};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{Failure, Plant, Reading};

const SITES: u16 = 10;
/// Connections of a site. A lane has one request under way at most, so a slow server meets slower sensors, not a queue.
const LANES: u16 = 2;
/// A reading that could not be published for so long is no longer worth it: the next one is there.
const FRESH: Duration = Duration::from_secs(2);
/// Of so many rounds a sensor misses the first few: somebody tripped over its cable.
const ROUNDS: u32 = 200;
const SILENT: u32 = 20;

/// Pushes without end; returns only when a server refuses.
pub(crate) async fn push(url: &str, plant: &Plant) -> Result<(), Failure> {
    let mut lanes = JoinSet::new();
    let reached = Arc::new(AtomicBool::new(true));
    for lane in 0..SITES * LANES {
        let sensors = (lane..plant.sensors.get()).step_by(usize::from(SITES * LANES)).map(Sensor::new);
        let topic = format!("plant.site-{}.temperature", lane % SITES + 1).parse()?;
        let lane =
            Lane { source: connect(url).await?, topic, sensors: sensors.collect(), reached: reached.clone() };
        if !lane.sensors.is_empty() {
            lanes.spawn(lane.run(plant.period));
        }
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    Ok(())
}

/// One connection, and the sensors that take turns on it: each one's readings are published in their order.
struct Lane {
    source: Source,
    topic: Topic,
    sensors: Vec<Sensor>,
    /// Whether the server was there, the last time any of the lanes tried.
    reached: Arc<AtomicBool>,
}

impl Lane {
    async fn run(mut self, period: Duration) -> Result<(), Failure> {
        let turn = period / u32::try_from(self.sensors.len())?;
        let mut turns = interval(turn.max(Duration::from_nanos(1)));
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for n in 0..self.sensors.len() {
                turns.tick().await;
                self.publish(n).await?;
            }
        }
    }

    async fn publish(&mut self, n: usize) -> Result<(), Failure> {
        let Some(message) = self.sensors[n].says()? else { return Ok(()) };
        let cx = Context::default().with_deadline(Instant::now() + FRESH);
        match self.source.publish(&cx, &self.topic, std::slice::from_ref(&message)).await {
            Ok(_) => {
                self.sensors[n].said(&message);
                self.tell(None)?;
            }
            Err(error) if error.is_retryable() => {
                if error.outcome() == Outcome::Unknown {
                    self.sensors[n].may_have_said();
                }
                self.tell(Some(&error))?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Tells a change of the server, once for all lanes.
    fn tell(&self, failed: Option<&PublishError>) -> io::Result<()> {
        match (self.reached.swap(failed.is_none(), Relaxed), failed) {
            (true, Some(error)) => writeln!(io::stderr(), "{error}; trying on"),
            (false, None) => writeln!(io::stderr(), "the server is back"),
            _ => Ok(()),
        }
    }
}

struct Sensor {
    id: u32,
    round: u32,
    number: u64,
    /// Whether the server may have a reading of it, and would show it in a snapshot.
    shown: bool,
}

impl Sensor {
    fn new(id: u16) -> Self {
        Self { id: id.into(), round: 0, number: 1, shown: false }
    }

    /// Its reading; or, once it fell silent, an empty payload, which removes its key, until that was published.
    fn says(&mut self) -> Result<Option<Message>, Failure> {
        self.round = self.round.wrapping_add(1);
        let silent = self.round.wrapping_add(self.id * 7) % ROUNDS < SILENT;
        let message = match (silent, self.shown) {
            (true, false) => return Ok(None),
            (true, true) => Message::new(""),
            (false, _) => Message::json(&Reading { number: self.number, celsius: self.celsius() })?,
        };
        Ok(Some(message.with_key(format!("sensor-{:04}", self.id))))
    }

    fn said(&mut self, message: &Message) {
        self.number += 1;
        self.shown = !message.payload().is_empty();
    }

    /// No number twice: who reads two of the same would take the second for none.
    fn may_have_said(&mut self) {
        self.number += 1;
        self.shown = true;
    }

    fn celsius(&self) -> f64 {
        let wave = (f64::from(self.round) / 40.0 + f64::from(self.id)).sin();
        (200.0 + 80.0 * wave).round() / 10.0
    }
}
