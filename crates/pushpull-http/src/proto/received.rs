//! What a server said.

use std::time::Duration;

use pushpull_core::{
    Cursor, DEFAULT_CONTENT_TYPE, Delivery, ErrorKind, Event, EventParts, Gap, GapReason, Message, Prev,
    Problem, Topic, View,
};

use super::v1::{self as proto, ServerFrame, server_frame};

/// A server frame, as far as a consumer minds it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Frame {
    /// An event, a gap, or a place that an answer told.
    Delivery(Delivery),
    /// The place, and how many events conflation left out so far.
    Heartbeat {
        /// Where it stands; `None` inside a snapshot.
        cursor: Option<Cursor>,
        /// Counted from the beginning of the subscription.
        conflated: u64,
    },
    /// What was asked for was refused.
    Error(Problem),
    /// The server goes away.
    Goaway {
        /// How long it asks to stay away.
        retry: Duration,
        /// Where to resume.
        cursor: Option<Cursor>,
    },
    /// Nothing to do: an answer, or one of a later version.
    Other,
}

/// Reads a frame.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is none.
pub fn frame_in(frame: ServerFrame) -> Result<Frame, Problem> {
    use server_frame::Frame as F;
    Ok(match frame.frame {
        Some(F::Event(event)) => Frame::Delivery(Delivery::Event(event_in(event)?)),
        Some(F::Gap(gap)) => Frame::Delivery(Delivery::Gap(gap_in(&gap)?)),
        Some(F::Heartbeat(beat)) => {
            Frame::Heartbeat { cursor: place_in(&beat.cursor)?, conflated: beat.conflated }
        }
        Some(F::Ok(ok)) => match place_in(&ok.cursor)? {
            Some(place) => Frame::Delivery(Delivery::Place(place)),
            None => Frame::Other,
        },
        Some(F::Error(error)) => Frame::Error(problem_in(error)),
        Some(F::Goaway(away)) => {
            Frame::Goaway { retry: Duration::from_millis(away.retry_ms), cursor: place_in(&away.cursor)? }
        }
        Some(F::Published(_)) | None => Frame::Other,
    })
}

fn event_in(event: proto::Event) -> Result<Event, Problem> {
    let mut message = Message::new(event.payload);
    if event.content_type != DEFAULT_CONTENT_TYPE {
        message = message.with_content_type(event.content_type);
    }
    if !event.event.is_empty() {
        message = message.with_name(event.event);
    }
    if !event.key.is_empty() {
        message = message.with_key(event.key);
    }
    let prev = match event.prev.as_deref() {
        None => Prev::Unknown,
        Some("") => Prev::First,
        Some(cursor) => Prev::At(cursor_in(cursor)?),
    };
    let topic = Topic::new(&event.topic).map_err(|_| protocol("an event names no topic"))?;
    let cursor = cursor_in(&event.cursor)?;
    let read = Event::new(EventParts { topic, cursor, prev, time_ms: event.time_ms, message });
    Ok(if event.snapshot { read.shown(View::Snapshot) } else { read })
}

/// Reads a gap. One of a reason that this version does not know counts as an eviction: something is gone.
fn gap_in(gap: &proto::Gap) -> Result<Gap, Problem> {
    let reason = match gap.reason() {
        proto::GapReason::Evicted | proto::GapReason::Unspecified => GapReason::Evicted,
        proto::GapReason::Lagged => GapReason::Lagged,
        proto::GapReason::Skipped => GapReason::Skipped,
        proto::GapReason::Rewound => GapReason::Rewound,
        proto::GapReason::Reset => GapReason::Reset,
    };
    Ok(Gap::new(cursor_in(&gap.after)?, cursor_in(&gap.before)?, cursor_in(&gap.cursor)?, reason))
}

fn problem_in(error: proto::Error) -> Problem {
    let slug = error.r#type.rsplit('/').next().unwrap_or_default();
    let kind = ErrorKind::from_slug(slug).unwrap_or(ErrorKind::Internal);
    let mut problem = Problem::new(kind, error.detail);
    if !error.parameter.is_empty() {
        problem = problem.with_parameter(error.parameter);
    }
    match error.retry_ms {
        Some(delay) => problem.with_retry(Duration::from_millis(delay)),
        None => problem,
    }
}

/// A place; empty for none.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is neither.
pub fn place_in(text: &str) -> Result<Option<Cursor>, Problem> {
    (!text.is_empty()).then(|| cursor_in(text)).transpose()
}

/// A place that must be there.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is none.
pub fn cursor_in(text: &str) -> Result<Cursor, Problem> {
    text.parse().map_err(|_| protocol("a cursor does not read"))
}

fn protocol(detail: &'static str) -> Problem {
    Problem::new(ErrorKind::Protocol, detail)
}
