//! The frames of events: made once, shared by all whose frames look alike.

use bytes::Bytes;
use prost::Message;
use pushpull_core::{Event, FormatKey, PayloadKind};
use pushpull_http::{Format, json::event_json, proto};
use tungstenite::protocol::frame::coding::OpCode;

use super::Shape;
use crate::{
    Subprotocol,
    deflate::deflate,
    frame::{self, BINARY, TEXT},
    handshake::Mode,
};

/// One way in which an event is written, plain and deflated.
struct Form {
    plain: FormatKey,
    deflated: FormatKey,
    write: fn(&Event) -> Bytes,
    /// Nothing where it would not be smaller.
    squeeze: fn(&Event) -> Option<Bytes>,
}

static RAW: Form = Form {
    plain: FormatKey::new("ws-raw"),
    deflated: FormatKey::new("ws-raw-deflated"),
    write: |event| frame::encode(opcode(event), event.payload(), None),
    squeeze: |event| squeezed(opcode(event), event.payload()),
};
static JSON: Form = Form {
    plain: FormatKey::new("ws-json"),
    deflated: FormatKey::new("ws-json-deflated"),
    write: |event| frame::encode(TEXT, &event_json(event), None),
    squeeze: |event| squeezed(TEXT, &event_json(event)),
};
static PROTO: Form = Form {
    plain: FormatKey::new("ws-proto"),
    deflated: FormatKey::new("ws-proto-deflated"),
    write: |event| {
        let frame = proto::event_frame(event);
        frame::encode_with(BINARY, frame.encoded_len(), |payload| frame.encode_raw(payload))
    },
    squeeze: |event| squeezed(BINARY, &proto::event_frame(event).encode_to_vec()),
};

/// An event's frame.
pub(crate) fn event_frame(event: &Event, shape: Shape) -> Bytes {
    let form = form(shape);
    let plain = |event: &Event| event.encoded(&form.plain, form.write);
    match shape.deflate {
        true => event.encoded(&form.deflated, |event| (form.squeeze)(event).unwrap_or_else(|| plain(event))),
        false => plain(event),
    }
}

/// What tells those whose frames look alike.
pub(crate) fn frame_form(shape: Shape) -> &'static FormatKey {
    let form = form(shape);
    if shape.deflate { &form.deflated } else { &form.plain }
}

/// The frames of events, one behind the other.
pub(crate) fn joined_frames(events: &[Event], shape: Shape) -> Bytes {
    if let [one] = events {
        return event_frame(one, shape);
    }
    let frames: Vec<Bytes> = events.iter().map(|event| event_frame(event, shape)).collect();
    frames.concat().into()
}

fn form(shape: Shape) -> &'static Form {
    match (shape.mode, shape.format) {
        (Mode::Framed(Subprotocol::Proto), _) => &PROTO,
        (_, Format::Raw) => &RAW,
        _ => &JSON,
    }
}

fn opcode(event: &Event) -> OpCode {
    if event.payload_kind() == PayloadKind::Binary { BINARY } else { TEXT }
}

fn squeezed(opcode: OpCode, payload: &[u8]) -> Option<Bytes> {
    deflate(payload).map(|deflated| frame::encode_deflated(opcode, &deflated))
}

#[cfg(test)]
mod tests {
    use pushpull_core::{Cursor, EncodingAccount, Epoch, EventParts, Message, Prev};

    use super::*;

    #[test]
    fn an_event_is_written_once_for_all_whose_frames_look_alike() {
        let parts = EventParts {
            topic: "a".parse().unwrap(),
            cursor: Cursor::new(Epoch::from_random(7), 3),
            prev: Prev::Unknown,
            time_ms: 1,
            message: Message::text("again and ".repeat(100)),
        };
        let event = Event::keeping_encodings(parts, EncodingAccount::default());
        let framed = |subprotocol| (Mode::Framed(subprotocol), Format::Json);
        let looks = [(Mode::Raw, Format::Raw), framed(Subprotocol::Json), framed(Subprotocol::Proto)];
        let mut seen: Vec<Bytes> = Vec::new();
        for (mode, format) in looks {
            for deflate in [false, true] {
                let shape = Shape { mode, format, deflate };
                let frame = event_frame(&event, shape);
                assert_eq!(frame.as_ptr(), event_frame(&event.clone(), shape).as_ptr(), "{shape:?}");
                assert!(!seen.contains(&frame), "{shape:?}");
                seen.push(frame);
            }
        }
    }
}
