//! The query of the wire contract, section 2: one parser for every path.

mod encode;
mod param;

use std::{fmt, num::NonZeroU32, time::Duration};

use pushpull_core::{
    Conflate, Cursor, Fetch, Overflow, Pattern, Problem, Rate, Start, StartAt, Subscribe, Topics,
};

use crate::Transport;
use param::{Param, decode, plain_decimal, plain_number};

pub use encode::{encode_fetch, encode_query};

const DEFAULT_LIMIT: usize = 100;
const DEFAULT_WAIT: Duration = Duration::from_secs(25);

/// What a query is for: which parameters belong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/ws` without a subprotocol.
    WsRaw,
    /// `/ws` with one of ours, and the `subscribe` frame of such a connection.
    WsSubprotocol,
    /// `/sse`.
    Sse,
    /// `/longpoll`.
    Longpoll,
    /// `/poll`.
    Poll,
    /// `POST /topics/{topic}`.
    Publish,
    /// `GET /topics/{topic}`.
    Latest,
    /// `/webhooks` and what lies below.
    Webhooks,
}

/// How a stream writes its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The payload alone.
    Raw,
    /// The object of section 3.
    Json,
}

/// What an SSE stream's keep-alive carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KeepAlive {
    /// A comment and, if it moved, the place.
    #[default]
    Place,
    /// A comment only.
    Comment,
}

/// How the body of a publish holds several messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchFormat {
    /// A JSON payload on each line.
    Ndjson,
}

/// A bearer token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A parsed query, with the defaults of section 2 filled in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Query {
    /// What it is for.
    pub endpoint: Endpoint,
    /// What to deliver; `None` where it comes later (ws with a subprotocol) or by the path.
    pub topics: Option<Topics>,
    /// Where to begin, by `after`, `lastEventId` and `start`, in this order.
    pub start: StartAt,
    /// Most events in a poll's answer.
    pub limit: usize,
    /// How long a long poll may wait, if given.
    pub wait: Option<Duration>,
    /// What happens to a consumer that falls off what is retained. [`Overflow::Close`] at
    /// [`Endpoint::WsRaw`], which knows no other.
    pub overflow: Overflow,
    /// Whether to thin out what waits.
    pub conflate: Conflate,
    /// Most flushes a second.
    pub rate: Option<Rate>,
    /// Credit.
    pub window: Option<NonZeroU32>,
    /// What an SSE stream's keep-alive carries.
    pub keepalive: KeepAlive,
    /// The bearer token, of clients that cannot set a header.
    pub access_token: Option<Token>,
    /// How the body of a publish holds several messages, if it does.
    pub batch: Option<BatchFormat>,
    format: Option<Format>,
}

impl Endpoint {
    /// The transport it belongs to; `None` for the paths of a topic and of webhooks.
    pub fn transport(self) -> Option<Transport> {
        match self {
            Self::WsRaw | Self::WsSubprotocol => Some(Transport::Ws),
            Self::Sse => Some(Transport::Sse),
            Self::Longpoll => Some(Transport::Longpoll),
            Self::Poll => Some(Transport::Poll),
            Self::Publish | Self::Latest | Self::Webhooks => None,
        }
    }

    pub(crate) fn is_poll(self) -> bool {
        matches!(self, Self::Longpoll | Self::Poll)
    }

    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::WsRaw | Self::WsSubprotocol | Self::Sse)
    }
}

impl Token {
    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Query {
    /// Parses the part of a URL behind `?` as `application/x-www-form-urlencoded`.
    ///
    /// In `access_token` a `+` stands for itself, since no bearer token has a space (RFC 6750, 2.1).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](pushpull_core::ErrorKind::Invalid), naming the parameter at fault.
    pub fn parse(raw: Option<&str>, endpoint: Endpoint) -> Result<Self, Problem> {
        let pieces = raw.unwrap_or_default().split('&').filter(|piece| !piece.is_empty());
        let mut draft = Draft::new(endpoint);
        for piece in pieces {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let name = decode(name, ' ').unwrap_or_else(|| name.into());
            if name.starts_with('_') {
                continue;
            }
            let param = Param::at(&name, endpoint)?;
            let plus = if param == Param::AccessToken { '+' } else { ' ' };
            let value = decode(value, plus).ok_or_else(|| param.problem("it is not UTF-8"))?;
            draft.set(param, &value)?;
        }
        draft.finish()
    }

    /// Takes decoded pairs of name and value: what a frame says in its own form.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub fn from_pairs<N, V>(
        pairs: impl IntoIterator<Item = (N, V)>,
        endpoint: Endpoint,
    ) -> Result<Self, Problem>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut draft = Draft::new(endpoint);
        for (name, value) in pairs {
            if !name.as_ref().starts_with('_') {
                draft.set(Param::at(name.as_ref(), endpoint)?, value.as_ref())?;
            }
        }
        draft.finish()
    }

    /// What it asks a [`Push`](pushpull_core::Push) for. `resume`, a place by header, comes before the query's.
    ///
    /// # Errors
    /// If it names no topic.
    pub fn subscribe(&self, resume: Option<Cursor>) -> Result<Subscribe, Problem> {
        let mut asked = Subscribe::new(self.require_topics()?).from(self.start_at(resume));
        asked.overflow = self.overflow;
        asked.conflate = self.conflate;
        asked.rate = self.rate;
        asked.window = self.window;
        Ok(asked)
    }

    /// What it asks a [`Pull`](pushpull_core::Pull) for. `resume`, a place by header, comes before the query's.
    /// A long poll waits as `wait` says, else 25 s.
    ///
    /// # Errors
    /// If it names no topic.
    pub fn fetch(&self, resume: Option<Cursor>) -> Result<Fetch, Problem> {
        let wait = match self.endpoint {
            Endpoint::Longpoll => self.wait.unwrap_or(DEFAULT_WAIT),
            _ => Duration::ZERO,
        };
        let mut asked = Fetch::new(self.require_topics()?).from(self.start_at(resume));
        asked.overflow = self.overflow;
        asked.conflate = self.conflate;
        Ok(asked.with_limit(self.limit).with_wait(wait))
    }

    /// How to write events: as asked, else raw for one exact topic and JSON for all else.
    pub fn format(&self) -> Format {
        if self.endpoint.is_poll() || self.endpoint == Endpoint::WsSubprotocol {
            return Format::Json;
        }
        let is_single = self.topics.as_ref().is_some_and(|topics| topics.single().is_some());
        self.format.unwrap_or(if is_single { Format::Raw } else { Format::Json })
    }

    fn start_at(&self, resume: Option<Cursor>) -> StartAt {
        resume.map_or(self.start, StartAt::After)
    }

    fn require_topics(&self) -> Result<Topics, Problem> {
        self.topics.clone().ok_or_else(|| Param::Topic.problem("at least one topic is required"))
    }
}

struct Draft {
    query: Query,
    seen: u32,
    topics: Vec<Pattern>,
    after: Option<Cursor>,
    last_event_id: Option<Cursor>,
    start: Option<Start>,
    overflow: Option<Overflow>,
}

impl Draft {
    fn new(endpoint: Endpoint) -> Self {
        let query = Query {
            endpoint,
            topics: None,
            start: StartAt::default(),
            limit: DEFAULT_LIMIT,
            wait: None,
            overflow: Overflow::default(),
            conflate: Conflate::default(),
            rate: None,
            window: None,
            keepalive: KeepAlive::default(),
            access_token: None,
            batch: None,
            format: None,
        };
        Self {
            query,
            seen: 0,
            topics: Vec::new(),
            after: None,
            last_event_id: None,
            start: None,
            overflow: None,
        }
    }

    fn set(&mut self, param: Param, value: &str) -> Result<(), Problem> {
        let bit = 1 << param as u32;
        if self.seen & bit != 0 && param != Param::Topic {
            return Err(param.problem("it is given twice"));
        }
        self.seen |= bit;
        self.take(param, value).ok_or_else(|| param.bad_value())?
    }

    fn take(&mut self, param: Param, value: &str) -> Option<Result<(), Problem>> {
        let query = &mut self.query;
        match param {
            Param::Topic => return Some(self.add_topic(value)),
            Param::After => self.after = Some(value.parse().ok()?),
            Param::LastEventId if value.is_empty() => {}
            Param::LastEventId => self.last_event_id = Some(value.parse().ok()?),
            Param::Start => self.start = Some(Start::from_name(value)?),
            Param::Limit => query.limit = plain_number(value, 1..=Fetch::MAX_LIMIT as u64)? as usize,
            Param::Wait => query.wait = Some(Duration::from_secs(plain_number(value, 0..=60)?)),
            Param::Overflow => self.overflow = Some(Overflow::from_name(value)?),
            Param::Conflate => query.conflate = (value == "key").then_some(Conflate::Key)?,
            Param::Rate => query.rate = Some(plain_decimal(value).and_then(Rate::per_second)?),
            Param::Window => {
                let events = plain_number(value, 1..=u64::from(u32::MAX))?;
                query.window = NonZeroU32::new(events as u32);
            }
            Param::Format => query.format = Some(Format::from_name(value)?),
            Param::Keepalive => query.keepalive = KeepAlive::from_name(value)?,
            Param::AccessToken => query.access_token = Some(Token::new(value)?),
            Param::Batch => query.batch = (value == "ndjson").then_some(Some(BatchFormat::Ndjson))?,
        }
        Some(Ok(()))
    }

    fn add_topic(&mut self, value: &str) -> Result<(), Problem> {
        let pattern = Pattern::new(value)?;
        if !self.topics.contains(&pattern) {
            self.topics.push(pattern);
        }
        match self.topics.len() {
            ..=Topics::MAX => Ok(()),
            _ => Err(Param::Topic.problem("a subscription has 1 to 64 topics")),
        }
    }

    fn finish(mut self) -> Result<Query, Problem> {
        if self.after.is_some() && self.start.is_some() {
            return Err(Param::Start.problem("`after` and `start` exclude each other"));
        }
        let after = self.after.or(self.last_event_id);
        self.query.start = after.map_or(self.start.unwrap_or_default().into(), StartAt::After);
        self.query.topics = self.checked_topics()?;
        self.query.overflow = self.checked_overflow()?;
        Ok(self.query)
    }

    fn checked_topics(&mut self) -> Result<Option<Topics>, Problem> {
        let endpoint = self.query.endpoint;
        if self.topics.is_empty() {
            return match endpoint {
                Endpoint::WsSubprotocol | Endpoint::Publish | Endpoint::Latest | Endpoint::Webhooks => {
                    Ok(None)
                }
                _ => Err(Param::Topic.problem("at least one topic is required")),
            };
        }
        let topics = Topics::new(std::mem::take(&mut self.topics))?;
        if endpoint == Endpoint::WsRaw && topics.single().is_none() {
            return Err(Param::Topic.problem("without a subprotocol a WebSocket carries one exact topic"));
        }
        Ok(Some(topics))
    }

    fn checked_overflow(&self) -> Result<Overflow, Problem> {
        match (self.query.endpoint, self.overflow) {
            (Endpoint::WsRaw, None | Some(Overflow::Close)) => Ok(Overflow::Close),
            (Endpoint::WsRaw, _) => {
                Err(Param::Overflow.problem("without a subprotocol a WebSocket knows `close` only"))
            }
            (endpoint, Some(Overflow::Latest)) if endpoint.is_poll() => {
                Err(Param::Overflow.problem("`latest` is for streams only"))
            }
            (_, given) => Ok(given.unwrap_or_default()),
        }
    }
}

impl Token {
    /// Most bytes of a token.
    pub const MAX: usize = 8192;

    /// Takes `text` as a token, if it has 1 to [`Token::MAX`] printable ASCII characters and no space.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }
}

impl Format {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json => "json",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Raw, Self::Json].into_iter().find(|format| format.as_str() == name)
    }
}

impl KeepAlive {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Comment => "comment",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Place, Self::Comment].into_iter().find(|carried| carried.as_str() == name)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests;
