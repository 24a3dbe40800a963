//! Registering an endpoint, and what there is to know of one.

use pushpull_core::{Cursor, Start, StartAt, Topics};

use super::store::{EndpointId, EndpointRecord, State};
use crate::Secret;

/// Asks for an endpoint.
#[derive(Clone, Debug)]
pub struct Registration {
    pub(super) url: String,
    pub(super) topics: Topics,
    pub(super) start: StartAt,
    pub(super) secret: Option<Secret>,
    pub(super) is_raw: bool,
    pub(super) owner: Option<String>,
}

/// What a registration gave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registered {
    /// The endpoint's name.
    pub id: EndpointId,
    /// What its deliveries are signed by.
    pub secret: Secret,
    /// Where it begins; `None` if that is known only behind its snapshot.
    pub cursor: Option<Cursor>,
}

/// What there is to know of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub id: EndpointId,
    /// Where it is.
    pub url: String,
    /// The topics and patterns it asked for.
    pub topics: Vec<String>,
    /// Whether it is sent to.
    pub state: State,
    /// Its place: that of the last delivery it acknowledged.
    pub cursor: Option<Cursor>,
    /// Failures in a row of the delivery under way.
    pub failures: u32,
    /// When that is tried again: Unix milliseconds.
    pub next_attempt: Option<u64>,
    /// Who registered it, if that was established.
    pub owner: Option<String>,
}

impl Registration {
    /// Asks for `topics` at `url`, from the newest on, as JSON, signed by a secret that is made.
    pub fn new(url: impl Into<String>, topics: Topics) -> Self {
        Self {
            url: url.into(),
            topics,
            start: Start::Latest.into(),
            secret: None,
            is_raw: false,
            owner: None,
        }
    }

    /// Begins at `start`: a [`Start`] or a [`Cursor`].
    #[must_use]
    pub fn from(mut self, start: impl Into<StartAt>) -> Self {
        self.start = start.into();
        self
    }

    /// Is signed by `secret`.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Sends the payload alone, with its content type, `Pushpull-Event` and `Pushpull-Key`. The shipped receiver takes
    /// JSON only, since here the topic is not told.
    #[must_use]
    pub fn raw(mut self) -> Self {
        self.is_raw = true;
        self
    }

    /// Belongs to `owner`: over HTTP nobody else finds it.
    #[must_use]
    pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    pub(super) fn into_record(self, id: EndpointId, secret: Secret) -> EndpointRecord {
        let (start, place) = match self.start {
            StartAt::After(cursor) => (Start::Latest, Some(cursor)),
            StartAt::Start(start) => (start, None),
        };
        EndpointRecord {
            id,
            url: self.url,
            topics: self.topics.iter().map(ToString::to_string).collect(),
            secrets: vec![secret],
            is_raw: self.is_raw,
            owner: self.owner,
            start: start.as_str().to_owned(),
            place,
            scanned: None,
            told_before: None,
            state: State::Active,
            failures: 0,
            failing_since: None,
        }
    }
}

impl EndpointRecord {
    pub(super) fn status(&self, next_attempt: Option<u64>) -> Status {
        Status {
            id: self.id,
            url: self.url.clone(),
            topics: self.topics.clone(),
            state: self.state,
            cursor: self.place,
            failures: self.failures,
            next_attempt,
            owner: self.owner.clone(),
        }
    }
}
