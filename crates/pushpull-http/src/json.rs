//! Events and gaps as JSON (wire contract, section 3), and back.

use std::{borrow::Cow, io::Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use pushpull_core::{
    Cursor, ErrorKind, Event, EventParts, FormatKey, Gap, Message, PayloadKind, Prev, Problem, Topic, View,
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The kept encoding of [`event_json`].
pub static JSON: FormatKey = FormatKey::new("json");

/// An event or a gap, as one JSON object says it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// An event.
    Event(Event),
    /// A gap.
    Gap(Gap),
}

/// The object of an event on one line, made once for each event and shared.
pub fn event_json(event: &Event) -> Bytes {
    event.encoded(&JSON, |event| {
        let mut out = Vec::with_capacity(event.payload().len() + 192);
        write_event(event, &mut out);
        out.into()
    })
}

/// The object of a gap on one line.
pub fn gap_json(gap: &Gap) -> String {
    let Gap { after, before, cursor, reason, .. } = gap;
    format!(r#"{{"gap":{{"after":"{after}","before":"{before}","cursor":"{cursor}","reason":"{reason}"}}}}"#)
}

/// Appends `text` to `out` as a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    // Neither writing to a Vec nor serializing a str can fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_event(event: &Event, out: &mut Vec<u8>) {
    write_cursor(r#"{"topic":""#, event.topic(), out);
    write_cursor(r#"","cursor":""#, &event.cursor(), out);
    match event.prev() {
        Prev::First => out.extend(br#"","prev":null,"#),
        Prev::At(cursor) => {
            write_cursor(r#"","prev":""#, &cursor, out);
            out.extend(br#"","#);
        }
        Prev::Unknown => out.extend(br#"","#),
    }
    let _ = write!(out, r#""time":{}"#, event.time_ms());
    write_member(r#","event":"#, event.name(), out);
    write_member(r#","key":"#, event.key(), out);
    if event.is_snapshot() {
        out.extend(br#","snapshot":true"#);
    }
    write_member(r#","type":"#, Some(event.content_type()), out);
    write_payload(event, out);
    out.push(b'}');
}

fn write_cursor(before: &str, value: &dyn std::fmt::Display, out: &mut Vec<u8>) {
    let _ = write!(out, "{before}{value}");
}

fn write_member(before: &str, text: Option<&str>, out: &mut Vec<u8>) {
    if let Some(text) = text {
        out.extend(before.as_bytes());
        write_string(text, out);
    }
}

fn write_payload(event: &Event, out: &mut Vec<u8>) {
    let payload = event.payload();
    match event.payload_kind() {
        PayloadKind::Json if !payload.is_empty() => {
            out.extend(br#","data":"#);
            out.extend(&payload[..]);
        }
        PayloadKind::Text => match std::str::from_utf8(payload) {
            Ok(text) => write_member(r#","data":"#, Some(text), out),
            Err(_) => write_base64(payload, out),
        },
        _ => write_base64(payload, out),
    }
}

fn write_base64(payload: &[u8], out: &mut Vec<u8>) {
    out.extend(br#","data64":""#);
    let start = out.len();
    out.resize(start + payload.len().div_ceil(3) * 4, 0);
    let written = BASE64_STANDARD.encode_slice(payload, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

#[derive(Deserialize)]
struct Wire<'a> {
    gap: Option<Gap>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    cursor: Option<Cursor>,
    #[serde(default, deserialize_with = "present")]
    prev: Option<Option<Cursor>>,
    time: Option<u64>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    snapshot: bool,
    #[serde(rename = "type", borrow)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data64: Option<Cow<'a, str>>,
}

/// Tells a member that is there and `null` from one that is not there.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Reads one object of section 3. A JSON payload is carried byte for byte; unknown members are ignored.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is no such object.
pub fn parse_item(text: &[u8]) -> Result<Item, Problem> {
    let wire: Wire<'_> = serde_json::from_slice(text)
        .map_err(|error| Problem::new(ErrorKind::Protocol, format!("no event and no gap: {error}")))?;
    match wire.gap {
        Some(gap) => Ok(Item::Gap(gap)),
        None => parse_event(wire).map(Item::Event),
    }
}

fn parse_event(wire: Wire<'_>) -> Result<Event, Problem> {
    let missing = |member: &str| Problem::new(ErrorKind::Protocol, format!("an event without {member}"));
    let content_type = wire.content_type.as_deref().ok_or_else(|| missing("type"))?;
    let payload = parse_payload(content_type, wire.data, wire.data64.as_deref())?;
    let mut message = Message::new(payload).with_content_type(content_type.to_owned());
    if let Some(name) = wire.event {
        message = message.with_name(&*name);
    }
    if let Some(key) = wire.key {
        message = message.with_key(&*key);
    }
    let topic = wire.topic.ok_or_else(|| missing("topic"))?;
    let topic = Topic::new(&topic)
        .map_err(|error| Problem::new(ErrorKind::Protocol, "an event of no topic").with_source(error))?;
    let event = Event::new(EventParts {
        topic,
        cursor: wire.cursor.ok_or_else(|| missing("cursor"))?,
        prev: match wire.prev {
            None => Prev::Unknown,
            Some(None) => Prev::First,
            Some(Some(cursor)) => Prev::At(cursor),
        },
        time_ms: wire.time.ok_or_else(|| missing("time"))?,
        message,
    });
    Ok(if wire.snapshot { event.shown(View::Snapshot) } else { event })
}

/// The payload that `data` or `data64` means beside a content type.
///
/// # Errors
/// [`ErrorKind::Protocol`] if there is none, both, or one that does not go with the type.
pub fn parse_payload(
    content_type: &str,
    data: Option<&RawValue>,
    data64: Option<&str>,
) -> Result<Bytes, Problem> {
    let problem = |detail: &'static str| Problem::new(ErrorKind::Protocol, detail);
    match (data, data64) {
        (None, Some(data64)) => BASE64_STANDARD
            .decode(data64)
            .map(Bytes::from)
            .map_err(|error| problem("`data64` is not base64").with_source(error)),
        (Some(data), None) => match kind_of(content_type) {
            PayloadKind::Json => Ok(Bytes::copy_from_slice(data.get().as_bytes())),
            PayloadKind::Text => serde_json::from_str::<String>(data.get())
                .map(Bytes::from)
                .map_err(|error| problem("`data` of a text is not a string").with_source(error)),
            _ => Err(problem("a payload of this type comes as `data64`")),
        },
        (None, None) => Err(problem("neither `data` nor `data64`")),
        (Some(_), Some(_)) => Err(problem("both `data` and `data64`")),
    }
}

fn kind_of(content_type: &str) -> PayloadKind {
    Message::new(Bytes::new()).with_content_type(content_type.to_owned()).payload_kind()
}
