//! What every request owes, whoever read it.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Incomings, host};
use crate::{Body, Peer, problem::problem_response};

/// Checks what every request owes, and notes its peer.
#[derive(Clone)]
pub(crate) struct Checked<S> {
    service: S,
    peer: SocketAddr,
}

pin_project! {
    /// The answer to a request that was, or was not, handed to its service.
    #[project = AnsweringProj]
    pub(crate) enum Answering<F> {
        // Boxed: it is rare, and must not make every connection's future larger.
        Refused { response: Option<Box<Response<Body>>> },
        Asked { #[pin] answer: F },
    }
}

impl<S> Checked<S>
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible>,
{
    pub(crate) fn new(service: S, peer: SocketAddr) -> Self {
        Self { service, peer }
    }

    pub(crate) fn call(mut self, mut request: Incomings) -> Answering<S::Future> {
        if let Err(problem) = host::check(&request) {
            return Answering::Refused { response: Some(Box::new(problem_response(&problem, None))) };
        }
        request.extensions_mut().insert(Peer(self.peer));
        Answering::Asked { answer: self.service.call(request) }
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            AnsweringProj::Refused { response } => {
                Poll::Ready(Ok(response.take().map_or_else(Response::default, |response| *response)))
            }
            AnsweringProj::Asked { answer } => answer.poll(cx),
        }
    }
}
