//! One poll: what it asks for, and the answer to it (wire contract, sections 2 and 4).

mod answer;

use http::{HeaderValue, Response, request::Parts};
use pushpull_core::{Batch, Context, Cursor, ErrorKind, Fetch, FetchError, Problem, StartAt};

use crate::{
    Body, ConnectionGuard, Endpoint, Entry, Gate, Rejection, Transport,
    body::without_body,
    gate::expired,
    headers::{if_none_match, prefer_wait},
    origin,
    problem::problem_response,
};

/// The longest answer in bytes; one event comes even if it is larger, and a snapshot comes whole. 3 MiB.
pub const MAX_PAGE: usize = 3 * 1024 * 1024;

/// A poll that was let in and understood: `GET` or `HEAD` of `/poll` or `/longpoll`.
///
/// Holds its place in the count of connections until dropped.
#[derive(Debug)]
pub struct PollRequest {
    gate: Gate,
    cx: Context,
    _guard: Option<ConnectionGuard>,
    origin: Option<HeaderValue>,
    is_head: bool,
    /// Whether the answer depends on `Prefer`.
    varies: bool,
    transport: Option<Transport>,
    fetch: Fetch,
    /// The place that came by `If-None-Match`.
    known: Option<Cursor>,
    /// The seconds of `Prefer: wait` that were taken.
    preferred: Option<u8>,
}

impl PollRequest {
    /// Lets `request` in through `gate` and reads what it asks for at `endpoint`, which is
    /// [`Endpoint::Poll`] or [`Endpoint::Longpoll`]. A `HEAD` never waits.
    ///
    /// # Errors
    /// The response to send instead.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn enter(gate: &Gate, request: &Parts, endpoint: Endpoint) -> Result<Self, Response<Body>> {
        let entry = gate.enter(request, endpoint).await?;
        let asked = if_none_match(&request.headers)
            .and_then(|known| entry.query.fetch(known).map(|fetch| (known, fetch)));
        let (known, mut fetch) = match asked {
            Ok(asked) => asked,
            Err(problem) => return Err(refuse(gate, &entry, &problem)),
        };
        let may_prefer = endpoint == Endpoint::Longpoll && entry.query.wait.is_none();
        let preferred = prefer_wait(&request.headers).filter(|_| may_prefer);
        if let Some(wait) = preferred {
            fetch = fetch.with_wait(wait);
        }
        if entry.is_head() {
            fetch.wait = std::time::Duration::ZERO;
        }
        Ok(Self {
            gate: gate.clone(),
            origin: entry.origin().cloned(),
            is_head: entry.is_head(),
            cx: entry.cx,
            _guard: entry.guard,
            varies: may_prefer,
            transport: endpoint.transport(),
            fetch,
            known,
            // At most 60.
            preferred: preferred.and_then(|wait| wait.as_secs().try_into().ok()),
        })
    }

    /// The same, from behind `place`.
    #[must_use]
    pub fn after(mut self, place: Cursor) -> Self {
        self.fetch.start = StartAt::After(place);
        self
    }

    /// What it asks a [`Pull`](pushpull_core::Pull) for.
    pub fn fetch(&self) -> &Fetch {
        &self.fetch
    }

    /// Who asks.
    pub fn cx(&self) -> &Context {
        &self.cx
    }

    /// Returns when the identity of who asks ceases to hold; never if it does not.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn expired(&self) {
        expired(&self.cx).await;
    }

    /// Answers that the identity of who asks has ceased to hold.
    pub fn answer_expired(&self) -> Response<Body> {
        self.refuse(&Problem::new(ErrorKind::Unauthenticated, "the token has expired"))
    }

    fn refuse(&self, problem: &Problem) -> Response<Body> {
        self.gate.metrics().rejected(Rejection::from(problem));
        self.finish(problem_response(problem, None))
    }

    /// As [`Entry::finish`].
    fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        origin::insert_cors(response.headers_mut(), self.origin.as_ref());
        if self.is_head { without_body(response) } else { response }
    }

    /// Answers with what was fetched, and counts it.
    ///
    /// - something new: 200, cut at [`MAX_PAGE`];
    /// - nothing new, the place by `If-None-Match`: 304, but 200 with the new cursor where the place is stale;
    /// - the overflow policy `close` was met: 410 with the gap;
    /// - an error: its problem.
    pub fn answer(&self, fetched: Result<Batch, FetchError>) -> Response<Body> {
        match fetched {
            Ok(batch) => self.finish(self.respond(batch)),
            Err(error) => self.refuse(error.problem()),
        }
    }
}

fn refuse(gate: &Gate, entry: &Entry, problem: &Problem) -> Response<Body> {
    gate.metrics().rejected(Rejection::from(problem));
    entry.finish(problem_response(problem, None))
}

#[cfg(test)]
mod tests;
