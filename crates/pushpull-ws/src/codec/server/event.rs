//! The frames of events: made once, shared by all whose frames look alike.

use bytes::Bytes;
use pushpull_core::{Event, FormatKey, PayloadKind};
use pushpull_http::{Format, json::event_json};
use tungstenite::protocol::frame::coding::OpCode;

use super::Shape;
use crate::{
    deflate::deflate,
    frame::{self, BINARY, TEXT},
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

/// An event's frame.
pub(crate) fn event_frame(event: &Event, shape: Shape) -> Bytes {
    let form = form(shape);
    let plain = |event: &Event| event.encoded(&form.plain, form.write);
    match shape.deflate {
        true => event.encoded(&form.deflated, |event| (form.squeeze)(event).unwrap_or_else(|| plain(event))),
        false => plain(event),
    }
}

fn form(shape: Shape) -> &'static Form {
    match shape.format {
        Format::Raw => &RAW,
        _ => &JSON,
    }
}

fn opcode(event: &Event) -> OpCode {
    if event.payload_kind() == PayloadKind::Binary { BINARY } else { TEXT }
}

fn squeezed(opcode: OpCode, payload: &[u8]) -> Option<Bytes> {
    deflate(payload).map(|deflated| frame::encode_deflated(opcode, &deflated))
}
