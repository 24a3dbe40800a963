//! Asking by `GET /poll` and `GET /longpoll`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pushpull_core::{
    Batch, Context, Cursor, Delivery, ErrorKind, Fetch, FetchError, Polling, Problem, Pull, Push, Schedule,
    StartAt, Subscribe, SubscribeError, Subscription,
};
use tokio::time::Instant;

use super::{Answer, HttpClient, MAX_PROBLEM};
use crate::{
    Endpoint, Transport, encode_fetch,
    headers::PUSHPULL_CURSOR,
    json::{Item, parse_item, parse_page},
};

/// How long an answer may take, beyond what the server may wait, if the context names no deadline: 10 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for the way there and back that a wait leaves of its context's deadline: 1 s.
const MARGIN: Duration = Duration::from_secs(1);
/// The longest answer: 64 MiB. A page has 3 MiB; a snapshot comes whole.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A [`Pull`] over a server's `/poll` or `/longpoll` (wire contract, section 4), and a [`Push`] by asking again
/// and again.
///
/// A place goes as `If-None-Match` too, so that an answer with nothing new is a 304 of no bytes. At `/poll` the
/// server never waits, whatever the request's `wait`.
#[derive(Clone, Debug)]
pub struct HttpPull {
    client: HttpClient,
    endpoint: Endpoint,
    schedule: Schedule,
    max_answer: usize,
}

impl HttpPull {
    /// Asks by `/poll` over `client`; as a push, every second.
    pub fn polling(client: HttpClient) -> Self {
        Self::new(client, Endpoint::Poll, Schedule::default())
    }

    /// Asks by `/longpoll` over `client`; as a push, again at once, each time waiting up to 25 s.
    pub fn long_polling(client: HttpClient) -> Self {
        Self::new(client, Endpoint::Longpoll, Schedule::long_poll(Duration::from_secs(25)))
    }

    fn new(client: HttpClient, endpoint: Endpoint, schedule: Schedule) -> Self {
        Self { client, endpoint, schedule, max_answer: MAX_ANSWER }
    }

    /// Sets when it asks as a [`Push`].
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the longest answer, in bytes. Default: 64 MiB.
    #[must_use]
    pub fn with_max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// The same, over `client`.
    #[must_use]
    pub fn with_client(mut self, client: HttpClient) -> Self {
        self.client = client;
        self
    }

    /// The client it asks over.
    pub fn client(&self) -> &HttpClient {
        &self.client
    }

    /// When it asks as a [`Push`].
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The transport it is.
    pub fn transport(&self) -> Transport {
        match self.endpoint {
            Endpoint::Longpoll => Transport::Longpoll,
            _ => Transport::Poll,
        }
    }

    /// The path and query that ask for `request`, and how long to wait for the answer.
    fn question(&self, cx: &Context, request: &Fetch) -> (String, Instant) {
        let now = Instant::now();
        let (mut asked, is_long) = (request.clone(), self.endpoint == Endpoint::Longpoll);
        let mut wait = if is_long { request.wait.min(Fetch::MAX_WAIT) } else { Duration::ZERO };
        if let Some(deadline) = cx.deadline {
            wait = wait.min(deadline.saturating_duration_since(now).saturating_sub(MARGIN));
        }
        asked.wait = wait;
        let deadline = cx.deadline.unwrap_or(now + wait + PATIENCE);
        let path = if is_long { "/longpoll" } else { "/poll" };
        (format!("{path}?{}", encode_fetch(&asked, self.endpoint)), deadline)
    }

    async fn take(&self, answer: Answer, asked: Option<Cursor>, deadline: Instant) -> Result<Batch, Problem> {
        match answer.status {
            StatusCode::OK if is_json(&answer.headers) => {
                parse_page(&answer.bytes(self.max_answer, deadline).await?)
            }
            StatusCode::OK => Err(Problem::new(ErrorKind::Protocol, "the answer is no JSON")),
            StatusCode::NOT_MODIFIED => nothing_new(&answer.headers, asked),
            StatusCode::GONE => closed(answer, deadline).await,
            _ => Err(answer.problem(deadline).await),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn nothing_new(headers: &HeaderMap, asked: Option<Cursor>) -> Result<Batch, Problem> {
    let told = headers.get(PUSHPULL_CURSOR).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut batch = Batch::default();
    batch.place = told.or(asked);
    match batch.place {
        Some(_) => Ok(batch),
        None => Err(Problem::new(ErrorKind::Protocol, "a 304 that nobody asked for")),
    }
}

/// The gap of a 410; if there is none, somebody else's 410.
async fn closed(answer: Answer, deadline: Instant) -> Result<Batch, Problem> {
    let (status, headers) = (answer.status, answer.headers.clone());
    let body = answer.bytes(MAX_PROBLEM, deadline).await?;
    let Ok(Item::Gap(gap)) = parse_item(&body) else {
        return Err(crate::problem::parse_problem(status, &headers, &body));
    };
    let mut batch = Batch::default();
    batch.place = Some(gap.cursor);
    batch.deliveries.push(Delivery::Gap(gap));
    batch.closed = true;
    Ok(batch)
}

#[async_trait]
impl Pull for HttpPull {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let asked = match request.start {
            StartAt::After(cursor) => Some(cursor),
            StartAt::Start(_) => None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(cursor) = asked {
            crate::headers::insert_text(&mut headers, header::IF_NONE_MATCH, &format!("\"{cursor}\""));
        }
        let (path, deadline) = self.question(cx, &request);
        let answer = self.client.get(&path, headers, deadline).await?;
        Ok(self.take(answer, asked, deadline).await?)
    }
}

#[async_trait]
impl Push for HttpPull {
    /// Asks once, so that the starting place is fixed and a refusal, or an answer against the protocol, is told; then
    /// goes on as the schedule says. A first attempt that fails but may be repeated is told as
    /// [`Link::Reconnecting`](pushpull_core::Link::Reconnecting).
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let pull = Arc::new(self.clone());
        let opened = Polling::open(pull, cx.clone(), &request, self.schedule.clone()).await?;
        Ok(opened.by_transport(self.transport().as_str()))
    }
}

#[cfg(test)]
mod tests;
