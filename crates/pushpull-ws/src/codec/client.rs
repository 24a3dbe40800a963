//! The client's side: reads server frames, writes client frames.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use pushpull_core::{Cursor, Delivery, ErrorKind, Problem};
use pushpull_http::{
    json::{Item, parse_item},
    proto::{self, Frame, v1},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::protocol::frame::coding::OpCode;

use crate::{
    Subprotocol,
    decoder::Message,
    frame::{BINARY, TEXT},
};

/// What a server tells.
#[derive(Debug)]
pub(crate) enum ServerFrame {
    Delivery(Delivery),
    Heartbeat {
        cursor: Option<Cursor>,
        conflated: u64,
    },
    GoAway {
        retry: Duration,
        cursor: Option<Cursor>,
    },
    /// Answers what a feed does not ask, or tells what a later version may add.
    Other,
}

/// Reads the frames of a data message.
///
/// # Errors
/// [`ErrorKind::Protocol`] if any is none, or the message is of the other kind.
pub(crate) fn parse_server_frames(
    message: Message,
    subprotocol: Subprotocol,
) -> Result<Vec<ServerFrame>, Problem> {
    match (subprotocol, message) {
        (Subprotocol::Json, Message::Text(text)) => parse_json(&text),
        (Subprotocol::Proto, Message::Binary(bytes)) => Ok(vec![parse_proto(bytes)?]),
        _ => Err(Problem::new(ErrorKind::Protocol, "a message of the wrong kind")),
    }
}

/// Grants `events` more.
pub(crate) fn credit(events: u64, subprotocol: Subprotocol) -> (OpCode, Vec<u8>) {
    match subprotocol {
        Subprotocol::Json => (TEXT, format!(r#"{{"credit":{{"events":{events}}}}}"#).into_bytes()),
        Subprotocol::Proto => {
            let credit = v1::client_frame::Frame::Credit(v1::Credit { events, id: None });
            (BINARY, v1::ClientFrame { frame: Some(credit) }.encode_to_vec())
        }
    }
}

fn parse_proto(bytes: Bytes) -> Result<ServerFrame, Problem> {
    let frame = v1::ServerFrame::decode(bytes).map_err(|error| no_frame().with_source(error))?;
    Ok(match proto::frame_in(frame)? {
        // Answers are for who asks by frames, which a feed does only for credit.
        Frame::Delivery(Delivery::Place(_)) => ServerFrame::Other,
        Frame::Delivery(delivery) => ServerFrame::Delivery(delivery),
        Frame::Heartbeat { cursor, conflated } => ServerFrame::Heartbeat { cursor, conflated },
        Frame::Goaway { retry, cursor } => ServerFrame::GoAway { retry, cursor },
        _ => ServerFrame::Other,
    })
}

#[derive(Deserialize)]
struct Wire {
    heartbeat: Option<Heartbeat>,
    goaway: Option<GoAway>,
    gap: Option<serde::de::IgnoredAny>,
    topic: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Heartbeat {
    cursor: Option<Cursor>,
    #[serde(default)]
    conflated: u64,
}

#[derive(Deserialize)]
struct GoAway {
    #[serde(default)]
    retry: u64,
    cursor: Option<Cursor>,
}

/// Reads one object, or an array of them.
fn parse_json(text: &[u8]) -> Result<Vec<ServerFrame>, Problem> {
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return Ok(vec![parse_server_frame(text)?]);
    }
    let frames: Vec<&RawValue> = serde_json::from_slice(text).map_err(|_| no_frame())?;
    frames.into_iter().map(|frame| parse_server_frame(frame.get().as_bytes())).collect()
}

fn no_frame() -> Problem {
    Problem::new(ErrorKind::Protocol, "a message is no server frame")
}

fn parse_server_frame(text: &[u8]) -> Result<ServerFrame, Problem> {
    if text.starts_with(br#"{"topic""#) {
        return parse_item(text).map(delivery);
    }
    let wire: Wire = serde_json::from_slice(text).map_err(|error| no_frame().with_source(error))?;
    Ok(match wire {
        Wire { heartbeat: Some(Heartbeat { cursor, conflated }), .. } => {
            ServerFrame::Heartbeat { cursor, conflated }
        }
        Wire { goaway: Some(GoAway { retry, cursor }), .. } => {
            ServerFrame::GoAway { retry: Duration::from_millis(retry), cursor }
        }
        Wire { gap: None, topic: None, .. } => ServerFrame::Other,
        _ => delivery(parse_item(text)?),
    })
}

fn delivery(item: Item) -> ServerFrame {
    match item {
        Item::Event(event) => ServerFrame::Delivery(Delivery::Event(event)),
        Item::Gap(gap) => ServerFrame::Delivery(Delivery::Gap(gap)),
        _ => ServerFrame::Other,
    }
}
