//! What a server says.

use std::time::Duration;

use bytes::Bytes;
use pushpull_core::{Cursor, Event, Gap, GapReason, Outcome, Prev, Problem, Published, Retry};

use super::v1::{self as proto, ServerFrame, server_frame};
use crate::problem::{TYPE_PREFIX, outcome_word, status_of, title};

/// The frame of `event`.
pub fn event_frame(event: &Event) -> ServerFrame {
    frame(server_frame::Frame::Event(event_of(event)))
}

/// The frame of `gap`.
pub fn gap_frame(gap: &Gap) -> ServerFrame {
    frame(server_frame::Frame::Gap(proto::Gap {
        after: gap.after.to_string(),
        before: gap.before.to_string(),
        cursor: gap.cursor.to_string(),
        reason: reason_of(gap.reason).into(),
    }))
}

/// Tells the place, if there is one, and how many events conflation left out so far.
pub fn heartbeat(place: Option<Cursor>, conflated: u64) -> ServerFrame {
    frame(server_frame::Frame::Heartbeat(proto::Heartbeat { cursor: place_of(place), conflated }))
}

/// Answers a subscribe, unsubscribe or credit.
pub fn ok(id: Option<u64>, place: Option<Cursor>) -> ServerFrame {
    frame(server_frame::Frame::Ok(proto::Ok { id, cursor: place_of(place) }))
}

/// Answers a publish.
pub fn published(id: Option<u64>, published: &Published) -> ServerFrame {
    let (first, last) = (published.first.to_string(), published.last.to_string());
    let (cursor, count) = (last.clone(), published.count);
    frame(server_frame::Frame::Published(proto::Published { id, cursor, first, last, count }))
}

/// Tells what is wrong with a frame. With `outcome` it was a publish.
pub fn error(id: Option<u64>, problem: &Problem, outcome: Option<Outcome>) -> ServerFrame {
    frame(server_frame::Frame::Error(proto::Error {
        id,
        r#type: TYPE_PREFIX.to_owned() + problem.kind().slug(),
        title: title(problem.kind()).to_owned(),
        status: status_of(problem, outcome).as_u16().into(),
        detail: problem.detail().to_owned(),
        parameter: problem.parameter().unwrap_or_default().to_owned(),
        outcome: outcome.map(outcome_word).unwrap_or_default().to_owned(),
        retry_ms: match problem.retry() {
            Retry::After(delay) => Some(millis(delay)),
            _ => None,
        },
    }))
}

/// Tells when and from where to come back.
pub fn goaway(retry: Duration, place: Option<Cursor>) -> ServerFrame {
    frame(server_frame::Frame::Goaway(proto::Goaway { retry_ms: millis(retry), cursor: place_of(place) }))
}

fn place_of(place: Option<Cursor>) -> String {
    place.map(|place| place.to_string()).unwrap_or_default()
}

fn millis(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

fn frame(what: server_frame::Frame) -> ServerFrame {
    ServerFrame { frame: Some(what), padding: Bytes::new() }
}

fn event_of(event: &Event) -> proto::Event {
    proto::Event {
        topic: event.topic().to_string(),
        cursor: event.cursor().to_string(),
        prev: match event.prev() {
            Prev::First => Some(String::new()),
            Prev::At(cursor) => Some(cursor.to_string()),
            Prev::Unknown => None,
        },
        time_ms: event.time_ms(),
        event: event.name().unwrap_or_default().to_owned(),
        key: event.key().unwrap_or_default().to_owned(),
        content_type: event.content_type().to_owned(),
        payload: event.payload().clone(),
        snapshot: event.is_snapshot(),
    }
}

fn reason_of(reason: GapReason) -> proto::GapReason {
    match reason {
        GapReason::Evicted => proto::GapReason::Evicted,
        GapReason::Lagged => proto::GapReason::Lagged,
        GapReason::Skipped => proto::GapReason::Skipped,
        GapReason::Rewound => proto::GapReason::Rewound,
        GapReason::Reset => proto::GapReason::Reset,
        _ => proto::GapReason::Unspecified,
    }
}
