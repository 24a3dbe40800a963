//! What is written of an event. Whatever a batch does with it, all of it must go into the output.

use std::error::Error;

use pushpull::{Cursor, Event, PayloadKind};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Record<'a> {
    cursor: Cursor,
    topic: &'a str,
    data: Data<'a>,
}

/// A payload: JSON as it is, text as a string, all else as an array of numbers.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// The event as one line of JSON, its end included.
pub(crate) fn line(event: &Event) -> Result<Vec<u8>, Box<dyn Error>> {
    let data = match event.payload_kind() {
        PayloadKind::Json if !event.payload().is_empty() => Data::Json(event.json()?),
        PayloadKind::Text => Data::Text(std::str::from_utf8(event.payload())?),
        _ => Data::Bytes(event.payload()),
    };
    let record = Record { cursor: event.cursor(), topic: event.topic().as_str(), data };
    let mut line = serde_json::to_vec(&record)?;
    line.push(b'\n');
    Ok(line)
}
