//! `POST /topics/{topic}`.

use std::{borrow::Cow, fmt::Write};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
    request::Parts,
};
use pushpull_core::{
    DEFAULT_CONTENT_TYPE, ErrorKind, Message, Outcome, Problem, PublishError, Published, Topic,
};
use tokio::time::Instant;

use super::{Shared, read::read_body, unsupported};
use crate::{
    Action, BatchFormat, Body, BoxError, Entry, Rejection,
    headers::{IDEMPOTENCY_KEY, PUSHPULL_EVENT, PUSHPULL_KEY, Short, decoded},
    problem::{problem_response, problem_response_as},
};

const NDJSON: &str = "application/x-ndjson";

/// Most lines of one batch: bytes alone do not bound the number of events.
const MAX_LINES: usize = 100_000;

/// Bytes of an acknowledgement of one message, at most.
const ACKNOWLEDGEMENT: usize = 64;

/// Lines that are read before others have their turn.
const LINES_A_TURN: usize = 1000;

/// What the headers say of every message of a request.
struct Described {
    content_type: Cow<'static, str>,
    event: Option<String>,
    key: Option<String>,
    idempotency: Option<String>,
}

impl Shared {
    pub(super) async fn publish<B>(&self, parts: &Parts, entry: &Entry, body: B) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        match self.try_publish(parts, entry, body).await {
            Ok(published) => created(&published, entry.query.batch),
            Err(error) => {
                self.gate.metrics().rejected(Rejection::from(error.problem()));
                refused(&error)
            }
        }
    }

    async fn try_publish<B>(&self, parts: &Parts, entry: &Entry, body: B) -> Result<Published, PublishError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let (topic, messages) = self.take(parts, entry, body).await.map_err(PublishError::not_applied)?;
        let producer =
            self.producer.as_deref().ok_or_else(|| PublishError::not_applied(unsupported("publish")))?;
        let start = Instant::now();
        let published = producer.publish(&entry.cx, &topic, &messages).await?;
        self.gate.metrics().published(published.count, start.elapsed());
        Ok(published)
    }

    /// All that can be refused before anything is published: first what needs no body.
    async fn take<B>(&self, parts: &Parts, entry: &Entry, body: B) -> Result<(Topic, Vec<Message>), Problem>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let limits = self.gate.limits();
        let topic = self.topic(parts)?;
        self.gate.authorize(&entry.cx, Action::Publish(&topic)).await?;
        let described = Described::by(&parts.headers)?;
        let limit = match entry.query.batch {
            Some(_) if !described.is_ndjson() => return Err(not_ndjson()),
            Some(_) => limits.batch(),
            None => limits.payload,
        };
        let body = read_body(body, limit, limits.body_time).await?;
        let messages = match entry.query.batch {
            Some(BatchFormat::Ndjson) => described.batch(&body, limits.payload).await?,
            None => vec![described.message(body)?],
        };
        Ok((topic, messages))
    }
}

impl Described {
    fn by(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            content_type: content_type(headers)?,
            event: decoded(headers, &PUSHPULL_EVENT)?,
            key: decoded(headers, &PUSHPULL_KEY)?,
            idempotency: plain(headers)?,
        })
    }

    fn is_ndjson(&self) -> bool {
        self.content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(NDJSON)
    }

    fn message(self, payload: Bytes) -> Result<Message, Problem> {
        self.describe(Message::new(payload).with_content_type(self.content_type.clone()))
    }

    /// One message for each line that is not blank. Each line has bytes of its own, so that a retained one
    /// does not keep the whole body.
    async fn batch(&self, body: &[u8], limit: usize) -> Result<Vec<Message>, Problem> {
        let mut messages = Vec::new();
        let lines = body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        for line in lines.filter(|line| !line.trim_ascii().is_empty()) {
            if line.len() > limit || messages.len() == MAX_LINES {
                let detail = format!("a batch has at most {MAX_LINES} lines of at most {limit} bytes");
                return Err(Problem::new(ErrorKind::TooLarge, detail));
            }
            let message = Message::new(Bytes::copy_from_slice(line)).with_content_type("application/json");
            messages.push(self.describe(message)?);
            if messages.len().is_multiple_of(LINES_A_TURN) {
                tokio::task::yield_now().await;
            }
        }
        if messages.is_empty() {
            return Err(Problem::invalid("payload", "a batch has at least one line"));
        }
        Ok(messages)
    }

    fn describe(&self, mut message: Message) -> Result<Message, Problem> {
        if let Some(event) = &self.event {
            message = message.with_name(event.as_str());
        }
        if let Some(key) = &self.key {
            message = message.with_key(key.as_str());
        }
        if let Some(id) = &self.idempotency {
            message = message.with_idempotency(id.as_str());
        }
        Ok(message.check()?)
    }
}

fn content_type(headers: &HeaderMap) -> Result<Cow<'static, str>, Problem> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next().filter(|value| !value.is_empty()) else {
        return Ok(DEFAULT_CONTENT_TYPE.into());
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    text.map(owned).ok_or_else(|| Problem::invalid("Content-Type", "it must be one type, in ASCII"))
}

/// The same text, without an allocation where it is what nearly everybody says.
fn owned(content_type: &str) -> Cow<'static, str> {
    let usual = ["application/json", "text/plain", DEFAULT_CONTENT_TYPE];
    match usual.into_iter().find(|usual| *usual == content_type) {
        Some(usual) => usual.into(),
        None => content_type.to_owned().into(),
    }
}

fn plain(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next().filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).ok().filter(|_| values.next().is_none());
    text.map(|text| Some(text.to_owned()))
        .ok_or_else(|| Problem::invalid("Idempotency-Key", "it must be one key, in UTF-8"))
}

fn not_ndjson() -> Problem {
    let detail = "a batch of lines comes as application/x-ndjson";
    Problem::new(ErrorKind::UnsupportedType, detail).with_parameter("Content-Type")
}

fn created(published: &Published, batch: Option<BatchFormat>) -> Response<Body> {
    let Published { first, last, count, .. } = published;
    let body = match batch {
        Some(_) => format!(r#"{{"first":"{first}","last":"{last}","count":{count}}}"#).into(),
        None => {
            let mut body = Short::<ACKNOWLEDGEMENT>::new();
            // There is room for the longest cursor.
            let _ = write!(body, r#"{{"cursor":"{last}"}}"#);
            Bytes::copy_from_slice(body.as_bytes())
        }
    };
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The problem, with what is at fault named as the request names it. Where the body was not read to its end,
/// the connection is closed.
fn refused(error: &PublishError) -> Response<Body> {
    let problem = match error.problem().parameter() {
        Some("event" | "pushpull-event") => error.problem().clone().with_parameter("Pushpull-Event"),
        Some("key" | "pushpull-key") => error.problem().clone().with_parameter("Pushpull-Key"),
        Some("idempotency") => error.problem().clone().with_parameter("Idempotency-Key"),
        Some("type") => error.problem().clone().with_parameter("Content-Type"),
        _ => error.problem().clone(),
    };
    let outcome = Some(error.outcome());
    match (problem.kind(), error.outcome()) {
        (ErrorKind::Timeout, Outcome::NotApplied) => {
            let mut response = problem_response_as(StatusCode::REQUEST_TIMEOUT, &problem, outcome);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        _ => problem_response(&problem, outcome),
    }
}
