//! tonic's server streaming: the call `Subscribe` of `pushpull.v1.Delivery`, beside axum's POST.
//!
//! A cursor is a counter of all messages. The frame is cloned and encoded anew for each subscriber, as tonic's codec
//! does; it has topic, cursor and payload, the other fields are left out. The first frame says that the subscription
//! stands.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use bytes::Bytes;
use futures_util::Stream;
use pushpull_http::proto::v1::{Event, Heartbeat, ServerFrame, SubscribeRequest, server_frame::Frame};
use tokio_stream::{StreamExt as _, wrappers::BroadcastStream};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::ProstCodec;

use crate::topics::Topics;

pub(crate) fn app() -> Router {
    let delivery = Delivery { topics: Topics::new(), last: Arc::default() };
    let publish = Router::new().route("/topics/{topic}", post(publish)).with_state(delivery.clone());
    tonic::service::Routes::new(delivery).into_axum_router().merge(publish)
}

#[derive(Clone)]
struct Delivery {
    topics: Topics<Event>,
    last: Arc<AtomicU64>,
}

async fn publish(State(delivery): State<Delivery>, Path(topic): Path<String>, payload: Bytes) -> StatusCode {
    let number = delivery.last.fetch_add(1, Ordering::Relaxed);
    let event = Event { topic: topic.clone(), cursor: format!("a-{number}"), payload, ..Event::default() };
    delivery.topics.publish(&topic, event);
    StatusCode::CREATED
}

type Frames = Pin<Box<dyn Stream<Item = Result<ServerFrame, Status>> + Send>>;

impl Delivery {
    fn subscribe(&self, request: SubscribeRequest) -> Result<Response<Frames>, Status> {
        let topic = request.topics.into_iter().next();
        let topic = topic.ok_or_else(|| Status::invalid_argument("a topic is missing"))?;
        let events = BroadcastStream::new(self.topics.subscribe(topic));
        let events = events.filter_map(|event| match event {
            Ok(event) => Some(Ok(frame(Frame::Event(event)))),
            // It says that some were lost.
            Err(_) => None,
        });
        let stands = tokio_stream::once(Ok(frame(Frame::Heartbeat(Heartbeat::default()))));
        Ok(Response::new(Box::pin(stands.chain(events))))
    }
}

fn frame(frame: Frame) -> ServerFrame {
    ServerFrame { frame: Some(frame), ..ServerFrame::default() }
}

// What tonic generates from a service's definition.

impl NamedService for Delivery {
    const NAME: &'static str = "pushpull.v1.Delivery";
}

impl Service<http::Request<Body>> for Delivery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let delivery = self.clone();
        Box::pin(async move {
            if request.uri().path() != "/pushpull.v1.Delivery/Subscribe" {
                return Ok(Status::unimplemented("").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).server_streaming(Subscribe(delivery), request).await)
        })
    }
}

struct Subscribe(Delivery);

impl ServerStreamingService<SubscribeRequest> for Subscribe {
    type Response = ServerFrame;
    type ResponseStream = Frames;
    type Future = Ready<Result<Response<Frames>, Status>>;

    fn call(&mut self, request: Request<SubscribeRequest>) -> Self::Future {
        ready(self.0.subscribe(request.into_inner()))
    }
}
