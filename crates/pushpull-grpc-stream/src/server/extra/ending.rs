//! Streams of others' making, which end when the server does.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pushpull_core::{ErrorKind, Problem};
use pushpull_http::Drain;
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body as TonicBody;

use crate::{
    server::{Incoming, call::trailers},
    status,
};

/// The body of a request that ends once a drain begins: else who waits for more of it would hold its connection open.
pub(super) struct Listening {
    body: Incoming,
    begun: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Listening {
    pub(super) fn new(body: Incoming, drain: Drain) -> Self {
        Self { body, begun: Box::pin(async move { drain.cancelled().await }) }
    }
}

impl Body for Listening {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.begun.as_mut().poll(cx).map(|()| None)
    }
}

/// A body that ends with `UNAVAILABLE` once a drain begins and nothing more is ready.
pub(super) struct Ending {
    body: Option<TonicBody>,
    drain: Drain,
    begun: Pin<Box<dyn Future<Output = ()> + Send>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Ending {
    pub(super) fn new(body: TonicBody, drain: Drain, permit: Option<OwnedSemaphorePermit>) -> Self {
        let told = drain.clone();
        let begun = Box::pin(async move { told.cancelled().await });
        Self { body: Some(body), drain, begun, _permit: permit }
    }
}

impl Body for Ending {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.begun.as_mut().poll(cx));
        self.body = None;
        let problem = Problem::new(ErrorKind::Unavailable, "the server is going away");
        let problem = problem.with_retry(self.drain.retry_hint());
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status::status_of(&problem, None, None))))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
