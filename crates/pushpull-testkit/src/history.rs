//! Recorded histories, and a pure function that says which promises they break.
//!
//! A test records what it published and what each consumer was told, and asks [`check`] what is wrong with it.
//! The checker knows no transport and no engine: it judges any of them by the same rules.
//!
//! ```
//! use pushpull_core::{Cursor, Delivery, Epoch, Message, Published, Subscribe};
//! use pushpull_testkit::history::{History, Publish, Session, Violation, check};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (topic, at) = ("a".parse()?, |seq| Cursor::new(Epoch::from_random(7), seq));
//! let mut history = History::default();
//! history.publishes.extend(Publish::all(&topic, &[Message::text("x")], &Ok(Published::new(at(1), at(1), 1))));
//!
//! let mut session = Session::new("reader", &Subscribe::to("a")?);
//! session.take(&Delivery::Place(at(0)));
//! session.take(&Delivery::Place(at(1)));
//! history.sessions.push(session);
//!
//! let found = check(&history);
//! assert!(matches!(&found[..], [Violation::Missing { cursor, .. }] if *cursor == at(1)));
//! # Ok(()) }
//! ```

mod check;
mod known;
mod snapshot;
mod stretch;
#[cfg(test)]
mod tests;
mod violation;
mod walk;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use pushpull_core::{
    Cursor, Delivery, Epochs, Event, Gap, Link, Message, Outcome, Prev, PublishError, Published, StartAt,
    Subscribe, Topic, View,
};

pub use check::{Broken, check};
pub use violation::Violation;

/// What happened, as producers and consumers saw it.
///
/// It must hold every publish to the topics that its sessions ask for, those that failed included.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What was published, in any order.
    pub publishes: Vec<Publish>,
    /// What each consumer was told.
    pub sessions: Vec<Session>,
    /// What the source held at the end, if that was asked.
    pub source: Option<Source>,
}

/// A payload, by its hash. Tests that want lost or repeated events told apart publish distinct payloads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(u64);

/// One message handed to a producer.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where to.
    pub topic: Topic,
    /// The payload.
    pub digest: Digest,
    /// The key, if it has one.
    pub key: Option<Arc<str>>,
    /// The idempotency id, if it has one.
    pub idempotency: Option<Arc<str>>,
    /// What became of it.
    pub applied: Applied,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was acknowledged at this place.
    At(Cursor),
    /// It was refused: nothing was published.
    No,
    /// Nobody knows.
    Unknown,
}

/// One logical consumer: all its subscriptions, one after the other.
#[derive(Clone, Debug)]
pub struct Session {
    /// What violations call it.
    pub name: Arc<str>,
    /// What it asked for at first.
    pub request: Subscribe,
    /// The source's newest place when it came, if that is known: what it owes to a consumer of the earliest,
    /// if retention drops events.
    pub began_at: Option<Cursor>,
    /// What it was told, in order.
    pub records: Vec<Record>,
    /// Whether it waited long enough at the end that it must have been told everything.
    pub caught_up: bool,
}

/// One thing of a session.
#[derive(Clone, Debug)]
pub enum Record {
    /// An event was delivered.
    Event(Seen),
    /// A gap was told.
    Gap(Gap),
    /// A place was told.
    Place(Cursor),
    /// The connection was lost; the consumer made another by itself.
    Broken,
    /// The consumer subscribed anew, from here.
    Resume(StartAt),
}

/// An event, as somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its topic.
    pub topic: Topic,
    /// Its place.
    pub cursor: Cursor,
    /// The event before it on its topic.
    pub prev: Prev,
    /// The payload.
    pub digest: Digest,
    /// The key, if it has one.
    pub key: Option<Arc<str>>,
    /// How it was shown.
    pub view: View,
}

/// What the source held at the end.
#[derive(Clone, Debug)]
pub struct Source {
    /// The newest place.
    pub head: Cursor,
    /// The epochs, if there was more than one.
    pub epochs: Option<Epochs>,
    /// All retained events, in order.
    pub retained: Vec<Seen>,
    /// Whether its retention may have dropped events; each topic loses its oldest first.
    pub evicts: bool,
}

impl Digest {
    /// The digest of `payload`.
    pub fn of(payload: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        payload.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Whether it is that of the empty payload, which removes a key.
    pub fn is_empty(self) -> bool {
        self == Self::of(b"")
    }
}

impl Publish {
    /// What `answer` says of `messages`, published to `topic` in one call. Where a batch's cursors are not
    /// dense, those between its first and its last message count as unknown.
    pub fn all(
        topic: &Topic,
        messages: &[Message],
        answer: &Result<Published, PublishError>,
    ) -> impl Iterator<Item = Self> {
        let count = messages.len();
        messages.iter().enumerate().map(move |(at, message)| Self {
            topic: topic.clone(),
            digest: Digest::of(message.payload()),
            key: message.shared_key().cloned(),
            // The first message's id stands for the batch.
            idempotency: messages[0].idempotency().map(|id| format!("{id}/{at}").into()),
            applied: applied(answer, at, count),
        })
    }
}

fn applied(answer: &Result<Published, PublishError>, at: usize, count: usize) -> Applied {
    match answer {
        Err(error) if error.outcome() == Outcome::NotApplied => Applied::No,
        Err(_) => Applied::Unknown,
        Ok(published) if at == 0 => Applied::At(published.first),
        Ok(published) if at + 1 == count => Applied::At(published.last),
        Ok(Published { first, last, .. }) => match last.seq() - first.seq() + 1 == count as u64 {
            true => Applied::At(Cursor::new(first.epoch(), first.seq() + at as u64)),
            false => Applied::Unknown,
        },
    }
}

impl Session {
    /// A consumer that asks for `request`, told nothing yet.
    pub fn new(name: impl Into<Arc<str>>, request: &Subscribe) -> Self {
        let request = request.clone();
        Self { name: name.into(), request, began_at: None, records: Vec::new(), caught_up: false }
    }

    /// Records a delivery.
    pub fn take(&mut self, delivery: &Delivery) {
        self.records.push(match delivery {
            Delivery::Event(event) => Record::Event(event.into()),
            Delivery::Gap(gap) => Record::Gap(*gap),
            Delivery::Place(place) => Record::Place(*place),
            Delivery::Link(Link::Reconnecting { .. }) => Record::Broken,
            _ => return,
        });
    }

    /// Records that it subscribed anew, from `start`. To resume from a cursor is to claim everything up to it; from
    /// one that lies before what it was told is to ask for events a second time.
    pub fn resume(&mut self, start: impl Into<StartAt>) {
        self.records.push(Record::Resume(start.into()));
    }

    /// How many events it was delivered.
    pub fn events(&self) -> usize {
        self.records.iter().filter(|record| matches!(record, Record::Event(_))).count()
    }

    /// The gaps it was told.
    pub fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.records.iter().filter_map(|record| match record {
            Record::Gap(gap) => Some(gap),
            _ => None,
        })
    }
}

impl From<&Event> for Seen {
    fn from(event: &Event) -> Self {
        Self {
            topic: event.topic().clone(),
            cursor: event.cursor(),
            prev: event.prev(),
            digest: Digest::of(event.payload()),
            key: event.message().shared_key().cloned(),
            view: event.view(),
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
