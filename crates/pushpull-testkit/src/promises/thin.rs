//! Load under control: conflation and credit.

use std::{num::NonZeroU32, time::Duration};

use pushpull_core::Delivery;
use tokio::time::timeout;

use crate::{Failure, Harness, Trial};

/// How long nothing must come: 100 ms.
const SILENCE: Duration = Duration::from_millis(100);

/// Of what waits only the newest of each key comes, and every keyless event.
///
/// # Errors
/// What is wrong.
pub async fn conflation(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "thin");
    let start = trial.publish("a").await?;
    for n in 0..90 {
        let message = trial.message().with_key(format!("key {}", n % 3));
        trial.publish_message("a", message).await?;
    }
    let last = trial.publish("a").await?;
    let request = trial.asking("a")?.from(start).conflate_by_key();
    let mut reader = trial.reader("thinned", request).await?;
    reader.reach(last).await?;
    let events = reader.session().events();
    if events != 4 {
        return Err(Failure::new(format!("{events} events came of 3 keys and one without")));
    }
    trial.keep(reader);
    trial.judge().await
}

/// No more events come than were granted.
///
/// # Errors
/// What is wrong.
pub async fn credit(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "credit");
    let window = NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN);
    let mut reader = trial.reader("careful", trial.asking("a")?.with_window(window)).await?;
    reader.first_word().await?;
    let last = trial.publish_many(&["a"], 12).await?;
    reader.take(5).await?;
    let more = async {
        loop {
            match reader.next().await? {
                Some(Delivery::Event(event)) => return Ok::<_, Failure>(event),
                Some(_) => {}
                None => return Err(Failure::new("it ended")),
            }
        }
    };
    if let Ok(event) = timeout(SILENCE, more).await {
        return Err(Failure::new(format!("{} came without credit", event?.cursor())));
    }
    reader.subscription().grant(7);
    reader.take(7).await?;
    reader.reach(last).await?;
    trial.keep(reader);
    trial.judge().await
}
