//! What a client asks for: the client's side.

use std::num::NonZeroU32;

use pushpull_core::{Conflate, Fetch, Message, Overflow, Rate, Start, StartAt, Subscribe, Topic, Topics};

use super::v1 as proto;

/// Asks for a subscription.
pub fn ask_subscribe(subscribe: &Subscribe) -> proto::SubscribeRequest {
    let (after, start) = ask_start(subscribe.start);
    proto::SubscribeRequest {
        topics: ask_topics(&subscribe.topics),
        after,
        start,
        overflow: ask_overflow(subscribe.overflow),
        conflate: ask_conflate(subscribe.conflate),
        rate: subscribe.rate.map_or(0.0, Rate::as_f64),
        window: subscribe.window.map_or(0, NonZeroU32::get),
        id: None,
    }
}

/// Asks a question. A wait goes in whole seconds, rounded down.
pub fn ask_fetch(fetch: &Fetch) -> proto::FetchRequest {
    let (after, start) = ask_start(fetch.start);
    proto::FetchRequest {
        topics: ask_topics(&fetch.topics),
        after,
        start,
        overflow: ask_overflow(fetch.overflow),
        conflate: ask_conflate(fetch.conflate),
        limit: fetch.limit.clamp(1, Fetch::MAX_LIMIT) as u32,
        wait: fetch.wait.min(Fetch::MAX_WAIT).as_secs() as u32,
    }
}

/// Asks to publish; the idempotency id of the first message stands for all.
pub fn ask_publish(topic: &Topic, messages: &[Message], idempotency: String) -> proto::PublishRequest {
    let mut asked =
        proto::PublishRequest { topic: topic.to_string(), idempotency, ..proto::PublishRequest::default() };
    if let [one] = messages {
        let one = ask_message(one);
        (asked.event, asked.key, asked.content_type, asked.payload) =
            (one.event, one.key, one.content_type, one.payload);
    } else {
        asked.messages = messages.iter().map(ask_message).collect();
    }
    asked
}

fn ask_message(message: &Message) -> proto::Message {
    proto::Message {
        event: message.name().unwrap_or_default().to_owned(),
        key: message.key().unwrap_or_default().to_owned(),
        content_type: message.content_type().to_owned(),
        payload: message.payload().clone(),
    }
}

fn ask_topics(topics: &Topics) -> Vec<String> {
    topics.iter().map(ToString::to_string).collect()
}

fn ask_start(start: StartAt) -> (String, i32) {
    let start = match start {
        StartAt::After(cursor) => return (cursor.to_string(), 0),
        StartAt::Start(Start::Earliest) => proto::Start::Earliest,
        StartAt::Start(Start::Last) => proto::Start::Last,
        StartAt::Start(Start::Snapshot) => proto::Start::Snapshot,
        StartAt::Start(_) => proto::Start::Latest,
    };
    (String::new(), start.into())
}

fn ask_overflow(overflow: Overflow) -> i32 {
    match overflow {
        Overflow::Close => proto::Overflow::Close.into(),
        Overflow::Latest => proto::Overflow::Latest.into(),
        _ => proto::Overflow::Gap.into(),
    }
}

fn ask_conflate(conflate: Conflate) -> i32 {
    match conflate {
        Conflate::Key => proto::Conflate::Key.into(),
        _ => proto::Conflate::Unspecified.into(),
    }
}
