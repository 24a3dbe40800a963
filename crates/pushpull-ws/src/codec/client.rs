//! The client's side: reads server frames, writes client frames.

use std::time::Duration;

use pushpull_core::{Cursor, ErrorKind, Problem};
use pushpull_http::json::{Item, parse_item};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a server tells.
#[derive(Debug)]
pub(crate) enum ServerFrame {
    Item(Item),
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
///
/// # Errors
/// [`ErrorKind::Protocol`] if any is none.
pub(crate) fn parse_server_frames(text: &[u8]) -> Result<Vec<ServerFrame>, Problem> {
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
        return parse_item(text).map(ServerFrame::Item);
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
        _ => ServerFrame::Item(parse_item(text)?),
    })
}

/// Grants `events` more.
pub(crate) fn credit(events: u64) -> String {
    format!(r#"{{"credit":{{"events":{events}}}}}"#)
}
