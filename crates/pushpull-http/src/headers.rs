//! Places and waits that come by header (wire contract, sections 2 and 4).

use std::time::Duration;

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
    insert_text(headers, ETAG, &format!("\"{cursor}\""));
}

/// Puts `Pushpull-Cursor: <cursor>` in.
pub fn insert_cursor(headers: &mut HeaderMap, cursor: Cursor) {
    insert_text(headers, PUSHPULL_CURSOR, &cursor.to_string());
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

pub(crate) fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
