//! Faults under load. Each scenario is bounded to well under a minute, and judged by the history checker.

mod cuts;
mod half_open;
mod isolation;
mod rolling;

use std::time::Duration;

use pushpull_testkit::{Failure, Trial};
use tokio::time::{MissedTickBehavior, interval};

/// The time between two bursts of a publisher.
const BEAT: Duration = Duration::from_millis(5);

/// Ticks at the pace of a publisher that makes up for what it missed.
fn beat() -> tokio::time::Interval {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    beat
}

/// Judges a trial, telling the seed that it was run with.
async fn judge(trial: &Trial<'_>, seed: u64) {
    let verdict: Result<(), Failure> = trial.judge().await;
    if let Err(failure) = verdict {
        panic!("with the seed {seed}: {failure}");
    }
}
