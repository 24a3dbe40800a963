//! Publishing by POST.

use std::{fmt::Write as _, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pushpull_core::{
    Backoff, Context, Cursor, ErrorKind, FailFast, Message, Outcome, PayloadKind, Problem, Producer,
    PublishError, Published, Retry, Topic,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{HttpClient, MAX_PROBLEM};
use crate::problem::parse_publish_error;

/// How long a publish may take if its context names no deadline: 30 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one attempt may take: 10 s.
const ATTEMPT: Duration = Duration::from_secs(10);

/// A [`Producer`] by `POST /topics/{topic}` (wire contract, section 4).
///
/// Every publish bears an idempotency id, one made here if the message has none, so that an attempt whose answer
/// was lost is repeated safely until the context's deadline (30 s if it has none). Several messages go as one
/// batch if they are JSON and differ in their payloads only.
#[derive(Clone, Debug)]
pub struct HttpProducer {
    client: HttpClient,
}

impl HttpProducer {
    /// Publishes over `client`.
    pub fn new(client: HttpClient) -> Self {
        Self { client }
    }

    async fn attempt(&self, post: &Post, deadline: Instant) -> Result<Published, PublishError> {
        let until = deadline.min(Instant::now() + ATTEMPT);
        let (path, headers, body) = (&post.path, post.headers.clone(), post.body.clone());
        let sent = self.client.send(Method::POST, path, headers, body, until).await;
        let answer = sent.map_err(|error| match error.unsent {
            true => PublishError::not_applied(error.problem),
            false => PublishError::unknown(error.problem),
        })?;
        let (status, headers) = (answer.status, answer.headers.clone());
        let body = answer.bytes(MAX_PROBLEM, until).await.map_err(PublishError::unknown)?;
        match status {
            StatusCode::CREATED => parse_published(&body),
            _ => Err(parse_publish_error(status, &headers, &body)),
        }
    }
}

#[async_trait]
impl Producer for HttpProducer {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        let post = Post::new(topic, messages).map_err(PublishError::not_applied)?;
        let deadline = cx.deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        let is_hasty = cx.extensions.get::<FailFast>().is_some();
        let mut backoff = Backoff::default();
        let mut outcome = Outcome::NotApplied;
        loop {
            let error = match self.attempt(&post, deadline).await {
                Ok(published) => return Ok(published),
                Err(error) => error,
            };
            if error.outcome() == Outcome::Unknown {
                outcome = Outcome::Unknown;
            }
            let delay = match error.retry() {
                Retry::After(hint) => hint.max(backoff.next_delay()),
                _ => backoff.next_delay(),
            };
            let problem = error.problem().clone();
            let is_enough = !error.is_retryable() || (is_hasty && error.outcome() == Outcome::NotApplied);
            if is_enough || Instant::now() + delay >= deadline {
                return Err(match outcome {
                    Outcome::NotApplied => PublishError::not_applied(problem),
                    _ => PublishError::unknown(problem),
                });
            }
            tokio::time::sleep(delay).await;
        }
    }
}

/// One request, the same at every attempt.
struct Post {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Post {
    fn new(topic: &Topic, messages: &[Message]) -> Result<Self, Problem> {
        let messages: Vec<Message> =
            messages.iter().map(|message| message.clone().check()).collect::<Result<_, _>>()?;
        let path = format!("/topics/{topic}");
        match &messages[..] {
            [] => Err(Problem::invalid("messages", "there is no message to publish")),
            [one] => {
                Ok(Self { path, headers: headers(one, one.content_type())?, body: one.payload().clone() })
            }
            [first, ..] => {
                let body = lines(&messages)?;
                let headers = headers(first, "application/x-ndjson")?;
                Ok(Self { path: path + "?batch=ndjson", headers, body })
            }
        }
    }
}

fn headers(message: &Message, content_type: &str) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    let encoded = [("pushpull-event", message.name()), ("pushpull-key", message.key())];
    for (name, text) in encoded {
        if let Some(text) = text {
            crate::headers::insert_encoded(&mut headers, HeaderName::from_static(name), text);
        }
    }
    let id = match message.idempotency() {
        Some(id) => id.to_owned(),
        None => random_id(),
    };
    let texts = [(header::CONTENT_TYPE, content_type), (HeaderName::from_static("idempotency-key"), &id)];
    for (name, text) in texts {
        let value = HeaderValue::from_bytes(text.as_bytes());
        let value =
            value.map_err(|_| Problem::invalid(name.as_str().to_owned(), "it cannot stand in a header"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn random_id() -> String {
    let mut id = String::with_capacity(32);
    for _ in 0..2 {
        // Writing to a string does not fail.
        let _ = write!(id, "{:016x}", fastrand::u64(..));
    }
    id
}

/// The payloads as lines, if the messages differ in nothing else.
fn lines(messages: &[Message]) -> Result<Bytes, Problem> {
    let shape = |message: &Message| (message.name().map(str::to_owned), message.key().map(str::to_owned));
    let first = messages.first().map(shape);
    let alike = messages
        .iter()
        .all(|message| message.content_type() == "application/json" && Some(shape(message)) == first);
    if !alike || messages.iter().any(|message| message.payload_kind() != PayloadKind::Json) {
        let detail = "over HTTP only application/json messages of one event name and key go as one batch";
        return Err(Problem::new(ErrorKind::Unsupported, detail));
    }
    let mut body = Vec::new();
    for message in messages {
        body.extend_from_slice(message.payload());
        body.push(b'\n');
    }
    Ok(body.into())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answered {
    One { cursor: Cursor },
    Batch { first: Cursor, last: Cursor, count: u64 },
}

fn parse_published(body: &[u8]) -> Result<Published, PublishError> {
    match serde_json::from_slice(body) {
        Ok(Answered::One { cursor }) => Ok(Published::new(cursor, cursor, 1)),
        Ok(Answered::Batch { first, last, count }) => Ok(Published::new(first, last, count)),
        Err(error) => {
            let problem = Problem::new(ErrorKind::Protocol, format!("not the answer to a publish: {error}"));
            Err(PublishError::unknown(problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_of_messages_that_are_alike() {
        let json = |n: u32| Message::json(&n).unwrap();
        let topic = "a".parse().unwrap();
        let post = Post::new(&topic, &[json(1), json(2)]).unwrap();
        assert_eq!((post.path.as_str(), &post.body[..]), ("/topics/a?batch=ndjson", &b"1\n2\n"[..]));
        assert_eq!(post.headers["content-type"], "application/x-ndjson");
        let mixed = Post::new(&topic, &[json(1), Message::text("2")]);
        assert_eq!(mixed.err().unwrap().kind(), ErrorKind::Unsupported);
        let keyed = Post::new(&topic, &[json(1).with_key("a"), json(2).with_key("b")]);
        assert_eq!(keyed.err().unwrap().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn every_publish_bears_an_idempotency_id() {
        let topic = "a".parse().unwrap();
        let ids: Vec<_> =
            [Message::text("x"), Message::text("x"), Message::text("x").with_idempotency("mine")]
                .iter()
                .map(|message| {
                    Post::new(&topic, std::slice::from_ref(message)).unwrap().headers["idempotency-key"]
                        .clone()
                })
                .collect();
        assert_eq!((ids[0].len(), &ids[2]), (32, &HeaderValue::from_static("mine")));
        assert_ne!(ids[0], ids[1]);
    }
}
