//! What a consumer asks for.

use std::{num::NonZeroU32, time::Duration};

use crate::{Cursor, Pattern, TopicError, Topics};

/// Asks a [`Push`](crate::Push) for a subscription (wire contract, section 2).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscribe {
    /// What to deliver.
    pub topics: Topics,
    /// Where to begin. Default: [`Start::Latest`].
    pub start: StartAt,
    /// What happens when the consumer falls off what is retained. Default: [`Overflow::Gap`].
    pub overflow: Overflow,
    /// Whether to thin out what waits. Default: [`Conflate::Off`].
    pub conflate: Conflate,
    /// Most flushes a second. Default: unlimited.
    pub rate: Option<Rate>,
    /// Credit: the most events delivered unasked. Default: unlimited.
    pub window: Option<NonZeroU32>,
}

/// Asks a [`Pull`](crate::Pull) for a batch (wire contract, section 2).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fetch {
    /// What to deliver.
    pub topics: Topics,
    /// Where to begin. Default: [`Start::Latest`].
    pub start: StartAt,
    /// Most events in the answer, 1..=1000. Default: 100.
    pub limit: usize,
    /// Most payload bytes in the answer; one event comes even if it is larger. Default: 3 MiB.
    pub max_bytes: usize,
    /// How long to wait for a first event. Default: not at all.
    pub wait: Duration,
    /// What happens when the consumer fell off what is retained. Default: [`Overflow::Gap`].
    pub overflow: Overflow,
    /// Whether to thin out what waits. Default: [`Conflate::Off`].
    pub conflate: Conflate,
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// Behind a cursor: deliver what follows it.
    After(Cursor),
    /// At a start that needs no cursor.
    Start(Start),
}

/// A start that needs no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// What is published from now on.
    #[default]
    Latest,
    /// The earliest retained. Tells no gap.
    Earliest,
    /// Each topic's newest event, then live.
    Last,
    /// Each key's newest event, then live.
    Snapshot,
}

/// What happens to a consumer that falls off what is retained. It is always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// It is told a gap and goes on.
    #[default]
    Gap,
    /// It is told a gap, and its subscription ends.
    Close,
    /// It is told a gap and skips to the newest.
    Latest,
}

/// Whether waiting events are thinned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Conflate {
    /// Every event is delivered.
    #[default]
    Off,
    /// Of the events waiting for this consumer only the newest of each (topic, key). Keyless events always
    /// come. Looks at most 10,000 events ahead.
    Key,
}

/// Most flushes a second: 0.1..=1000. A flush is all that waits, up to 256 KiB.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// `flushes` a second; `None` outside 0.1..=1000.
    pub fn per_second(flushes: f64) -> Option<Self> {
        (0.1..=1000.0).contains(&flushes).then_some(Self(flushes))
    }

    /// Flushes a second.
    pub fn as_f64(self) -> f64 {
        self.0
    }

    /// The time between two flushes.
    pub fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

impl Start {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Earliest => "earliest",
            Self::Last => "last",
            Self::Snapshot => "snapshot",
        }
    }

    /// The start of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Latest, Self::Earliest, Self::Last, Self::Snapshot].into_iter().find(|s| s.as_str() == name)
    }
}

impl Overflow {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Close => "close",
            Self::Latest => "latest",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Gap, Self::Close, Self::Latest].into_iter().find(|o| o.as_str() == name)
    }
}

impl Default for StartAt {
    fn default() -> Self {
        Self::Start(Start::Latest)
    }
}

impl From<Start> for StartAt {
    fn from(start: Start) -> Self {
        Self::Start(start)
    }
}

impl From<Cursor> for StartAt {
    fn from(cursor: Cursor) -> Self {
        Self::After(cursor)
    }
}

impl Subscribe {
    /// Asks for `topics`, from the newest on.
    pub fn new(topics: Topics) -> Self {
        Self {
            topics,
            start: StartAt::default(),
            overflow: Overflow::default(),
            conflate: Conflate::default(),
            rate: None,
            window: None,
        }
    }

    /// Asks for one topic or pattern, from the newest on.
    ///
    /// # Errors
    /// If `pattern` is no topic and no pattern.
    pub fn to(pattern: &str) -> Result<Self, TopicError> {
        Ok(Self::new(Pattern::new(pattern)?.into()))
    }

    /// Asks for one more topic or pattern.
    ///
    /// # Errors
    /// If `pattern` is none, or there are 64 already.
    pub fn and(mut self, pattern: &str) -> Result<Self, TopicError> {
        self.topics = self.topics.with(&Pattern::new(pattern)?.into())?;
        Ok(self)
    }

    /// Begins at `start`: a [`Start`] or a [`Cursor`].
    #[must_use]
    pub fn from(mut self, start: impl Into<StartAt>) -> Self {
        self.start = start.into();
        self
    }

    /// Sets the overflow policy.
    #[must_use]
    pub fn on_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Of the events waiting takes only the newest of each (topic, key).
    #[must_use]
    pub fn conflate_by_key(mut self) -> Self {
        self.conflate = Conflate::Key;
        self
    }

    /// Takes at most `rate` flushes a second.
    #[must_use]
    pub fn at_rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Takes at most `events` events unasked, then more only as granted
    /// ([`Subscription::grant`](crate::Subscription::grant)).
    #[must_use]
    pub fn with_window(mut self, events: NonZeroU32) -> Self {
        self.window = Some(events);
        self
    }
}

impl Fetch {
    /// The most events an answer may hold.
    pub const MAX_LIMIT: usize = 1000;
    /// The longest wait.
    pub const MAX_WAIT: Duration = Duration::from_secs(60);

    /// Asks for `topics`, from the newest on, at once.
    pub fn new(topics: Topics) -> Self {
        Self {
            topics,
            start: StartAt::default(),
            limit: 100,
            max_bytes: 3 * 1024 * 1024,
            wait: Duration::ZERO,
            overflow: Overflow::default(),
            conflate: Conflate::default(),
        }
    }

    /// Asks, at once, for what `subscribe` asks for.
    pub fn like(subscribe: &Subscribe) -> Self {
        Self {
            start: subscribe.start,
            overflow: subscribe.overflow,
            conflate: subscribe.conflate,
            ..Self::new(subscribe.topics.clone())
        }
    }

    /// Begins at `start`: a [`Start`] or a [`Cursor`].
    #[must_use]
    pub fn from(mut self, start: impl Into<StartAt>) -> Self {
        self.start = start.into();
        self
    }

    /// Takes at most `limit` events, held to 1..=1000.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, Self::MAX_LIMIT);
        self
    }

    /// Waits up to `wait` (at most 60 s) for a first event.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait.min(Self::MAX_WAIT);
        self
    }
}
