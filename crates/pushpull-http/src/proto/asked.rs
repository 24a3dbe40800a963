//! What a client asks for: the server's side.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use pushpull_core::{
    Conflate, Cursor, ErrorKind, Fetch, Message, Overflow, Pattern, Problem, Rate, Start, StartAt, Subscribe,
    Topic, TopicError, Topics,
};

use super::v1 as proto;
use crate::problem::MAX_BATCH;

/// Reads a subscription.
///
/// # Errors
/// [`ErrorKind::Invalid`](pushpull_core::ErrorKind::Invalid), naming the field at fault.
pub fn subscribe_of(asked: &proto::SubscribeRequest) -> Result<Subscribe, Problem> {
    let mut subscribe = Subscribe::new(topics_of(&asked.topics)?).from(start_of(&asked.after, asked.start)?);
    subscribe.overflow = overflow_of(asked.overflow)?;
    subscribe.conflate = conflate_of(asked.conflate)?;
    subscribe.window = NonZeroU32::new(asked.window);
    if asked.rate != 0.0 {
        let rate = Rate::per_second(asked.rate);
        subscribe.rate =
            Some(rate.ok_or_else(|| Problem::invalid("rate", "it must be a number from 0.1 to 1000"))?);
    }
    Ok(subscribe)
}

/// An option that only the first subscribe of a stream may bear, if there is one.
pub fn option_given(asked: &proto::SubscribeRequest) -> Option<&'static str> {
    let options = [
        ("after", !asked.after.is_empty()),
        ("start", asked.start != 0),
        ("overflow", asked.overflow != 0),
        ("conflate", asked.conflate != 0),
        ("rate", asked.rate != 0.0),
        ("window", asked.window != 0),
    ];
    options.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
}

/// Reads a question.
///
/// # Errors
/// [`ErrorKind::Invalid`](pushpull_core::ErrorKind::Invalid), naming the field at fault.
pub fn fetch_of(asked: &proto::FetchRequest) -> Result<Fetch, Problem> {
    let mut fetch = Fetch::new(topics_of(&asked.topics)?).from(start_of(&asked.after, asked.start)?);
    fetch.overflow = overflow_of(asked.overflow)?;
    if fetch.overflow == Overflow::Latest {
        return Err(Problem::invalid("overflow", "only a stream can skip to the newest"));
    }
    fetch.conflate = conflate_of(asked.conflate)?;
    let limit = match asked.limit as usize {
        0 => fetch.limit,
        limit @ 1..=Fetch::MAX_LIMIT => limit,
        _ => return Err(Problem::invalid("limit", "it must be a whole number from 1 to 1000")),
    };
    if u64::from(asked.wait) > Fetch::MAX_WAIT.as_secs() {
        return Err(Problem::invalid("wait", "it must be a whole number of seconds from 0 to 60"));
    }
    Ok(fetch.with_limit(limit).with_wait(Duration::from_secs(asked.wait.into())))
}

/// Reads what is to be published: 1 to [`MAX_BATCH`] messages. The idempotency id goes with the first.
///
/// # Errors
/// [`ErrorKind::TooLarge`] for more messages, else [`ErrorKind::Invalid`], naming the field at fault.
pub fn messages_of(asked: proto::PublishRequest) -> Result<(Topic, Vec<Message>), Problem> {
    let topic = Topic::new(&asked.topic)?;
    let one = proto::Message {
        event: asked.event,
        key: asked.key,
        content_type: asked.content_type,
        payload: asked.payload,
    };
    let mut given = asked.messages;
    if given.is_empty() {
        given.push(one);
    } else if one != proto::Message::default() {
        return Err(Problem::invalid("messages", "a batch describes each message by itself"));
    }
    if given.len() > MAX_BATCH {
        let detail = format!("a batch has at most {MAX_BATCH} messages");
        return Err(Problem::new(ErrorKind::TooLarge, detail).with_parameter("messages"));
    }
    let mut messages: Vec<_> = given.into_iter().map(message_of).collect::<Result<_, _>>()?;
    if let (Some(first), false) = (messages.first_mut(), asked.idempotency.is_empty()) {
        *first = first.clone().with_idempotency(asked.idempotency).check().map_err(Problem::from)?;
    }
    Ok((topic, messages))
}

fn message_of(given: proto::Message) -> Result<Message, Problem> {
    // A copy, since the payload is kept and would keep all that it arrived with: the frame may be far larger.
    let mut message = Message::new(Bytes::copy_from_slice(&given.payload));
    if !given.content_type.is_empty() {
        message = message.with_content_type(given.content_type);
    }
    if !given.event.is_empty() {
        message = message.with_name(given.event);
    }
    if !given.key.is_empty() {
        message = message.with_key(given.key);
    }
    message.check().map_err(|error| {
        let problem = Problem::from(error);
        match problem.parameter() {
            // What HTTP calls the type is a field of its own name here.
            Some("type") => problem.with_parameter("content_type"),
            _ => problem,
        }
    })
}

/// Reads a list of topics and patterns.
///
/// # Errors
/// [`ErrorKind::Invalid`](pushpull_core::ErrorKind::Invalid), naming the field at fault.
pub fn topics_of(texts: &[String]) -> Result<Topics, Problem> {
    let named = |error: TopicError| Problem::invalid("topics", error.to_string());
    let patterns: Vec<_> =
        texts.iter().map(|text| Pattern::new(text)).collect::<Result<_, _>>().map_err(named)?;
    Topics::new(patterns).map_err(named)
}

fn start_of(after: &str, start: i32) -> Result<StartAt, Problem> {
    if after.is_empty() {
        return Ok(match known("start", start)? {
            proto::Start::Unspecified | proto::Start::Latest => Start::Latest,
            proto::Start::Earliest => Start::Earliest,
            proto::Start::Last => Start::Last,
            proto::Start::Snapshot => Start::Snapshot,
        }
        .into());
    }
    if start != 0 {
        return Err(Problem::invalid("start", "it excludes `after`"));
    }
    let cursor = after.parse::<Cursor>();
    cursor.map(StartAt::After).map_err(|error| Problem::invalid("after", error.to_string()))
}

fn overflow_of(overflow: i32) -> Result<Overflow, Problem> {
    Ok(match known("overflow", overflow)? {
        proto::Overflow::Unspecified | proto::Overflow::Gap => Overflow::Gap,
        proto::Overflow::Close => Overflow::Close,
        proto::Overflow::Latest => Overflow::Latest,
    })
}

fn conflate_of(conflate: i32) -> Result<Conflate, Problem> {
    Ok(match known("conflate", conflate)? {
        proto::Conflate::Unspecified => Conflate::Off,
        proto::Conflate::Key => Conflate::Key,
    })
}

fn known<T: TryFrom<i32>>(parameter: &'static str, value: i32) -> Result<T, Problem> {
    T::try_from(value).map_err(|_| Problem::invalid(parameter, format!("there is no value {value}")))
}
