//! What is written of an event. Whatever a batch does with it, all of it must go into the output.

use std::error::Error;

use base64::{Engine, prelude::BASE64_STANDARD};
use pushpull::{Cursor, Event, PayloadKind, Prev};
use serde::Serialize;
use serde_json::value::RawValue;

/// The object that every transport has for an event (wire contract, section 3).
#[derive(Serialize)]
struct Record<'a> {
    topic: &'a str,
    cursor: Cursor,
    /// `null` says that it is the topic's first; left out where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<Option<Cursor>>,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(rename = "type")]
    content_type: &'a str,
    #[serde(flatten)]
    payload: Payload<'a>,
}

/// A payload, of which its member says what it is: nothing else could tell bytes from an array of numbers.
#[derive(Serialize)]
enum Payload<'a> {
    /// JSON as it came.
    #[serde(rename = "data")]
    Json(&'a RawValue),
    #[serde(rename = "data")]
    Text(&'a str),
    /// Everything else, in base64.
    #[serde(rename = "data64")]
    Bytes(String),
}

/// The event as one line of JSON, its end included.
pub(crate) fn line(event: &Event) -> Result<Vec<u8>, Box<dyn Error>> {
    let record = Record {
        topic: event.topic().as_str(),
        cursor: event.cursor(),
        prev: match event.prev() {
            Prev::First => Some(None),
            Prev::At(cursor) => Some(Some(cursor)),
            Prev::Unknown => None,
        },
        time: event.time_ms(),
        event: event.name(),
        key: event.key(),
        content_type: event.content_type(),
        payload: payload(event)?,
    };
    let mut line = serde_json::to_vec(&record)?;
    line.push(b'\n');
    Ok(line)
}

fn payload(event: &Event) -> Result<Payload<'_>, serde_json::Error> {
    let bytes = event.payload();
    Ok(match (event.payload_kind(), std::str::from_utf8(bytes)) {
        (PayloadKind::Json, _) if !bytes.is_empty() => Payload::Json(event.json()?),
        (PayloadKind::Text, Ok(text)) => Payload::Text(text),
        // The removal of a key is empty, of whatever type.
        _ => Payload::Bytes(BASE64_STANDARD.encode(bytes)),
    })
}

#[cfg(test)]
mod tests {
    use pushpull::{EventParts, Message};

    use super::*;

    fn written(message: Message, prev: Prev) -> String {
        let parts = EventParts {
            topic: "a.b".parse().unwrap(),
            cursor: "k1-3".parse().unwrap(),
            prev,
            time_ms: 17,
            message,
        };
        String::from_utf8(line(&Event::new(parts)).unwrap()).unwrap()
    }

    #[test]
    fn a_record_is_the_object_of_the_wire_contract() {
        let full = Message::json(&[104, 105]).unwrap().with_key("k").with_name("n");
        assert_eq!(
            written(full, Prev::At("k1-2".parse().unwrap())),
            "{\"topic\":\"a.b\",\"cursor\":\"k1-3\",\"prev\":\"k1-2\",\"time\":17,\"event\":\"n\",\"key\":\"k\",\
             \"type\":\"application/json\",\"data\":[104,105]}\n"
        );
        assert_eq!(
            written(Message::new("hi"), Prev::Unknown),
            "{\"topic\":\"a.b\",\"cursor\":\"k1-3\",\"time\":17,\"type\":\"application/octet-stream\",\
             \"data64\":\"aGk=\"}\n"
        );
    }

    #[test]
    fn what_a_payload_is_can_be_told_by_its_member() {
        let first = |message| written(message, Prev::First);
        assert!(
            first(Message::json(&"hi").unwrap())
                .ends_with(",\"type\":\"application/json\",\"data\":\"hi\"}\n")
        );
        assert!(first(Message::text("hi")).ends_with(",\"data\":\"hi\"}\n"));
        let removed = first(Message::new("").with_key("k"));
        assert!(removed.contains(",\"prev\":null,") && removed.ends_with(",\"data64\":\"\"}\n"), "{removed}");
    }
}
