//! How deliveries are written (WHATWG HTML 9.2.5; wire contract, section 4).

use std::{fmt::Write as _, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use memchr::memchr2;
use pushpull_core::{Cursor, Event, FormatKey, Gap, PayloadKind};
use pushpull_http::{
    Format, in_chunk,
    json::{event_json, gap_json},
};

use crate::{BINARY_EVENT, GAP_EVENT};

static RAW: FormatKey = FormatKey::new("sse-raw");
static JSON: FormatKey = FormatKey::new("sse-json");

/// A keep-alive that tells no place.
pub(crate) const COMMENT: &str = ":\n\n";

/// An event's block: made once, shared by all who see it alike.
pub(crate) fn event(event: &Event, format: Format) -> Bytes {
    match format {
        Format::Raw => event.encoded(&RAW, raw),
        _ => event.encoded(&JSON, json),
    }
}

/// What tells those whose chunks of events look alike.
pub(crate) fn chunk_form(format: Format) -> &'static FormatKey {
    if format == Format::Raw { &RAW } else { &JSON }
}

/// The blocks of events, as one chunk of HTTP/1.1.
pub(crate) fn chunk(events: &[Event], format: Format) -> Bytes {
    let blocks: Vec<Bytes> = events.iter().map(|one| event(one, format)).collect();
    in_chunk(&blocks)
}

/// A gap's block. `id` is the place to resume from, of which there is none in the middle of a snapshot.
pub(crate) fn gap(gap: &Gap, id: Option<Cursor>) -> String {
    let mut block = String::new();
    if let Some(id) = id {
        let _ = writeln!(block, "id: {id}");
    }
    let _ = write!(block, "event: {GAP_EVENT}\ndata: {}\n\n", gap_json(gap));
    block
}

/// A block that moves the place without firing an event: it has an id and no data.
pub(crate) fn place(cursor: Cursor) -> String {
    format!(":\nid: {cursor}\n\n")
}

/// A block that tells how long to wait before coming back and, where it is known, from where.
pub(crate) fn retry(delay: Duration, cursor: Option<Cursor>) -> String {
    let mut block = format!(":\nretry: {}\n", delay.as_millis());
    if let Some(cursor) = cursor {
        let _ = writeln!(block, "id: {cursor}");
    }
    block.push('\n');
    block
}

fn raw(event: &Event) -> Bytes {
    let payload = event.payload();
    let mut block = Vec::with_capacity(payload.len() + 96);
    match event.payload_kind() {
        PayloadKind::Binary => {
            head(event, Some(BINARY_EVENT), &mut block);
            data(STANDARD.encode(payload).as_bytes(), &mut block);
        }
        _ => {
            head(event, event.name(), &mut block);
            data(payload, &mut block);
        }
    }
    block.push(b'\n');
    block.into()
}

fn json(event: &Event) -> Bytes {
    let object = event_json(event);
    let mut block = Vec::with_capacity(object.len() + 96);
    head(event, event.name(), &mut block);
    data(&object, &mut block);
    block.push(b'\n');
    block.into()
}

/// Ids and names hold no line ends: cursors by their form, names by the check at publish.
fn head(event: &Event, name: Option<&str>, block: &mut Vec<u8>) {
    if !event.is_snapshot() {
        block.extend_from_slice(format!("id: {}\n", event.cursor()).as_bytes());
    }
    if let Some(name) = name {
        block.extend_from_slice(b"event: ");
        block.extend_from_slice(name.as_bytes());
        block.push(b'\n');
    }
}

/// One `data:` line for each line, whether CR, LF or CRLF ends it; one for an empty payload.
fn data(mut payload: &[u8], block: &mut Vec<u8>) {
    loop {
        let end = memchr2(b'\r', b'\n', payload);
        block.extend_from_slice(b"data: ");
        block.extend_from_slice(&payload[..end.unwrap_or(payload.len())]);
        block.push(b'\n');
        let Some(end) = end else { return };
        let is_pair = payload[end..].starts_with(b"\r\n");
        payload = &payload[end + if is_pair { 2 } else { 1 }..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pushpull_core::{Epoch, EventParts, GapReason, Message, Prev, View};

    use super::*;

    fn made(message: Message) -> Event {
        Event::new(EventParts {
            topic: "a".parse().unwrap(),
            cursor: Cursor::new(Epoch::from_random(36), 7),
            prev: Prev::First,
            time_ms: 5,
            message: message.check().unwrap(),
        })
    }

    fn written(message: Message, format: Format) -> String {
        String::from_utf8(event(&made(message), format).to_vec()).unwrap()
    }

    #[test]
    fn raw_blocks() {
        for (message, block) in [
            (Message::text("hello"), "id: 10-7\ndata: hello\n\n"),
            (Message::text(""), "id: 10-7\ndata: \n\n"),
            (Message::text(" lead"), "id: 10-7\ndata:  lead\n\n"),
            (Message::text("a\nb\rc\r\nd"), "id: 10-7\ndata: a\ndata: b\ndata: c\ndata: d\n\n"),
            (Message::text("a\n"), "id: 10-7\ndata: a\ndata: \n\n"),
            (Message::text("\r\rid: x"), "id: 10-7\ndata: \ndata: \ndata: id: x\n\n"),
            (Message::text("x").with_name("trade"), "id: 10-7\nevent: trade\ndata: x\n\n"),
            (Message::new("\u{1}").with_name("trade"), "id: 10-7\nevent: pushpull-binary\ndata: AQ==\n\n"),
        ] {
            assert_eq!(written(message, Format::Raw), block);
        }
    }

    #[test]
    fn json_blocks_are_the_object_on_one_line() {
        let block = written(Message::text("a\nb").with_name("n"), Format::Json);
        let object = "{\"topic\":\"a\",\"cursor\":\"10-7\",\"prev\":null,\"time\":5,\"event\":\"n\",\
                      \"type\":\"text/plain; charset=utf-8\",\"data\":\"a\\nb\"}";
        assert_eq!(block, format!("id: 10-7\nevent: n\ndata: {object}\n\n"));
    }

    #[test]
    fn a_snapshots_events_and_gaps_bear_no_id() {
        let event = made(Message::text("x")).shown(View::Snapshot);
        assert_eq!(super::event(&event, Format::Raw), "data: x\n\n");
        let at = |seq| Cursor::new(Epoch::from_random(36), seq);
        let told = Gap::new(at(1), at(5), at(1), GapReason::Evicted);
        let object =
            "{\"gap\":{\"after\":\"10-1\",\"before\":\"10-5\",\"cursor\":\"10-1\",\"reason\":\"evicted\"}}";
        assert_eq!(gap(&told, None), format!("event: pushpull-gap\ndata: {object}\n\n"));
        assert_eq!(gap(&told, Some(at(1))), format!("id: 10-1\nevent: pushpull-gap\ndata: {object}\n\n"));
    }

    /// The algorithm of 9.2.6, to the letter, for one block.
    fn read_back(block: &str) -> Option<String> {
        let mut buffer = None::<String>;
        let text = block.replace("\r\n", "\n").replace('\r', "\n");
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            if field == "data" {
                let buffer = buffer.get_or_insert_default();
                buffer.push_str(value.strip_prefix(' ').unwrap_or(value));
                buffer.push('\n');
            }
        }
        buffer.map(|buffer| buffer.strip_suffix('\n').unwrap_or(&buffer).to_owned())
    }

    proptest! {
        #[test]
        fn data_is_the_payload_with_lf_for_every_line_end(text in "[a: \r\n\u{85}\u{2028}é]{0,12}") {
            let expected = text.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(read_back(&written(Message::text(text), Format::Raw)), Some(expected));
        }
    }
}
