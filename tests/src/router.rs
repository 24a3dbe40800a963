//! Every server half on one port.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Response, StatusCode};
use pushpull_broker::Broker;
use pushpull_http::{Body, Gate, Incomings, Paths, Route, TopicService};
use pushpull_http_poll::PollService;
use pushpull_longpoll::LongpollService;
use pushpull_sse::SseService;
use pushpull_ws::WsService;
use tower_service::Service;

/// Leads a request to its server half.
#[derive(Clone)]
pub(crate) struct Router {
    ws: WsService,
    sse: SseService,
    longpoll: LongpollService,
    poll: PollService,
    topics: TopicService,
}

impl Router {
    pub(crate) fn new(broker: &Broker, gate: &Gate) -> Self {
        let source = Arc::new(broker.clone());
        Self {
            ws: WsService::new(source.clone(), gate.clone()).with_producer(source.clone()),
            sse: SseService::new(source.clone(), gate.clone()),
            longpoll: LongpollService::new(source.clone(), gate.clone()),
            poll: PollService::new(source.clone(), gate.clone()),
            topics: TopicService::new(gate.clone()).with_producer(source.clone()).with_pull(source),
        }
    }
}

impl Service<Incomings> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incomings) -> Self::Future {
        match Paths::default().route(request.uri().path()) {
            Some(Route::Ws) => Box::pin(self.ws.call(request)),
            Some(Route::Sse) => Box::pin(self.sse.call(request)),
            Some(Route::Longpoll) => Box::pin(self.longpoll.call(request)),
            Some(Route::Poll) => Box::pin(self.poll.call(request)),
            Some(Route::Topic(_)) => Box::pin(self.topics.call(request)),
            _ => Box::pin(async {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_FOUND;
                Ok(response)
            }),
        }
    }
}
