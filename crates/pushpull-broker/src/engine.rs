//! The engine door: what a broker stores and shares its sequence with.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use pushpull_core::{Cursor, CursorStanding, Epoch, Message, Prev, Problem, PublishError, Topic, Topics};
use tokio::time::Instant;

use crate::hub::{Hub, Ingested};

/// What a broker stores and shares its sequence with.
///
/// # Contract
/// Seqs rise. An engine hands every entry of its sequence to the [`Tail`] exactly once, in order, or says what it
/// cannot hand over ([`Tail::lose_to`]), and answers an append only when the tail has it. A new epoch starts
/// whenever acknowledged events may have been lost; in doubt it starts one.
///
/// Between two entries seqs may be left out, where they are none of this tail's: [`Tail::complete_to`] says how far
/// it is complete without one.
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

    /// Judges a cursor that the tail does not know: of another epoch, or ahead of it. It is asked for those alone.
    ///
    /// An engine whose tail has all that there is has nothing to add, and leaves this as it is: such a cursor is
    /// [`CursorStanding::Unknown`]. One that follows somebody else's sequence asks there, since what is ahead of a
    /// tail need not be ahead of the sequence. A verdict is of a place that the tail has come to: who is told it begins
    /// there. If the tail has not, the broker refuses the cursor as unavailable for now.
    ///
    /// # Errors
    /// If that cannot be found out now.
    async fn judge(&self, _cursor: Cursor) -> Result<CursorStanding, Problem> {
        Ok(CursorStanding::Unknown)
    }
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
    /// When who publishes stops waiting. Default: never.
    pub deadline: Option<Instant>,
}

impl Append {
    /// `messages`, checked, for `topic`.
    pub fn new(topic: Topic, messages: Vec<Message>) -> Self {
        Self { topic, messages, deadline: None }
    }

    /// The same, awaited until `deadline`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
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
    /// Their epochs, where the engine was told them; else they follow from the seqs.
    pub epochs: Option<(Epoch, Epoch)>,
}

impl Appended {
    /// From `first` to `last`.
    pub fn new(first: u64, last: u64) -> Self {
        Self { first, last, epochs: None }
    }

    /// At the cursors that another broker gave.
    pub fn at(first: Cursor, last: Cursor) -> Self {
        Self { first: first.seq(), last: last.seq(), epochs: Some((first.epoch(), last.epoch())) }
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
    /// What came before it on its topic, where the engine was told so. Default: the tail finds out by itself, which
    /// is right for an engine that hands over every entry of the topic.
    pub prev: Option<Prev>,
}

impl Entry {
    /// An entry at `seq`.
    pub fn new(seq: u64, time_ms: u64, topic: Topic, message: Message) -> Self {
        Self { seq, time_ms, topic, message, prev: None }
    }

    /// The same, after `prev` on its topic. It is evidence: where the tail has not what it names, that is lost.
    #[must_use]
    pub fn with_prev(mut self, prev: Prev) -> Self {
        self.prev = Some(prev);
        self
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
    ///
    /// If the tail has entries at or beyond `start`, they lie on a branch that was lost: they are dropped, seq falls
    /// to before `start`, and who had been told more is told that it was rewound.
    pub fn begin(&self, epoch: Epoch, start: u64) {
        self.0.begin(epoch, start);
    }

    /// Begins another history: all that was before is dropped, and whoever was told anything of it is told a reset.
    ///
    /// Entries follow from `floor` on, a place of `epoch`; of what came at or before `lost_to` some may be gone.
    pub fn restart(&self, epoch: Epoch, floor: u64, lost_to: u64) {
        self.0.restart(epoch, floor, lost_to);
    }

    /// Says that every entry up to `seq` was delivered, or told to be lost.
    pub fn complete_to(&self, seq: u64) {
        self.0.complete_to(seq);
    }

    /// Says that entries at or before `seq` which were not delivered yet may be gone, of any topic. To be called
    /// before entries that lie behind them are delivered.
    pub fn lose_to(&self, seq: u64) {
        self.0.lose_to(seq);
    }

    /// Says that nothing but `topics` will ever be delivered: a broker refuses what they do not cover. It can be said
    /// once, before the first epoch begins.
    pub fn limit_to(&self, topics: Topics) {
        self.0.limit_to(topics);
    }

    /// The newest place.
    pub fn place(&self) -> Cursor {
        self.0.place()
    }

    /// Where `cursor` stands, as far as the tail knows.
    pub fn judge(&self, cursor: Cursor) -> CursorStanding {
        self.0.judge(cursor)
    }

    /// Delivers `entries`, in order, all at once: no consumer sees some without the others.
    pub fn push(&self, entries: Vec<Entry>) {
        self.announce(&self.0.ingest(entries));
    }

    /// Delivers `messages` as the next entries, but wakes nobody before [`Tail::announce`], so that who keeps appends
    /// apart can let go first. For an engine of which the tail is the store.
    pub(crate) fn append(
        &self,
        topic: &Topic,
        messages: impl IntoIterator<Item: Into<Message>>,
        clock_ms: impl FnOnce() -> u64,
    ) -> (Appended, Ingested) {
        self.0.append(topic, messages, clock_ms)
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
