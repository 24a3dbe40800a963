//! The server half: `GET /sse`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use http::{
    HeaderValue, Request, Response,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};
use pushpull_core::{Batch, Bounds, Delivery, Link, Overflow, Push, Subscription, silent_waker};
use pushpull_http::{
    Body, Endpoint, Entry, Gate, Refusal, RefusalKind, headers::last_event_id, problem::problem_response,
};
use tower_service::Service;

use crate::{codec, session::SseBody};

/// Serves Server-Sent Events over any [`Push`]. Cheap to clone.
///
/// It answers every path it is called with: mount it where `/sse` should be.
#[derive(Clone)]
pub struct SseService {
    push: Arc<dyn Push>,
    gate: Gate,
}

impl SseService {
    /// Serves `push` to whom `gate` lets in.
    pub fn new(push: Arc<dyn Push>, gate: Gate) -> Self {
        Self { push, gate }
    }

    async fn answer(self, request: Parts) -> Response<Body> {
        match self.gate.enter_or_problem(&request, Endpoint::Sse).await {
            Ok(entry) => self.stream(entry, &request).await,
            Err(refusal) => refuse(refusal, &request),
        }
    }

    async fn stream(self, entry: Entry, request: &Parts) -> Response<Body> {
        if entry.is_head() {
            return entry.finish(event_stream(Body::empty()));
        }
        let resume = last_event_id(&request.headers);
        let wanted = match entry.query.subscribe(resume) {
            Ok(wanted) => wanted,
            Err(problem) => return entry.finish(problem_response(&problem, None)),
        };
        let may_be_closed = resume.is_some() && wanted.overflow == Overflow::Close;
        let start = wanted.start;
        let mut subscription = match (*self.push).subscribe(&entry.cx, wanted).await {
            Ok(subscription) => subscription,
            Err(error) => return entry.finish(problem_response(error.problem(), None)),
        };
        let first = take_ready(&mut subscription);
        if may_be_closed && is_closed_at_once(&first) {
            return entry.finish(no_content());
        }
        let finished = entry.finish(event_stream(Body::empty()));
        let body = SseBody::new(subscription, start, first, self.gate, entry);
        finished.map(|_| Body::live(body))
    }
}

/// What is there at once: the starting place, at least.
fn take_ready(subscription: &mut Subscription) -> Batch {
    let mut batch = Batch::default();
    let mut cx = task::Context::from_waker(silent_waker());
    loop {
        let before = batch.deliveries.len();
        let polled = subscription.poll_batch(&mut cx, Bounds::default(), &mut batch);
        let is_gap_last = matches!(batch.deliveries.last(), Some(Delivery::Gap(_)));
        // After a gap the end may follow: look once more.
        if !is_gap_last || batch.deliveries.len() == before || !matches!(polled, Poll::Ready(Some(Ok(())))) {
            return batch;
        }
    }
}

/// Whether a browser came back to a stream that `overflow=close` ended: the status 204 stops it for good.
fn is_closed_at_once(first: &Batch) -> bool {
    let mut deliveries = first.deliveries.iter();
    !first.deliveries.iter().any(|delivery| matches!(delivery, Delivery::Event(_)))
        && deliveries.any(|delivery| matches!(delivery, Delivery::Link(Link::Ended { retry: None, .. })))
}

fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    response
}

/// Any status but 200 is final for a browser's `EventSource`; a full or draining server asks it to come back.
fn refuse(refusal: Refusal, request: &Parts) -> Response<Body> {
    let comes_back = matches!(refusal.kind, RefusalKind::Full | RefusalKind::Draining);
    match refusal.retry() {
        Some(delay) if comes_back && accepts_event_stream(request) => {
            refusal.finish(event_stream(Body::full(codec::retry(delay, None))))
        }
        _ => refusal.into_response(),
    }
}

fn accepts_event_stream(request: &Parts) -> bool {
    let values = request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
    })
}

impl<B> Service<Request<B>> for SseService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(parts).await) })
    }
}

impl std::fmt::Debug for SseService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SseService").field("gate", &self.gate).finish_non_exhaustive()
    }
}
