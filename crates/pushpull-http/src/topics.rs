//! The paths of a topic: publish, and the newest event (wire contract, section 4).

mod latest;
mod publish;
mod read;

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, header::EXPECT, request::Parts};
use percent_encoding::percent_decode_str;
use pushpull_core::{ErrorKind, Problem, Producer, Pull, Topic};
use tower_service::Service;

use crate::{Body, BoxError, Endpoint, Entry, Gate, Paths, Rejection, Route, problem::problem_response};

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// `POST /topics/{topic}` publishes; `GET` and `HEAD` give the newest event's payload. Cheap to clone.
///
/// The topic is what stands behind `/topics/` under the prefix; where the path does not begin so (mounted by
/// `nest_service("/topics", ..)`), the whole path. In answer to a publish that failed the problem says by
/// `outcome` whether it may have been applied all the same.
#[derive(Clone)]
pub struct TopicService(Arc<Shared>);

#[derive(Clone)]
struct Shared {
    gate: Gate,
    paths: Paths,
    producer: Option<Arc<dyn Producer>>,
    pull: Option<Arc<dyn Pull>>,
}

impl TopicService {
    /// A service that answers 501 to both until it is given something to do it with.
    pub fn new(gate: Gate) -> Self {
        Self(Arc::new(Shared { gate, paths: Paths::default(), producer: None, pull: None }))
    }

    /// Publishes to `producer`.
    #[must_use]
    pub fn with_producer(mut self, producer: Arc<dyn Producer>) -> Self {
        Arc::make_mut(&mut self.0).producer = Some(producer);
        self
    }

    /// Reads newest events from `pull`.
    #[must_use]
    pub fn with_pull(mut self, pull: Arc<dyn Pull>) -> Self {
        Arc::make_mut(&mut self.0).pull = Some(pull);
        self
    }

    /// Is mounted under the prefix of `paths`. Default: none.
    #[must_use]
    pub fn with_paths(mut self, paths: Paths) -> Self {
        Arc::make_mut(&mut self.0).paths = paths;
        self
    }
}

impl Shared {
    async fn respond<B>(&self, parts: &Parts, body: Pin<&mut B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send,
    {
        let endpoint = if parts.method == Method::POST { Endpoint::Publish } else { Endpoint::Latest };
        let entry = match self.gate.enter(parts, endpoint).await {
            Ok(entry) => entry,
            Err(response) => return response,
        };
        let response = match endpoint {
            Endpoint::Publish => self.publish(parts, &entry, body).await,
            _ => self.latest(parts, &entry).await,
        };
        entry.finish(response)
    }

    async fn latest(&self, parts: &Parts, entry: &Entry) -> Response<Body> {
        let found = async {
            let topic = self.topic(parts)?;
            let pull = self.pull.as_deref().ok_or_else(|| unsupported("read"))?;
            latest::read(&self.gate, pull, &entry.cx, &topic).await
        };
        match found.await {
            Ok(event) => latest::respond(&parts.headers, &event),
            Err(problem) => {
                self.gate.metrics().rejected(Rejection::from(&problem));
                problem_response(&problem, None)
            }
        }
    }

    fn topic(&self, parts: &Parts) -> Result<Topic, Problem> {
        let path = parts.uri.path();
        let raw = match self.paths.route(path) {
            Some(Route::Topic(raw)) => raw,
            _ => path.trim_start_matches('/'),
        };
        let text = percent_decode_str(raw).decode_utf8();
        let text = text.map_err(|_| Problem::invalid("topic", "it is not UTF-8"))?;
        Ok(Topic::new(&text)?)
    }
}

fn unsupported(what: &str) -> Problem {
    Problem::new(ErrorKind::Unsupported, format!("this server has nothing to {what} topics with"))
}

impl<B> Service<Request<B>> for TopicService
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = self.0.clone();
        // Taken apart before: a future would else have room for each part twice.
        let (parts, body) = request.into_parts();
        Box::pin(async move {
            let mut body = pin!(body);
            let response = shared.respond(&parts, body.as_mut()).await;
            // Who expects to be asked for the body has not sent it.
            if !response.status().is_success() && !parts.headers.contains_key(EXPECT) {
                read::discard_body(body).await;
            }
            Ok(response)
        })
    }
}

impl std::fmt::Debug for TopicService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicService").field("paths", &self.0.paths).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
