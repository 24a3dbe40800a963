//! What a server says.

use bytes::Bytes;
use pushpull_core::{Event, Gap, GapReason, Prev};

use super::v1::{self as proto, ServerFrame, server_frame};

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
