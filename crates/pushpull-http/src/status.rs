//! `/metrics` and `/health` (wire contract, section 7).

mod accept;
mod health;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, VARY},
};
use pushpull_core::{ErrorKind, Problem};
use tower_service::Service;

use crate::{
    Body, Gate, Metrics, Observed, Paths, Route,
    body::without_body,
    problem::{problem_response, problem_response_as},
    topics::Answer,
};

/// `/metrics`, `/health` and `/health/live`, open to everybody unless closed by a token. Cheap to clone.
#[derive(Clone)]
pub struct StatusService(Arc<Shared>);

#[derive(Clone)]
struct Shared {
    gate: Gate,
    paths: Paths,
    observed: Option<Arc<dyn Observed>>,
    token: Option<Arc<str>>,
    probe: health::Probe,
}

impl StatusService {
    /// A service over what `gate` counts.
    pub fn new(gate: Gate) -> Self {
        let probe = health::Probe::default();
        Self(Arc::new(Shared { gate, paths: Paths::default(), observed: None, token: None, probe }))
    }

    /// Tells of `source` too: its gauges, and whether it works.
    #[must_use]
    pub fn with_observed(mut self, source: Arc<dyn Observed>) -> Self {
        Arc::make_mut(&mut self.0).observed = Some(source);
        self
    }

    /// Is mounted under the prefix of `paths`. Default: none.
    #[must_use]
    pub fn with_paths(mut self, paths: Paths) -> Self {
        Arc::make_mut(&mut self.0).paths = paths;
        self
    }

    /// Answers only those who bear `token` (`Authorization: Bearer`). Default: everybody.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).token = Some(token.into());
        self
    }

    async fn answer(&self, method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Response<Body> {
        let shared = &self.0;
        let route = shared.paths.route(uri.path());
        let Some(route @ (Route::Metrics | Route::Health | Route::HealthLive)) = route else {
            return problem_response(&Problem::new(ErrorKind::NotFound, "there is no such path"), None);
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return refused_method();
        }
        if !self.may_look(headers) {
            let problem = Problem::new(ErrorKind::Unauthenticated, "a token is needed here");
            return problem_response(&problem, None);
        }
        match route {
            Route::HealthLive => health::live(),
            Route::Health => shared.health(uri.query()).await,
            _ => shared.metrics_page(headers),
        }
    }

    fn may_look(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.0.token else { return true };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let given = match given.split_at_checked(7) {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") => given,
            _ => b"",
        };
        is_same(given, token.as_bytes())
    }
}

impl Shared {
    fn metrics_page(&self, headers: &HeaderMap) -> Response<Body> {
        let format = accept::negotiate(headers);
        let observed = self.observed.as_ref().map(|source| source.observe());
        let mut response = Response::new(Body::full(self.metrics().render(format, observed.as_ref())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        response
    }

    fn metrics(&self) -> &Metrics {
        self.gate.metrics()
    }
}

/// Compares in a time that depends on the lengths alone.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

fn refused_method() -> Response<Body> {
    let problem = Problem::new(ErrorKind::Invalid, "this path takes GET, HEAD");
    let mut response = problem_response_as(StatusCode::METHOD_NOT_ALLOWED, &problem, None);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

impl<B> Service<Request<B>> for StatusService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        let (parts, _) = request.into_parts();
        Box::pin(async move {
            let mut response = service.answer(&parts.method, &parts.uri, &parts.headers).await;
            if parts.method == Method::HEAD {
                response = without_body(response);
            }
            Ok(response)
        })
    }
}

impl std::fmt::Debug for StatusService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusService").field("paths", &self.0.paths).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
