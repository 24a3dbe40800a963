//! What can be wrong with a history.

use std::{fmt, sync::Arc};

use pushpull_core::{Cursor, Gap, Prev, Topic};

/// A promise that a history breaks (DESIGN, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// An event that nobody published.
    Invented {
        /// Where it was seen.
        cursor: Cursor,
        /// On which topic.
        topic: Topic,
    },
    /// An event on a topic that this consumer did not ask for.
    Unasked {
        /// Who was told.
        session: Arc<str>,
        /// The event.
        cursor: Cursor,
        /// Its topic.
        topic: Topic,
    },
    /// Seq fell, though no gap said that it may.
    Fell {
        /// Who was told.
        session: Arc<str>,
        /// The highest before.
        from: u64,
        /// What came then.
        to: Cursor,
    },
    /// An event was delivered twice.
    Repeated {
        /// Who was told.
        session: Arc<str>,
        /// The event.
        cursor: Cursor,
    },
    /// An event asked for was neither delivered, nor covered by a gap told in time.
    Missing {
        /// Who was not told.
        session: Arc<str>,
        /// The event.
        cursor: Cursor,
        /// Its topic.
        topic: Topic,
    },
    /// A place was told before an event up to it.
    PlaceAhead {
        /// Who was told.
        session: Arc<str>,
        /// The place.
        place: u64,
        /// The event that came after it.
        cursor: Cursor,
    },
    /// One cursor was given to different events, or one event different predecessors.
    Disagreed {
        /// The cursor.
        cursor: Cursor,
    },
    /// An acknowledged event cannot be read, though nothing can have evicted it.
    Unreadable {
        /// What `publish` answered.
        cursor: Cursor,
    },
    /// Messages of a topic were appended more often than they were published.
    AppendedTwice {
        /// The topic.
        topic: Topic,
        /// Where the equal events lie.
        cursors: Vec<Cursor>,
    },
    /// A gap was told though nothing asked for is gone.
    GapForNothing {
        /// Who was told.
        session: Arc<str>,
        /// The gap.
        gap: Gap,
    },
    /// The `prev` of an event is not the event before it on its topic.
    BrokenChain {
        /// Who was told; nobody, if it was read from the source.
        session: Arc<str>,
        /// The event.
        cursor: Cursor,
        /// What it says came before.
        prev: Prev,
    },
    /// A consumer that claims to have caught up has not reached an acknowledged event.
    Behind {
        /// Who.
        session: Arc<str>,
        /// The event that it has not reached.
        cursor: Cursor,
    },
    /// An event came before the starting place was told.
    NoFirstWord {
        /// Who was told.
        session: Arc<str>,
        /// The event.
        cursor: Cursor,
    },
    /// A snapshot was not one unit: it lacks an event, holds one too many, or live events came into it.
    TornSnapshot {
        /// Who was told.
        session: Arc<str>,
        /// The event that is missing or too much.
        cursor: Cursor,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invented { cursor, topic } => write!(f, "{topic} {cursor}: nobody published it"),
            Self::Unasked { session, cursor, topic } => {
                write!(f, "{session}: {topic} {cursor} was not asked for")
            }
            Self::Fell { session, from, to } => write!(f, "{session}: {to} came after {from}"),
            Self::Repeated { session, cursor } => write!(f, "{session}: {cursor} came twice"),
            Self::Missing { session, cursor, topic } => {
                write!(f, "{session}: {topic} {cursor} is missing and no gap covers it")
            }
            Self::PlaceAhead { session, place, cursor } => {
                write!(f, "{session}: {cursor} came after the place {place} was told")
            }
            Self::Disagreed { cursor } => write!(f, "{cursor}: seen as different events"),
            Self::Unreadable { cursor } => write!(f, "{cursor}: acknowledged, but cannot be read"),
            Self::AppendedTwice { topic, cursors } => {
                write!(f, "{topic}: published fewer times than it lies there: {cursors:?}")
            }
            Self::GapForNothing { session, gap } => write!(f, "{session}: nothing is gone, but told: {gap}"),
            Self::BrokenChain { session, cursor, prev } => {
                write!(f, "{session}: {prev:?} did not come before {cursor}")
            }
            Self::Behind { session, cursor } => write!(f, "{session}: has not reached {cursor}"),
            Self::NoFirstWord { session, cursor } => {
                write!(f, "{session}: {cursor} came before the starting place")
            }
            Self::TornSnapshot { session, cursor } => {
                write!(f, "{session}: {cursor} tears the snapshot")
            }
        }
    }
}
