//! How long, how many, how fast, and by which dice.

use std::{env, fmt, str::FromStr, time::Duration};

use crate::way::Way;

/// How a run is sized. Each can be set by the environment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How long faults come, at least: `PUSHPULL_FAULT_SECONDS`.
    pub(super) spell: Duration,
    /// `PUSHPULL_FAULT_CONSUMERS`; at least one a way.
    pub(super) consumers: usize,
    /// Messages a second: `PUSHPULL_FAULT_RATE`; at least 200.
    pub(super) rate: usize,
    /// What decides which faults come, when, and where: `PUSHPULL_FAULT_SEED`.
    pub(super) seed: u64,
}

impl Settings {
    /// What the gate runs.
    pub(super) fn short() -> Self {
        Self::sized(8, 40, 1000)
    }

    /// The whole of it.
    pub(super) fn full() -> Self {
        Self::sized(100, 200, 2000)
    }

    fn sized(seconds: u64, consumers: usize, rate: usize) -> Self {
        Self {
            spell: Duration::from_secs(from_environment("SECONDS").unwrap_or(seconds)),
            consumers: from_environment("CONSUMERS").unwrap_or(consumers).max(Way::ALL.len()),
            rate: from_environment("RATE").unwrap_or(rate).max(200),
            seed: from_environment("SEED").unwrap_or_else(|| fastrand::u64(..)),
        }
    }
}

/// # Panics
/// If it is there, but no such number.
fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let name = format!("PUSHPULL_FAULT_{name}");
    let value = env::var(&name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spell, consumers, rate, seed } = self;
        let seconds = spell.as_secs();
        write!(
            f,
            "{consumers} consumers, {rate} messages/s, {seconds} s of faults, PUSHPULL_FAULT_SEED={seed}"
        )
    }
}
