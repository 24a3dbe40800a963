//! The endpoint at the hub: `POST /webhooks`, and `DELETE` at the end.

use std::{error::Error, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use pushpull::{Cursor, HttpClient, Topics, webhook::Secret};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

/// How long the hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More bytes than any answer of its has.
const MAX_ANSWER: usize = 64 * 1024;

/// What the hub sends webhooks to, until it is removed.
pub(crate) struct Endpoint {
    hub: HttpClient,
    path: String,
    pub(crate) secret: Secret,
    /// The place behind which the hub sends everything.
    pub(crate) start: Cursor,
}

#[derive(Deserialize)]
struct Registered {
    id: String,
    secret: String,
    cursor: Cursor,
}

impl Endpoint {
    /// Asks the hub at `url` to send `topics` to `hook`, from now on.
    pub(crate) async fn register(url: &str, hook: &str, topics: &Topics) -> Result<Self, Box<dyn Error>> {
        let hub = HttpClient::new(url.parse()?)?;
        let topics: Vec<&str> = topics.iter().map(|pattern| pattern.as_str()).collect();
        let asked = json!({ "url": hook, "topics": topics }).to_string();
        let answer = send(&hub, Method::POST, "/webhooks", asked.into(), StatusCode::CREATED).await;
        let answer = answer.map_err(|error| format!("{url} sends no webhooks to {hook}: {error}"))?;
        let Registered { id, secret, cursor } = serde_json::from_slice(&answer)?;
        Ok(Self { hub, path: format!("/webhooks/{id}"), secret: secret.parse()?, start: cursor })
    }

    /// Where the hub tells how it stands.
    pub(crate) fn url(&self) -> String {
        self.hub.base().at(&self.path)
    }

    /// Asks the hub to send no more.
    pub(crate) async fn remove(self) -> Result<(), Box<dyn Error>> {
        let removed = send(&self.hub, Method::DELETE, &self.path, Bytes::new(), StatusCode::NO_CONTENT).await;
        removed.map_err(|error| format!("{} is not removed: {error}", self.url()))?;
        Ok(())
    }
}

async fn send(
    hub: &HttpClient,
    method: Method,
    path: &str,
    body: Bytes,
    wanted: StatusCode,
) -> Result<Bytes, Box<dyn Error>> {
    let deadline = Instant::now() + PATIENCE;
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let sent = hub.send(method, path, HeaderMap::from_iter([json]), body, deadline).await;
    let answer = sent.map_err(|error| error.problem)?;
    match answer.status == wanted {
        true => Ok(answer.bytes(MAX_ANSWER, deadline).await?),
        false => Err(answer.problem(deadline).await.into()),
    }
}
