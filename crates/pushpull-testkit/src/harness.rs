//! What is held to the promises.

use std::{env, fmt};

use async_trait::async_trait;
use pushpull_core::{
    Batch, Fetch, FetchError, Message, Problem, PublishError, Published, Subscribe, SubscribeError,
    Subscription, Topic,
};

use crate::history::Broken;

/// Names, separated by commas, whose tests must not be skipped.
const REQUIRE: &str = "PUSHPULL_REQUIRE";

/// A transport, or an engine, made ready to be tested: a source, and a way to it.
#[async_trait]
pub trait Harness: Send + Sync {
    /// What tests call it.
    fn name(&self) -> &str;

    /// What it can show.
    fn capabilities(&self) -> Capabilities;

    /// How many events of a topic the source retains. Some promises publish twice as many.
    fn retains(&self) -> usize;

    /// Publishes, by the way under test if it can.
    ///
    /// # Errors
    /// As [`Producer::publish`](pushpull_core::Producer::publish).
    async fn publish(&self, topic: &Topic, messages: &[Message]) -> Result<Published, PublishError>;

    /// Consumes by the way under test.
    ///
    /// # Errors
    /// As [`Push::subscribe`](pushpull_core::Push::subscribe).
    async fn consume(&self, request: Subscribe) -> Result<Subscription, SubscribeError>;

    /// Reads the source itself, past the way under test.
    ///
    /// # Errors
    /// As [`Pull::fetch`](pushpull_core::Pull::fetch).
    async fn read(&self, request: Fetch) -> Result<Batch, FetchError>;

    /// Cuts every connection of the way under test, without a word. Does nothing if there is none.
    async fn cut(&self);
}

/// What not every transport can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Its connections can be cut.
    Cut,
    /// It publishes by the way under test, with idempotency ids.
    Publish,
    /// It tells the place of a quiet subscription from time to time, at most a second apart.
    Heartbeat,
    /// It tells what `overflow=latest` skips. Polls have no such policy.
    OverflowLatest,
    /// What waits is limited by credit.
    Credit,
    /// The source keeps each key's newest event.
    Snapshot,
}

/// A set of [`Capability`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u32);

/// Why a promise is not kept.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// What was recorded breaks promises.
    #[error("{0}")]
    History(#[from] Broken),
    /// An operation failed.
    #[error("{0}")]
    Operation(#[from] Problem),
    /// Something else was expected.
    #[error("{0}")]
    Unexpected(String),
}

/// What became of holding a harness to a promise.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    /// It keeps it.
    Kept,
    /// It cannot show it, and why.
    Skipped(String),
    /// It does not keep it.
    Failed(Failure),
}

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// The same, and `capability`.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u32)
    }

    /// Whether `capability` is among them.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }
}

impl Failure {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self::Unexpected(what.to_string())
    }
}

macro_rules! operation_failure {
    ($($error:ty)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Unexpected(error.to_string())
            }
        })*
    };
}

operation_failure!(PublishError SubscribeError FetchError pushpull_core::ConsumeError);

impl Verdict {
    /// Passes if the promise was kept. A skip is printed, and passes unless `PUSHPULL_REQUIRE` names one of
    /// `names`.
    ///
    /// # Panics
    /// If the promise was broken, or must not be skipped.
    #[track_caller]
    pub fn settle(self, names: &[&str]) {
        match self {
            Self::Kept => {}
            Self::Skipped(reason) => require_or_skip(names, &reason),
            Self::Failed(failure) => panic!("{}: {failure}", names.join("/")),
        }
    }
}

/// Prints that a test was skipped, and why.
///
/// # Panics
/// If the environment's `PUSHPULL_REQUIRE` (as in `redis,nats,chromium`) names one of `names`.
#[track_caller]
pub fn require_or_skip(names: &[&str], reason: &str) {
    let required = env::var(REQUIRE).unwrap_or_default();
    let name = names.join("/");
    assert!(!is_required(&required, names), "{name} is required, but would be skipped: {reason}");
    eprintln!("skipped: {name}: {reason}");
}

fn is_required(required: &str, names: &[&str]) -> bool {
    required.split(',').map(str::trim).any(|required| names.contains(&required))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_name_is_not_skipped() {
        assert!(is_required("redis, nats", &["nats", "order"]));
        assert!(is_required("order", &["nats", "order"]));
        assert!(!is_required("", &["nats", ""].map(|_| "nats")));
        assert!(!is_required("redis2", &["redis"]));
    }

    #[test]
    fn capabilities_are_a_set() {
        let some = Capabilities::NONE.with(Capability::Cut).with(Capability::Credit);
        assert!(some.has(Capability::Cut) && some.has(Capability::Credit));
        assert!(!some.has(Capability::Heartbeat) && !Capabilities::NONE.has(Capability::Cut));
    }
}
