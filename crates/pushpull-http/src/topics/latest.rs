//! `GET` and `HEAD /topics/{topic}`.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS},
};
use pushpull_core::{
    Context, DEFAULT_CONTENT_TYPE, Delivery, ErrorKind, Event, Fetch, Pattern, Problem, Pull, Start, Topic,
    Topics,
};

use crate::{
    Action, Body, Gate,
    headers::{PUSHPULL_EVENT, PUSHPULL_KEY, insert_encoded, insert_etag, insert_text, is_none_match},
};

/// The newest event of `topic`.
pub(super) async fn read(
    gate: &Gate,
    pull: &dyn Pull,
    cx: &Context,
    topic: &Topic,
) -> Result<Event, Problem> {
    gate.authorize(cx, Action::Subscribe(&Pattern::from(topic.clone()))).await?;
    let asked = Fetch::new(Topics::only(topic)).from(Start::Last).with_limit(1);
    let batch = pull.fetch(cx, asked).await?;
    let newest = batch.deliveries.into_iter().rev().find_map(Delivery::into_event);
    newest.ok_or_else(|| Problem::new(ErrorKind::NotFound, "the topic has no event"))
}

/// Its payload as it is, or 304 if the client has it (RFC 9110, 13.1.2).
///
/// `If-Modified-Since` is not looked at: two events may come within its second.
pub(super) fn respond(headers: &HeaderMap, event: &Event) -> Response<Body> {
    let is_known = is_none_match(headers, event.cursor());
    let mut response = Response::new(Body::full(event.payload().clone()));
    if is_known {
        response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        describe_payload(response.headers_mut(), event);
    }
    let headers = response.headers_mut();
    insert_etag(headers, event.cursor());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    insert_text(headers, LAST_MODIFIED, &httpdate::fmt_http_date(published_at(event)));
    insert_name(headers, PUSHPULL_EVENT, event.name());
    insert_name(headers, PUSHPULL_KEY, event.key());
    response
}

/// What is published is somebody's data and may call itself HTML: it must not run in the server's origin.
fn describe_payload(headers: &mut HeaderMap, event: &Event) {
    let content_type = HeaderValue::from_bytes(event.content_type().as_bytes());
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static(DEFAULT_CONTENT_TYPE)));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
}

fn insert_name(headers: &mut HeaderMap, name: HeaderName, text: Option<&str>) {
    if let Some(text) = text {
        insert_encoded(headers, name, text);
    }
}

/// The event's time; the last second of the year 9999, which HTTP's dates end at, if it lies beyond.
fn published_at(event: &Event) -> SystemTime {
    const END: u64 = 253_402_300_799;
    SystemTime::UNIX_EPOCH + Duration::from_secs((event.time_ms() / 1000).min(END))
}
