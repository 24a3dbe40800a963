//! The service to mount.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use pushpull_core::{ErrorKind, Problem};
use pushpull_http::{
    Body, BoxError,
    problem::{problem_response, problem_response_as},
};
use tokio::time::Instant;
use tower_service::Service;

use super::{Receiver, Refused, not_now};
use crate::{VerifyError, body::read_body};

/// Takes deliveries by `POST`, at whatever path it is mounted. Cheap to clone.
///
/// 204 once the consumer has the event; 400 for what is no delivery; 401 for one that nobody here vouches for, or that
/// is too old; 503 with `Retry-After` while nobody takes it.
#[derive(Clone, Debug)]
pub struct ReceiverService {
    receiver: Receiver,
}

impl ReceiverService {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self { receiver }
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let (parts, body) = request.into_parts();
        if parts.method != Method::POST {
            let problem = Problem::new(ErrorKind::Invalid, "this path takes POST");
            let mut response = problem_response_as(StatusCode::METHOD_NOT_ALLOWED, &problem, None);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        match self.take(&parts.headers, pin!(body)).await {
            Ok(()) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(Refused::Problem(problem)) => problem_response(&problem, None),
            Err(Refused::Unverified(error @ VerifyError::Header(_))) => {
                problem_response(&Problem::new(ErrorKind::Invalid, error.to_string()), None)
            }
            Err(Refused::Unverified(error)) => {
                problem_response(&Problem::new(ErrorKind::Unauthenticated, error.to_string()), None)
            }
        }
    }

    async fn take<B>(&self, headers: &HeaderMap, body: Pin<&mut B>) -> Result<(), Refused>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let config = &self.receiver.0.config;
        let slot = self.receiver.0.slots.try_acquire();
        let _slot = slot.map_err(|_| Refused::Problem(not_now("too many deliveries at once")))?;
        if !is_json(headers) {
            let problem = Problem::new(ErrorKind::UnsupportedType, "a delivery comes as application/json");
            return Err(Refused::Problem(problem.with_parameter("Content-Type")));
        }
        let deadline = Instant::now() + config.hold;
        let body = read_body(body, config.body, config.hold).await.map_err(Refused::Problem)?;
        self.receiver.take(headers, &body, deadline).await
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

impl<B> Service<Request<B>> for ReceiverService
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
