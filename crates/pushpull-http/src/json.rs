//! Events and gaps as JSON (wire contract, section 3), and back.

mod page;

use std::{borrow::Cow, fmt, io::Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use pushpull_core::{
    Cursor, ErrorKind, Event, EventParts, FormatKey, Gap, Message, PayloadKind, Prev, Problem, Topic, View,
};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub use page::{cut_page, page_json, parse_page};

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
    write_value(r#"{"topic":""#, event.topic(), out);
    write_value(r#"","cursor":""#, &event.cursor(), out);
    match event.prev() {
        Prev::First => out.extend(br#"","prev":null,"#),
        Prev::At(cursor) => {
            write_value(r#"","prev":""#, &cursor, out);
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

fn write_value(before: &str, value: &dyn fmt::Display, out: &mut Vec<u8>) {
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
    wire.try_into()
}

impl TryFrom<Wire<'_>> for Item {
    type Error = Problem;

    fn try_from(wire: Wire<'_>) -> Result<Self, Problem> {
        match wire.gap {
            Some(gap) => Ok(Self::Gap(gap)),
            None => parse_event(wire).map(Self::Event),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pushpull_core::{EncodingAccount, Epoch, GapReason};

    fn at(text: &str) -> Cursor {
        text.parse().unwrap()
    }

    fn parts(prev: Prev, message: Message) -> EventParts {
        EventParts {
            topic: "quotes.AAPL".parse().unwrap(),
            cursor: at("6qz3k1-1042"),
            prev,
            time_ms: 1_763_848_800_123,
            message,
        }
    }

    fn json(text: &'static str) -> Message {
        Message::new(text).with_content_type("application/json")
    }

    fn written(event: &Event) -> String {
        String::from_utf8(event_json(event).to_vec()).unwrap()
    }

    #[test]
    fn the_contracts_own_examples_are_met_to_the_byte() {
        let message = json(r#"{"px":189.3}"#).with_name("trade").with_key("AAPL");
        let event = Event::new(parts(Prev::At(at("6qz3k1-1038")), message));
        assert_eq!(
            written(&event),
            concat!(
                r#"{"topic":"quotes.AAPL","cursor":"6qz3k1-1042","prev":"6qz3k1-1038","time":1763848800123,"#,
                r#""event":"trade","key":"AAPL","type":"application/json","data":{"px":189.3}}"#
            )
        );
        let gap = Gap::new(at("6qz3k1-10"), at("6qz3k1-900"), at("6qz3k1-10"), GapReason::Evicted);
        assert_eq!(
            gap_json(&gap),
            r#"{"gap":{"after":"6qz3k1-10","before":"6qz3k1-900","cursor":"6qz3k1-10","reason":"evicted"}}"#
        );
    }

    #[test]
    fn members_come_and_go() {
        const HEAD: &str = r#"{"topic":"quotes.AAPL","cursor":"6qz3k1-1042","#;
        let plain = |prev, message| Event::new(parts(prev, message));
        let binary = || Message::new(&b"\xff\x00\x01\x02"[..]);
        let text = || Message::text("l\u{e4}uft \"so\"\n\u{2028}\u{1}");
        for (event, rest) in [
            (
                plain(Prev::First, json("null")),
                r#""prev":null,"time":1763848800123,"type":"application/json","data":null}"#,
            ),
            (
                plain(Prev::Unknown, json(r#"{ "a" : 1.0, "a":1e400 }"#)),
                r#""time":1763848800123,"type":"application/json","data":{ "a" : 1.0, "a":1e400 }}"#,
            ),
            (
                plain(Prev::First, json("1").with_key("k\"")).shown(View::Snapshot),
                r#""time":1763848800123,"key":"k\"","snapshot":true,"type":"application/json","data":1}"#,
            ),
            (
                plain(Prev::First, json("1").with_name("n")).shown(View::Thinned),
                r#""time":1763848800123,"event":"n","type":"application/json","data":1}"#,
            ),
            (
                plain(Prev::Unknown, text()),
                "\"time\":1763848800123,\"type\":\"text/plain; charset=utf-8\",\"data\":\"l\u{e4}uft \\\"so\\\"\\n\u{2028}\\u0001\"}",
            ),
            (
                plain(Prev::Unknown, binary()),
                r#""time":1763848800123,"type":"application/octet-stream","data64":"/wABAg=="}"#,
            ),
            (
                plain(Prev::Unknown, binary().with_content_type("text/plain")),
                r#""time":1763848800123,"type":"text/plain","data64":"/wABAg=="}"#,
            ),
            (
                plain(Prev::Unknown, Message::new("")),
                r#""time":1763848800123,"type":"application/octet-stream","data64":""}"#,
            ),
            (
                plain(Prev::Unknown, json("")),
                r#""time":1763848800123,"type":"application/json","data64":""}"#,
            ),
            (
                plain(Prev::Unknown, Message::new("").with_content_type("text/x")),
                r#""time":1763848800123,"type":"text/x","data":""}"#,
            ),
        ] {
            assert_eq!(written(&event), format!("{HEAD}{rest}"));
        }
    }

    #[test]
    fn only_the_plain_view_is_kept() {
        let account = EncodingAccount::default();
        let event = Event::keeping_encodings(parts(Prev::First, json("1")), account.clone());
        let first = event_json(&event);
        assert_eq!((event_json(&event).as_ptr(), account.bytes()), (first.as_ptr(), first.len() as u64));
        assert!(written(&event.clone().shown(View::Snapshot)).contains(r#""snapshot":true"#));
        assert_eq!(account.bytes(), first.len() as u64);
    }

    #[test]
    fn unknown_members_are_ignored_and_others_told_apart() {
        let text = r#"{"x":{"y":[1]},"topic":"a","cursor":"e-1","prev":null,"time":1,"type":"a/b+json","data":null,"z":0}"#;
        let Item::Event(event) = parse_item(text.as_bytes()).unwrap() else { panic!("an event") };
        assert_eq!((event.prev(), &event.payload()[..]), (Prev::First, &b"null"[..]));
        let escaped = r#"{"topic":"\u0061","cursor":"e-1","time":1,"type":"text/plain","data":"\u00e4\n"}"#;
        let Item::Event(event) = parse_item(escaped.as_bytes()).unwrap() else { panic!("an event") };
        assert_eq!((event.prev(), &event.payload()[..]), (Prev::Unknown, "\u{e4}\n".as_bytes()));
        let Item::Gap(gap) =
            parse_item(br#"{"gap":{"after":"e-1","before":"e-2","cursor":"e-1","reason":"reset","more":1}}"#)
                .unwrap()
        else {
            panic!("a gap")
        };
        assert_eq!((gap.reason, gap.before), (GapReason::Reset, at("e-2")));
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for bad in [
            "",
            "1",
            "{}",
            "[]",
            "\u{feff}{}",
            r#"{"gap":{}}"#,
            r#"{"gap":{"after":"e-1","before":"e-2","cursor":"e-1","reason":"new"}}"#,
            r#"{"topic":"a","cursor":"e-1","time":1,"type":"a/b"}"#,
            r#"{"topic":"a","cursor":"e-1","time":1,"data":1}"#,
            r#"{"topic":"a","cursor":"e-1","time":1,"type":"a/b","data":"x"}"#,
            r#"{"topic":"a","cursor":"e-1","time":1,"type":"text/a","data":1}"#,
            r#"{"topic":"a","cursor":"e-1","time":1,"type":"text/a","data":"1","data64":""}"#,
            r#"{"topic":"a","cursor":"e-1","time":1,"type":"a/b","data64":"?"}"#,
            r#"{"topic":"a b","cursor":"e-1","time":1,"type":"a/json","data64":""}"#,
            r#"{"topic":"a","cursor":"1","time":1,"type":"a/b","data64":""}"#,
            r#"{"topic":"a","cursor":"e-1","time":-1,"type":"a/b","data64":""}"#,
            r#"{"cursor":"e-1","time":1,"type":"a/b","data64":""}"#,
            r#"{"topic":"a","time":1,"type":"a/b","data64":""}"#,
            r#"{"topic":"a","cursor":"e-1","type":"a/b","data64":""}"#,
        ] {
            let refused = parse_item(bad.as_bytes());
            assert_eq!(refused.map(|_| ()).unwrap_err().kind(), ErrorKind::Protocol, "{bad}");
        }
        let broken = parse_item(b"{\"topic\":\"\xff\"}");
        assert_eq!(broken.map(|_| ()).unwrap_err().kind(), ErrorKind::Protocol);
    }

    fn payloads() -> impl Strategy<Value = Message> {
        prop_oneof![
            any::<Vec<u8>>().prop_map(Message::new),
            any::<String>().prop_map(Message::text),
            any::<String>().prop_map(|text| Message::json(&text).unwrap()),
            any::<Vec<u8>>().prop_map(|bytes| Message::new(bytes).with_content_type("text/plain")),
            any::<(f64, Vec<Option<i64>>)>().prop_map(|value| Message::json(&value).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            message in payloads(),
            name in proptest::option::of("[^\\p{C}]{1,16}"),
            key in proptest::option::of("\\PC{1,32}"),
            prev in prop_oneof![
                Just(Prev::First),
                Just(Prev::Unknown),
                any::<u64>().prop_map(|seq| Prev::At(Cursor::new(Epoch::from_random(9), seq))),
            ],
            snapshot: bool,
        ) {
            let message = name.iter().fold(message, |m, name| m.with_name(name.as_str()));
            let message = key.iter().fold(message, |m, key| m.with_key(key.as_str()));
            let view = if snapshot { View::Snapshot } else { View::Plain };
            let event = Event::new(parts(prev, message)).shown(view);
            let text = event_json(&event);
            prop_assert!(!text.contains(&b'\n'));
            let Item::Event(read) = parse_item(&text).unwrap() else { panic!("an event") };
            prop_assert_eq!(read.payload(), event.payload());
            prop_assert_eq!(read.payload_kind(), event.payload_kind());
            prop_assert_eq!(read.content_type(), event.content_type());
            prop_assert_eq!((read.name(), read.key()), (event.name(), event.key()));
            prop_assert_eq!((read.prev(), read.view()), (event.prev(), event.view()));
            prop_assert_eq!(event_json(&read), text);
        }

        #[test]
        fn no_text_makes_it_panic(text: Vec<u8>) {
            let _ = parse_item(&text);
        }
    }
}
