//! What is sent of a delivery, the same on every attempt.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use pushpull_core::{Cursor, Event, Gap};
use pushpull_http::{
    headers::{PUSHPULL_EVENT, PUSHPULL_KEY, insert_encoded},
    json::{event_json, gap_json},
};

use super::store::EndpointRecord;
use crate::{PUSHPULL_AFTER, PUSHPULL_GAP_BEFORE, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, sign};

pub(super) struct Parcel {
    id: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Parcel {
    pub(super) fn of_event(event: &Event, record: &EndpointRecord) -> Self {
        let mut parcel = match record.is_raw {
            true => Self::new(event.cursor().to_string(), event.content_type(), event.payload().clone()),
            false => Self::new(event.cursor().to_string(), "application/json", event_json(event)),
        };
        if record.is_raw {
            for (name, text) in [(PUSHPULL_EVENT, event.name()), (PUSHPULL_KEY, event.key())] {
                if let Some(text) = text {
                    insert_encoded(&mut parcel.headers, name, text);
                }
            }
        }
        if !event.is_snapshot() {
            parcel.insert_cursor(PUSHPULL_AFTER, record.place);
            parcel.insert_cursor(
                PUSHPULL_GAP_BEFORE,
                record.told_before.filter(|before| reaches(event, *before)),
            );
        }
        parcel
    }

    pub(super) fn of_gap(gap: &Gap, record: &EndpointRecord) -> Self {
        let mut parcel = Self::new(format!("gap-{}", gap.before), "application/json", gap_json(gap).into());
        parcel.insert_cursor(PUSHPULL_AFTER, record.place);
        parcel
    }

    fn new(id: String, content_type: &str, body: Bytes) -> Self {
        let mut parcel = Self { id, headers: HeaderMap::new(), body };
        if let Ok(content_type) = HeaderValue::from_str(content_type) {
            parcel.headers.insert(CONTENT_TYPE, content_type);
        }
        parcel
    }

    fn insert_cursor(&mut self, name: http::HeaderName, cursor: Option<Cursor>) {
        if let Some(value) = cursor.and_then(|cursor| HeaderValue::try_from(cursor.to_string()).ok()) {
            self.headers.insert(name, value);
        }
    }

    /// The request of an attempt at `now` (Unix seconds).
    pub(super) fn signed(&self, record: &EndpointRecord, now: u64) -> (HeaderMap, Bytes) {
        let mut headers = self.headers.clone();
        let signature = sign(&record.secrets, &self.id, now, &self.body);
        headers.insert(WEBHOOK_TIMESTAMP, now.into());
        for (name, text) in [(WEBHOOK_ID, self.id.as_str()), (WEBHOOK_SIGNATURE, &signature)] {
            // Cursors and base64 are ASCII.
            headers.extend(HeaderValue::from_str(text).ok().map(|value| (name, value)));
        }
        (headers, self.body.clone())
    }
}

/// Whether the event lies behind what a gap before `before` told.
pub(super) fn reaches(event: &Event, before: Cursor) -> bool {
    event.cursor().epoch() != before.epoch() || event.cursor().seq() >= before.seq()
}
