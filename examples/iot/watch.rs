//! Asks for each sensor's newest reading, at its own pace.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Write},
    mem,
    time::Duration,
};

use pushpull::{
    Context, Delivery, Event, Fetch, FetchError, Pull, Start, Subscribe, http_poll::HttpPollClient,
};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Failure, Reading};

/// Pulls without end, and prints a line a poll; returns only when the server refuses.
pub(crate) async fn pull(url: &str, every: Duration) -> Result<(), Failure> {
    let server = HttpPollClient::new(url)?;
    let asked = Subscribe::to("plant.*.temperature")?.from(Start::Snapshot).conflate_by_key();
    let mut fetch = Fetch::like(&asked).with_limit(Fetch::MAX_LIMIT);
    let mut sensors = Sensors::default();
    let mut polls = interval(every);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        polls.tick().await;
        match poll(&server, &mut fetch, &mut sensors).await {
            Ok(()) => writeln!(io::stdout(), "{sensors}: {}", mem::take(&mut sensors.tally))?,
            Err(error) if error.is_retryable() => writeln!(io::stderr(), "{error}; asking again")?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes all there is. The first time that is a snapshot, each key's newest event; then what came behind it.
async fn poll(server: &impl Pull, fetch: &mut Fetch, sensors: &mut Sensors) -> Result<(), FetchError> {
    loop {
        let batch = server.fetch(&Context::default(), fetch.clone()).await?;
        for delivery in &batch.deliveries {
            match delivery {
                Delivery::Event(event) => sensors.take(event),
                Delivery::Gap(gap) => sensors.tally.gaps.push(gap.to_string()),
                _ => {}
            }
        }
        if let Some(place) = batch.place {
            *fetch = fetch.clone().from(place);
        }
        if !batch.more {
            return Ok(());
        }
    }
}

/// What is known of the plant, by sensor.
#[derive(Default)]
struct Sensors {
    known: HashMap<String, Sensor>,
    tally: Tally,
}

struct Sensor {
    number: u64,
    /// `None` while it is silent.
    celsius: Option<f64>,
}

/// What one poll brought.
#[derive(Default)]
struct Tally {
    published: u64,
    received: u64,
    gaps: Vec<String>,
}

impl Sensors {
    fn take(&mut self, event: &Event) {
        let Some(key) = event.key() else { return };
        let before = self.known.get(key).map(|sensor| sensor.number);
        let now = match event.json::<Reading>() {
            Ok(Reading { number, celsius }) => Sensor { number, celsius: Some(celsius) },
            // Its key was removed. What was published before that shows by the number of its next reading.
            Err(_) if event.payload().is_empty() => {
                Sensor { number: before.map_or(0, |number| number + 1), celsius: None }
            }
            Err(_) => return,
        };
        // A gateway that was restarted counts anew; and of what came before a snapshot nothing is said. What was
        // received was published in any case.
        let published = before.and_then(|before| now.number.checked_sub(before)).unwrap_or(1);
        self.tally.published += published.max(1);
        self.tally.received += 1;
        self.known.insert(key.to_owned(), now);
    }
}

impl fmt::Display for Sensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warm: Vec<f64> = self.known.values().filter_map(|sensor| sensor.celsius).collect();
        // Not `sum`, which is -0.0 of nothing.
        let mean = warm.iter().fold(0.0, |sum, celsius| sum + celsius) / warm.len().max(1) as f64;
        let silent = self.known.len() - warm.len();
        write!(f, "{} sensors, {silent} silent, {mean:.1} °C", self.known.len())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, received, gaps } = self;
        let spared = published.saturating_sub(*received);
        write!(f, "published {published}, received {received}, spared {spared}")?;
        gaps.iter().try_for_each(|gap| write!(f, "; missed {gap}"))
    }
}

#[cfg(test)]
mod tests {
    use pushpull::{EventParts, Message, Prev};

    use super::*;

    fn event(number: Option<u64>) -> Event {
        let message = number.map(|number| Message::json(&Reading { number, celsius: 20.0 }).unwrap());
        Event::new(EventParts {
            topic: "plant.site-1.temperature".parse().unwrap(),
            cursor: "k1-1".parse().unwrap(),
            prev: Prev::Unknown,
            time_ms: 0,
            message: message.unwrap_or_else(|| Message::new("")).with_key("sensor-0001"),
        })
    }

    #[test]
    fn what_was_received_was_published() {
        let mut sensors = Sensors::default();
        for (number, published) in
            [(Some(7), 1), (Some(7), 2), (Some(10), 5), (None, 6), (Some(15), 10), (Some(1), 11)]
        {
            sensors.take(&event(number));
            assert_eq!(sensors.tally.published, published, "{number:?}");
        }
        assert_eq!(
            format!("{sensors}: {}", sensors.tally),
            "1 sensors, 0 silent, 20.0 °C: published 11, received 6, spared 5"
        );
    }
}
