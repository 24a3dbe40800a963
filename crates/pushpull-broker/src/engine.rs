//! The engine door: what a broker stores and shares its sequence with.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use pushpull_core::{Epoch, Message, Problem, PublishError, Topic};

use crate::hub::{Hub, Ingested};

/// What a broker stores and shares its sequence with.
///
/// # Contract
/// Seqs are dense and rise. An engine hands every entry of its sequence to the [`Tail`] exactly once, in
/// order, and answers an append only when the tail has it. A new epoch starts whenever acknowledged events
/// may have been lost; in doubt it starts one.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// A word for people: `memory`, `disk`, ...
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Begins to feed `tail`: first the epochs, then every entry from then on.
    ///
    /// # Errors
    /// If its storage cannot be opened.
    async fn open(&self, tail: Tail) -> Result<(), Problem>;

    /// Appends all of `append.messages`, or none, and returns once the tail has them.
    ///
    /// # Errors
    /// With the outcome: whether they may have been appended all the same. A refused append uses no
    /// idempotency id up.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether they were appended.
    async fn append(&self, append: Append) -> Result<Appended, PublishError>;

    /// Checks the path that delivers, not only the connection.
    ///
    /// # Errors
    /// What is wrong with it.
    async fn probe(&self) -> Result<(), Problem>;
}

/// What an engine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Several messages are appended all or none.
    pub atomic_batch: bool,
    /// What it has outlives the process.
    pub durable: bool,
}

impl Capabilities {
    /// Neither.
    pub const NONE: Self = Self { atomic_batch: false, durable: false };
}

/// Messages to append: checked, at least one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Append {
    /// The topic of all of them.
    pub topic: Topic,
    /// In order.
    pub messages: Vec<Message>,
}

impl Append {
    /// `messages`, checked, for `topic`.
    pub fn new(topic: Topic, messages: Vec<Message>) -> Self {
        Self { topic, messages }
    }
}

/// What an append gave: the seqs of the first and the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The first message's seq.
    pub first: u64,
    /// The last message's seq.
    pub last: u64,
}

impl Appended {
    /// From `first` to `last`.
    pub fn new(first: u64, last: u64) -> Self {
        Self { first, last }
    }
}

/// One entry of an engine's sequence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its place.
    pub seq: u64,
    /// When it was appended: Unix milliseconds.
    pub time_ms: u64,
    /// Its topic.
    pub topic: Topic,
    /// What the producer handed in.
    pub message: Message,
}

impl Entry {
    /// An entry at `seq`.
    pub fn new(seq: u64, time_ms: u64, topic: Topic, message: Message) -> Self {
        Self { seq, time_ms, topic, message }
    }
}

/// Where an engine delivers its sequence. Cheap to clone.
#[derive(Clone)]
pub struct Tail(Arc<Hub>);

impl Tail {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self(hub)
    }

    /// Begins `epoch` at `start`: the place after the newest entry kept from before.
    pub fn begin(&self, epoch: Epoch, start: u64) {
        self.0.begin(epoch, start);
    }

    /// Delivers `entries`, in order, all at once: no consumer sees some without the others.
    pub fn push(&self, entries: Vec<Entry>) {
        self.announce(&self.take(entries));
    }

    /// As [`Tail::push`], but wakes nobody before [`Tail::announce`], so that an engine can let go of what
    /// orders its appends first.
    pub(crate) fn take(&self, entries: Vec<Entry>) -> Ingested {
        self.0.ingest(entries)
    }

    pub(crate) fn announce(&self, ingested: &Ingested) {
        self.0.announce(ingested);
    }

    /// Tells whether the engine can be reached.
    pub fn engine_up(&self, up: bool) {
        self.0.set_engine_up(up);
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("head", &self.0.head()).finish_non_exhaustive()
    }
}
