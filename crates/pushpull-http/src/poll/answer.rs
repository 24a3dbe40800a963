//! The response to one poll.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, VARY},
};
use pushpull_core::{Batch, Delivery, Gap, Start, StartAt};

use super::{MAX_PAGE, PollRequest};
use crate::{
    Body,
    headers::{PREFERENCE_APPLIED, insert_cursor, insert_etag, insert_text},
    json::{cut_page, gap_json, page_json},
    problem::{MEDIA_TYPE, TYPE_PREFIX},
};

impl PollRequest {
    pub(super) fn respond(&self, mut batch: Batch) -> Response<Body> {
        let closing = batch.deliveries.iter().rev().find_map(as_gap).filter(|_| batch.closed).copied();
        if let Some(gap) = closing {
            self.gate.metrics().gap(gap.reason);
            return self.described(gone(&gap));
        }
        if !matches!(self.fetch.start, StartAt::Start(Start::Snapshot | Start::Last)) {
            cut_page(&mut batch, MAX_PAGE);
        }
        let is_new = !batch.deliveries.is_empty() || batch.more || batch.stale;
        let mut response = match self.known.filter(|_| !is_new) {
            Some(known) => not_modified(|headers| insert_etag(headers, known)),
            None => page(page_json(&batch)),
        };
        if let Some(place) = batch.place {
            match response.status() {
                StatusCode::NOT_MODIFIED => insert_cursor(response.headers_mut(), place),
                _ => insert_etag(response.headers_mut(), place),
            }
        }
        self.count(&batch);
        self.described(response)
    }

    fn described(&self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("Prefer"));
        }
        if let Some(seconds) = self.preferred {
            insert_text(headers, PREFERENCE_APPLIED, &format!("wait={seconds}"));
        }
        response
    }

    /// A `HEAD` takes nothing away and is written nothing.
    fn count(&self, batch: &Batch) {
        let metrics = self.gate.metrics();
        if self.is_head {
            return;
        }
        if let Some(transport) = self.transport {
            metrics.delivered(transport, batch.events() as u64);
        }
        metrics.conflated(batch.conflated);
        batch.deliveries.iter().filter_map(as_gap).for_each(|gap| metrics.gap(gap.reason));
    }
}

fn as_gap(delivery: &Delivery) -> Option<&Gap> {
    match delivery {
        Delivery::Gap(gap) => Some(gap),
        _ => None,
    }
}

fn page(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn not_modified(describe: impl FnOnce(&mut HeaderMap)) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    describe(response.headers_mut());
    response
}

/// A problem that has the gap as a member of its own: one who reads section 3 finds `gap` where he looks for it.
fn gone(gap: &Gap) -> Response<Body> {
    let object = gap_json(gap);
    let member = object.strip_prefix('{').unwrap_or(&object);
    let body = format!(
        "{{\"type\":\"{TYPE_PREFIX}lagged\",\"title\":\"What follows the place is gone\",\"status\":410,\
         \"detail\":\"events after the place are gone, and overflow=close was asked for\",{member}"
    );
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = StatusCode::GONE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    insert_cursor(response.headers_mut(), gap.cursor);
    response
}
