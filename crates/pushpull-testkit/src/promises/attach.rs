//! First word, heartbeats, and what happens while a consumer attaches.

use pushpull_core::{Delivery, Start};

use crate::{Failure, Harness, Trial};

/// The starting place is told at once, even for an idle topic; a resumed one is where it was asked for.
///
/// # Errors
/// What is wrong.
pub async fn first_word(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "word");
    let first = trial.publish("busy").await?;
    let newest = trial.publish_many(&["busy"], 2).await?;
    let mut idle = trial.reader("idle", trial.asking("idle")?).await?;
    let place = idle.first_word().await?;
    if place.seq() < newest.seq() {
        return Err(Failure::new(format!("it starts at {place}, before {newest}")));
    }
    let resumed = trial.asking("busy")?.from(first);
    let mut resumed = trial.reader("resumed", resumed).await?;
    let place = resumed.first_word().await?;
    if place != first {
        return Err(Failure::new(format!("it starts at {place}, though asked for {first}")));
    }
    let next = trial.publish("busy").await?;
    resumed.reach(next).await?;
    trial.keep(resumed);
    trial.keep_session(idle.into_session());
    trial.judge().await
}

/// The place of a quiet subscription moves with what others publish.
///
/// # Errors
/// What is wrong.
pub async fn heartbeat(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "beat");
    let mut quiet = trial.reader("quiet", trial.asking("quiet")?).await?;
    quiet.first_word().await?;
    let newest = trial.publish_many(&["busy"], 5).await?;
    quiet.reach(newest).await?;
    trial.publish("quiet").await?;
    quiet.take(1).await?;
    trial.keep(quiet);
    trial.judge().await
}

/// Who attaches while events are published misses none behind his starting place.
///
/// # Errors
/// What is wrong.
pub async fn race_free_attach(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "race");
    let publishing = trial.publish_many(&["a", "b"], 400);
    let attaching = async {
        let mut readers = Vec::new();
        for n in 0..24 {
            let request = match n % 3 {
                0 => trial.asking("a")?,
                1 => trial.asking(">")?,
                _ => trial.asking(">")?.from(Start::Earliest),
            };
            readers.push(trial.reader(&format!("reader {n}"), request).await?);
            for _ in 0..n % 4 {
                tokio::task::yield_now().await;
            }
        }
        Ok(readers)
    };
    let (published, readers) = tokio::join!(publishing, attaching);
    published?;
    let last = [trial.publish("b").await?, trial.publish("a").await?][1];
    let readers: Result<_, Failure> = readers;
    for mut reader in readers? {
        reader.reach(last).await?;
        trial.keep(reader);
    }
    trial.judge().await
}

async fn publish_keys(trial: &Trial<'_>, count: usize) -> Result<(), Failure> {
    for n in 0..count {
        let message = trial.message().with_key(format!("key {}", n % 7));
        trial.publish_message(if n % 3 == 0 { "b" } else { "a" }, message).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// A snapshot taken while keys change is one unit, and what follows it follows from its place.
///
/// # Errors
/// What is wrong.
pub async fn snapshot_is_a_unit(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "snap");
    publish_keys(&trial, 40).await?;
    let publishing = publish_keys(&trial, 150);
    let attaching = async {
        let mut readers = Vec::new();
        for n in 0..8 {
            let start = if n % 2 == 0 { Start::Snapshot } else { Start::Last };
            let request = trial.asking(">")?.from(start);
            readers.push(trial.reader(&format!("{} {n}", start.as_str()), request).await?);
            tokio::task::yield_now().await;
        }
        Ok::<_, Failure>(readers)
    };
    let (published, readers) = tokio::join!(publishing, attaching);
    published?;
    let last = trial.publish("a").await?;
    for mut reader in readers? {
        reader.reach(last).await?;
        trial.keep(reader);
    }
    trial.judge().await
}

/// A snapshot that breaks off is answered by a new one.
///
/// # Errors
/// What is wrong.
pub async fn snapshot_survives_cuts(harness: &dyn Harness) -> Result<(), Failure> {
    let trial = Trial::new(harness, "snapcut");
    publish_keys(&trial, 40).await?;
    let mut reader = trial.reader("cut", trial.asking(">")?.from(Start::Snapshot)).await?;
    harness.cut().await;
    publish_keys(&trial, 40).await?;
    loop {
        match reader.next().await? {
            Some(Delivery::Place(_)) => break,
            Some(_) => {}
            None => return Err(Failure::new("it ended within the snapshot")),
        }
    }
    harness.cut().await;
    let last = trial.publish("b").await?;
    reader.reach(last).await?;
    trial.keep(reader);
    trial.judge().await
}
