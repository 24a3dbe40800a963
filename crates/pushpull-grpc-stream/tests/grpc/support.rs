//! A server over a broker, and stock clients of it.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use pushpull_broker::Broker;
use pushpull_core::{Context, Cursor, ErrorKind, Identity, Message, Problem, ProducerExt};
use pushpull_grpc_stream::{
    GrpcService,
    proto::{
        Event, Heartbeat, ServerFrame, SubscribeRequest, delivery_client::DeliveryClient, server_frame::Frame,
    },
};
use pushpull_http::{Action, Authorizer, Gate, Listener};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use tower_service::Service;

/// What no test takes unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A served broker.
pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) gate: Gate,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<bool>,
}

impl Node {
    pub(crate) async fn start(broker: &Broker, gate: Gate) -> Self {
        Self::over(Listener::bind("127.0.0.1:0").await.unwrap(), broker, gate)
    }

    pub(crate) fn over(listener: Listener, broker: &Broker, gate: Gate) -> Self {
        let address = listener.local_addr().unwrap();
        let (service, drain) = (service(broker, &gate), gate.drain().clone());
        let (stop, told) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stop = async { drop(told.await) };
            listener.serve(service, drain, stop, Duration::from_secs(10)).await
        });
        Self { broker: broker.clone(), gate, address, stop: Some(stop), serving }
    }

    pub(crate) async fn open() -> Self {
        Self::start(&Broker::memory(), Gate::open()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn client(&self) -> DeliveryClient<Channel> {
        DeliveryClient::new(self.channel().await)
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url()).unwrap().connect().await.unwrap()
    }

    /// Subscribes by a stock client.
    pub(crate) async fn subscribe(&self, asked: SubscribeRequest) -> Streaming<ServerFrame> {
        self.client().await.subscribe(asked).await.unwrap().into_inner()
    }

    /// Drains; `true` if all ended by themselves.
    pub(crate) async fn drain(mut self) -> bool {
        self.stop.take().unwrap().send(()).unwrap();
        soon(&mut self.serving).await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn service(broker: &Broker, gate: &Gate) -> GrpcService {
    let source = Arc::new(broker.clone());
    GrpcService::new(source.clone(), gate.clone()).with_pull(source.clone()).with_producer(source)
}

pub(crate) fn topics(topics: &[&str]) -> SubscribeRequest {
    SubscribeRequest {
        topics: topics.iter().map(ToString::to_string).collect(),
        ..SubscribeRequest::default()
    }
}

pub(crate) async fn publish(broker: &Broker, topic: &str, count: usize) -> Cursor {
    let mut last = broker.place();
    for _ in 0..count {
        last = broker.publish_one(&topic.parse().unwrap(), Message::text("x")).await.unwrap();
    }
    last
}

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it came to nothing")
}

/// Waits until `holds`, which another task brings about.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The next frame.
pub(crate) async fn next(frames: &mut Streaming<ServerFrame>) -> Frame {
    soon(frames.message()).await.unwrap().expect("a frame").frame.expect("one that says something")
}

/// The status a stream ends with.
pub(crate) async fn end(frames: &mut Streaming<ServerFrame>) -> tonic::Status {
    soon(async {
        loop {
            match frames.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return tonic::Status::ok(""),
                Err(status) => return status,
            }
        }
    })
    .await
}

pub(crate) fn event(frame: Frame) -> Event {
    match frame {
        Frame::Event(event) => event,
        other => panic!("no event: {other:?}"),
    }
}

pub(crate) fn beat(place: Cursor) -> Frame {
    Frame::Heartbeat(Heartbeat { cursor: place.to_string(), conflated: 0 })
}

/// Knows who bears a token; `stranger` may do nothing, and `soon` expires after 200 ms.
pub(crate) struct Doorman;

#[async_trait]
impl Authorizer for Doorman {
    async fn identify(&self, token: Option<&str>, cx: Context) -> Result<Context, Problem> {
        let Some(token) = token else { return Err(Problem::new(ErrorKind::Unauthenticated, "who are you?")) };
        let mut identity = Identity::new(token);
        if token == "soon" {
            identity = identity.until(Instant::now() + Duration::from_millis(200));
        }
        Ok(cx.with_identity(identity))
    }

    async fn authorize(&self, cx: &Context, _: Action<'_>) -> Result<(), Problem> {
        match cx.identity.as_ref().is_some_and(|identity| &*identity.subject == "stranger") {
            true => Err(Problem::new(ErrorKind::Forbidden, "not you")),
            false => Ok(()),
        }
    }
}

pub(crate) fn guarded() -> Gate {
    Gate::builder().with_authorizer(Doorman).build().unwrap()
}

pub(crate) fn bearing<T>(token: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The status of a call that is made by hand.
pub(crate) async fn raw(
    node: &Node,
    method: &str,
    headers: &[(&str, &str)],
    message: &impl prost::Message,
) -> tonic::Status {
    let mut body = vec![0];
    body.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut body).unwrap();
    let mut request = http::Request::post(format!("http://h/pushpull.v1.Delivery/{method}"));
    for (name, value) in headers.iter().chain(&[("content-type", "application/grpc")]) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response = service(&node.broker, &node.gate).call(request).await.unwrap();
    let at_once = tonic::Status::from_header_map(response.headers());
    let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap_or_default();
    at_once.or_else(|| tonic::Status::from_header_map(&trailers)).expect("a status")
}
