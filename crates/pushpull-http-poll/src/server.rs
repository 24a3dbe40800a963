//! The server half: `GET /poll`.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use pushpull_core::Pull;
use pushpull_http::{Body, Endpoint, Gate, PollRequest};
use tower_service::Service;

/// Serves polls over any [`Pull`], each answered at once. Cheap to clone.
///
/// It answers every path it is called with: mount it where `/poll` should be.
#[derive(Clone)]
pub struct PollService {
    pull: Arc<dyn Pull>,
    gate: Gate,
}

impl PollService {
    /// Serves `pull` to whom `gate` lets in.
    pub fn new(pull: Arc<dyn Pull>, gate: Gate) -> Self {
        Self { pull, gate }
    }

    async fn answer(self, request: &Parts) -> Response<Body> {
        match PollRequest::enter(&self.gate, request, Endpoint::Poll).await {
            Ok(poll) => poll.answer(self.pull.fetch(poll.cx(), poll.fetch().clone()).await),
            Err(refused) => refused,
        }
    }
}

impl<B> Service<Request<B>> for PollService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(&parts).await) })
    }
}

impl fmt::Debug for PollService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollService").field("gate", &self.gate).finish_non_exhaustive()
    }
}
