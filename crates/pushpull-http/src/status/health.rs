//! `/health` and `/health/live`.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::Shared;
use crate::{Body, Observed};

/// Longest time a probe may take.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// How long a probe's answer holds: whoever asks for health does not thereby load the engine.
const PROBE_AGE: Duration = Duration::from_secs(1);

/// The last probe of the engine: one at a time, and its answer for all who ask meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe(Arc<Mutex<Option<(Instant, bool)>>>);

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    engine: Engine<'a>,
}

#[derive(Serialize)]
struct Engine<'a> {
    name: &'a str,
    up: bool,
}

impl Probe {
    async fn is_up(&self, source: &dyn Observed) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, is_up)) = *last
            && at.elapsed() < PROBE_AGE
        {
            return is_up;
        }
        let is_up = matches!(timeout(PROBE_TIME, source.probe()).await, Ok(Ok(())));
        *last = Some((Instant::now(), is_up));
        is_up
    }
}

impl Shared {
    /// 503 when draining or full; an engine in trouble makes it that only if `engine` is asked for.
    pub(super) async fn health(&self, query: Option<&str>) -> Response<Body> {
        let (name, up) = match &self.observed {
            Some(source) => (source.observe().engine, self.probe.is_up(&**source).await),
            None => ("", true),
        };
        let mut asked = query.unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
        let is_engine_asked = asked.any(|name| name == "engine");
        let (status, word) = match () {
            () if self.gate.drain().is_draining() => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            () if self.gate.is_full() => (StatusCode::SERVICE_UNAVAILABLE, "full"),
            () if !up && is_engine_asked => (StatusCode::SERVICE_UNAVAILABLE, "engine-down"),
            () => (StatusCode::OK, "ok"),
        };
        respond(status, &Health { status: word, engine: Engine { name, up } })
    }
}

/// The process runs, whatever else is the matter.
pub(super) fn live() -> Response<Body> {
    respond(StatusCode::OK, &serde_json::json!({ "status": "live" }))
}

fn respond(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    // Structs of texts and flags always serialize.
    let mut response = Response::new(Body::full(serde_json::to_string(body).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
