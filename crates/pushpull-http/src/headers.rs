//! Places and waits that come by header (wire contract, sections 2 and 4).

use std::{
    fmt::{self, Write},
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ETAG, IF_NONE_MATCH},
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use pushpull_core::{Cursor, Problem};

/// `Last-Event-ID`.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// `Prefer` (RFC 7240).
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// `Preference-Applied` (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The place, on a 304.
pub const PUSHPULL_CURSOR: HeaderName = HeaderName::from_static("pushpull-cursor");
/// An event's name, percent-encoded.
pub const PUSHPULL_EVENT: HeaderName = HeaderName::from_static("pushpull-event");
/// An event's key, percent-encoded.
pub const PUSHPULL_KEY: HeaderName = HeaderName::from_static("pushpull-key");

/// Bytes of a cursor of at most 34 and its quotes.
const CURSOR_ROOM: usize = 40;

const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The place that `Last-Event-ID` names. An empty one is none; a malformed one is [`Cursor::UNKNOWN`], since
/// an error would stop a browser for good.
pub fn last_event_id(headers: &HeaderMap) -> Option<Cursor> {
    let value = headers.get(LAST_EVENT_ID).filter(|value| !value.as_bytes().trim_ascii().is_empty())?;
    let cursor = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    Some(cursor.unwrap_or(Cursor::UNKNOWN))
}

/// The one place that a poll's `If-None-Match` names.
///
/// # Errors
/// If it is `*`, several tags, or no entity tag of a cursor.
pub fn if_none_match(headers: &HeaderMap) -> Result<Option<Cursor>, Problem> {
    let mut values = headers.get_all(IF_NONE_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let problem = || Problem::invalid("If-None-Match", "it must be one entity tag that holds a cursor");
    let text = value.to_str().ok().filter(|_| values.next().is_none()).ok_or_else(problem)?;
    let cursor = opaque_tag(text.trim()).and_then(|tag| tag.parse().ok());
    cursor.map(Some).ok_or_else(problem)
}

/// Whether `If-None-Match` matches the entity tag of `cursor` by weak comparison (RFC 9110, 13.1.2).
pub fn is_none_match(headers: &HeaderMap, cursor: Cursor) -> bool {
    let wanted = cursor.to_string();
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // A cursor has no comma, so that cutting a foreign tag in two cannot make a match.
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || opaque_tag(tag) == Some(&wanted))
}

/// The seconds of `Prefer: wait=N` (RFC 7240, 4.3), held to 60. The first that is well-formed counts.
pub fn prefer_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let named = name.trim().eq_ignore_ascii_case("wait") && digits;
        named.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX).min(60)))
    })
}

/// Puts `ETag: "<cursor>"` in.
pub fn insert_etag(headers: &mut HeaderMap, cursor: Cursor) {
    insert_cursor_text(headers, ETAG, format_args!("\"{cursor}\""));
}

/// Puts `Pushpull-Cursor: <cursor>` in.
pub fn insert_cursor(headers: &mut HeaderMap, cursor: Cursor) {
    insert_cursor_text(headers, PUSHPULL_CURSOR, format_args!("{cursor}"));
}

/// Puts `text` in as percent-encoded UTF-8.
pub fn insert_encoded(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    insert_text(headers, name, &utf8_percent_encode(text, UNSAFE).to_string());
}

/// The text of a percent-encoded header. An empty one is none.
///
/// # Errors
/// If it is given twice, or not UTF-8 when decoded.
pub fn decoded(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next().filter(|value| !value.is_empty()) else { return Ok(None) };
    let problem = |detail: &'static str| Problem::invalid(name.as_str().to_owned(), detail);
    if values.next().is_some() {
        return Err(problem("it is given twice"));
    }
    let text = percent_decode(value.as_bytes()).decode_utf8();
    text.map(|text| Some(text.into_owned())).map_err(|_| problem("it is not percent-encoded UTF-8"))
}

fn opaque_tag(tag: &str) -> Option<&str> {
    tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')
}

/// Every answer bears a cursor: it is written with one allocation.
fn insert_cursor_text(headers: &mut HeaderMap, name: HeaderName, text: fmt::Arguments<'_>) {
    let mut room = Short::<CURSOR_ROOM>::new();
    if room.write_fmt(text).is_ok()
        && let Ok(value) = HeaderValue::from_bytes(room.as_bytes())
    {
        headers.insert(name, value);
    }
}

/// Text of at most `N` bytes, written without an allocation. Writing more is an error.
pub(crate) struct Short<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Short<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const N: usize> Write for Short<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

pub(crate) fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: &HeaderName, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn cursor(text: &str) -> Cursor {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_cursor_has_room() {
        let longest = "3w5e11264sgsf-18446744073709551615";
        let mut headers = HeaderMap::new();
        insert_etag(&mut headers, cursor(longest));
        insert_cursor(&mut headers, cursor(longest));
        assert_eq!(headers[ETAG], format!("\"{longest}\""));
        assert_eq!(headers[PUSHPULL_CURSOR], longest);
        let mut short = Short::<3>::new();
        assert!(
            short.write_str("ab").is_ok() && short.write_str("cd").is_err() && short.write_str("c").is_ok()
        );
        assert_eq!(short.as_bytes(), b"abc");
    }

    #[test]
    fn a_malformed_last_event_id_is_an_unknown_place_and_an_empty_one_none() {
        for (value, expected) in [
            (&b"6qz3k1-1042"[..], Some(cursor("6qz3k1-1042"))),
            (b" 6qz3k1-1042 ", Some(cursor("6qz3k1-1042"))),
            (b"", None),
            (b"  ", None),
            (b"1042", Some(Cursor::UNKNOWN)),
            (b"6qz3k1-01042", Some(Cursor::UNKNOWN)),
            (b"\xc3\xa4-1", Some(Cursor::UNKNOWN)),
            (b"\xff", Some(Cursor::UNKNOWN)),
        ] {
            assert_eq!(last_event_id(&headers(&LAST_EVENT_ID, &[value])), expected, "{value:?}");
        }
        assert_eq!(last_event_id(&HeaderMap::new()), None);
    }

    #[test]
    fn a_poll_takes_one_tag_that_is_a_cursor() {
        let read = |values: &[&[u8]]| {
            if_none_match(&headers(&IF_NONE_MATCH, values))
                .map_err(|problem| problem.parameter().map(str::to_owned))
        };
        assert_eq!(read(&[]), Ok(None));
        for value in [&b"\"e-1\""[..], b"W/\"e-1\"", b" \"e-1\" "] {
            assert_eq!(read(&[value]), Ok(Some(cursor("e-1"))), "{value:?}");
        }
        for bad in [
            &b"*"[..],
            b"",
            b"e-1",
            b"\"e-1",
            b"\"\"",
            b"\"",
            b"\"x\"",
            b"w/\"e-1\"",
            b"\"e-1\", \"e-2\"",
            b"W/W/\"e-1\"",
            b"\"\xff\"",
        ] {
            assert_eq!(read(&[bad]), Err(Some("If-None-Match".into())), "{bad:?}");
        }
        assert_eq!(read(&[b"\"e-1\"", b"\"e-1\""]), Err(Some("If-None-Match".into())));
    }

    #[test]
    fn tags_are_compared_weakly() {
        for (values, expected) in [
            (&[&b"\"e-1\""[..]][..], true),
            (&[b"W/\"e-1\""], true),
            (&[b"*"], true),
            (&[b"\"x\", W/\"e-1\",\"y\""], true),
            (&[b"\"x\"", b"\"e-1\""], true),
            (&[b"\xff", b"\"e-1\""], true),
            (&[b"\"e-10\""], false),
            (&[b"e-1"], false),
            (&[b""], false),
            (&[], false),
        ] {
            assert_eq!(
                is_none_match(&headers(&IF_NONE_MATCH, values), cursor("e-1")),
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_preferred_wait_is_found_among_others() {
        for (values, expected) in [
            (&[&b"wait=10"[..]][..], Some(10)),
            (&[b"Wait = \"10\""], Some(10)),
            (&[b"respond-async, wait=10; x=1"], Some(10)),
            (&[b"respond-async", b"wait=0"], Some(0)),
            (&[b"wait=9, wait=10"], Some(9)),
            (&[b"wait=61"], Some(60)),
            (&[b"wait=99999999999999999999"], Some(60)),
            (&[b"wait=-1"], None),
            (&[b"wait=1.5"], None),
            (&[b"wait"], None),
            (&[b"wait="], None),
            (&[b"waiting=5"], None),
            (&[], None),
        ] {
            let wait = prefer_wait(&headers(&PREFER, values)).map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{values:?}");
        }
    }

    #[test]
    fn names_are_percent_encoded_utf8_both_ways() {
        let read = |values: &[&[u8]]| decoded(&headers(&PUSHPULL_KEY, values), &PUSHPULL_KEY);
        for (value, expected) in [
            (&b""[..], None),
            (b"AAPL", Some("AAPL")),
            (b"a%20b+c", Some("a b+c")),
            (b"%C3%A4", Some("\u{e4}")),
            (b"\xc3\xa4", Some("\u{e4}")),
            (b"100%", Some("100%")),
        ] {
            assert_eq!(read(&[value]).unwrap().as_deref(), expected, "{value:?}");
        }
        for bad in [&[&b"%FF"[..]][..], &[b"\xff"], &[b"a", b"b"]] {
            assert_eq!(read(bad).unwrap_err().parameter(), Some("pushpull-key"), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_survives_its_header(text in "\\PC{1,40}") {
            let mut map = HeaderMap::new();
            insert_encoded(&mut map, PUSHPULL_EVENT, &text);
            prop_assert!(map[PUSHPULL_EVENT].to_str().is_ok(), "visible ASCII alone");
            prop_assert_eq!(decoded(&map, &PUSHPULL_EVENT).unwrap(), Some(text));
        }

        #[test]
        fn no_header_makes_it_panic(value in proptest::collection::vec(32u8..=126, 0..40)) {
            for name in [&LAST_EVENT_ID, &IF_NONE_MATCH, &PREFER, &PUSHPULL_KEY] {
                let map = headers(name, &[&value]);
                let _ = (last_event_id(&map), if_none_match(&map), prefer_wait(&map), decoded(&map, name));
                is_none_match(&map, Cursor::UNKNOWN);
            }
        }
    }
}
