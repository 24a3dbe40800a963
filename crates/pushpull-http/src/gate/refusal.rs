//! Why a request was not let in.

use std::time::Duration;

use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, WWW_AUTHENTICATE},
    request::Parts,
};
use pushpull_core::{ErrorKind, Outcome, Problem, Retry};

use crate::{
    Body, Endpoint,
    body::without_body,
    origin,
    problem::{problem_response_as, publish_status, status},
};

/// A request that was not let in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// Why, by what an adapter may do about it.
    pub kind: RefusalKind,
    /// Why, described.
    pub problem: Problem,
    origin: Option<HeaderValue>,
    allow: Option<&'static str>,
    status: StatusCode,
    outcome: Option<Outcome>,
    has_token: bool,
    is_head: bool,
    answer: Option<Box<Response<Body>>>,
}

/// Why a request was not let in, by what an adapter may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// It is no refusal: an `OPTIONS` that the response answers.
    Answered,
    /// The path does not take this method.
    Method,
    /// The server has all the connections it takes; [`Refusal::retry`] says when to come back.
    Full,
    /// The server is going away; [`Refusal::retry`] says when to come back.
    Draining,
    /// A browser origin that may not come.
    Origin,
    /// The request is at fault, or who asks is not known or may not.
    Request,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, problem: Problem) -> Self {
        let status = status(&problem);
        Self {
            kind,
            problem,
            origin: None,
            allow: None,
            status,
            outcome: None,
            has_token: false,
            is_head: false,
            answer: None,
        }
    }

    pub(super) fn request(problem: Problem) -> Self {
        Self::new(RefusalKind::Request, problem)
    }

    pub(super) fn answered(response: Response<Body>) -> Self {
        let problem = Problem::new(ErrorKind::Invalid, "OPTIONS asks for nothing else");
        Self { answer: Some(Box::new(response)), ..Self::new(RefusalKind::Answered, problem) }
    }

    /// A method that the path does not take, or that HTTP does not know (RFC 9110, 15.6.2).
    pub(super) fn method(allow: &'static str, method: &Method) -> Self {
        let is_known = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::CONNECT,
            Method::OPTIONS,
            Method::TRACE,
            Method::PATCH,
        ]
        .contains(method);
        let (status, kind) = match is_known {
            true => (StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Invalid),
            false => (StatusCode::NOT_IMPLEMENTED, ErrorKind::Unsupported),
        };
        let problem = Problem::new(kind, format!("this path takes {allow}"));
        Self { allow: Some(allow), status, ..Self::new(RefusalKind::Method, problem) }
    }

    /// Notes whether the request bore a token, which the challenge of a 401 tells (RFC 6750, 3).
    pub(super) fn with_token(mut self, has_token: bool) -> Self {
        self.has_token = has_token;
        self
    }

    pub(super) fn see(&mut self, request: &Parts, endpoint: Endpoint, origin: Option<HeaderValue>) {
        if endpoint == Endpoint::Publish {
            self.outcome = Some(Outcome::NotApplied);
            if self.kind == RefusalKind::Request {
                self.status = publish_status(&self.problem);
            }
        }
        self.origin = origin;
        self.is_head = request.method == Method::HEAD;
    }

    /// How long the client should stay away, jittered, if the server is full or going away.
    pub fn retry(&self) -> Option<Duration> {
        match self.problem.retry() {
            Retry::After(delay) => Some(delay),
            _ => None,
        }
    }

    /// Adds the CORS headers of this request to another answer than [`Refusal::into_response`].
    pub fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        origin::insert_cors(response.headers_mut(), self.origin.as_ref());
        if self.is_head { without_body(response) } else { response }
    }

    /// The response that says it.
    pub fn into_response(mut self) -> Response<Body> {
        let mut response = match self.answer.take() {
            Some(answer) => *answer,
            None => problem_response_as(self.status, &self.problem, self.outcome),
        };
        let headers = response.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.has_token && self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Bearer realm=\"pushpull\", error=\"invalid_token\"";
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        self.finish(response)
    }
}
