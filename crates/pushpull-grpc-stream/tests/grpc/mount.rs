//! Beside others: on one port, in an axum router, in a tonic router.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use pushpull_broker::Broker;
use pushpull_grpc_stream::{
    GrpcService,
    proto::{PublishRequest, delivery_client::DeliveryClient, server_frame::Frame},
};
use pushpull_http::{Body, Gate, Incomings, Listener, TopicService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower_service::Service;

use crate::support::{event, next, service, soon, topics};

async fn publish_and_hear(channel: Channel) {
    let mut client = DeliveryClient::new(channel);
    let mut frames = client.subscribe(topics(&["a"])).await.unwrap().into_inner();
    assert!(matches!(next(&mut frames).await, Frame::Heartbeat(_)));
    let asked = PublishRequest { topic: "a".into(), payload: "1".into(), ..PublishRequest::default() };
    let reply = client.publish(asked).await.unwrap().into_inner();
    assert_eq!(event(next(&mut frames).await).cursor, reply.cursor);
}

#[derive(Clone)]
struct Both(GrpcService, TopicService);

impl Service<Incomings> for Both {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incomings) -> Self::Future {
        match GrpcService::serves(request.uri().path()) {
            true => self.0.call(request),
            false => Box::pin(self.1.call(request)),
        }
    }
}

#[tokio::test]
async fn one_port_serves_http_1_and_grpc() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let topics = TopicService::new(gate.clone()).with_pull(Arc::new(broker.clone()));
    let both = Both(service(&broker, &gate), topics);
    let drain = gate.drain().clone();
    let serving = tokio::spawn(listener.serve(both, drain, std::future::pending(), Default::default()));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    publish_and_hear(endpoint.connect().await.unwrap()).await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /topics/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n1"), "{answer}");
    serving.abort();
}

#[tokio::test]
async fn it_mounts_into_axum() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    let mounted = service(&broker, &gate);
    let mut app = axum::Router::new().route("/", axum::routing::get(|| async { "home" }));
    for path in GrpcService::PATHS {
        app = app.route_service(path, mounted.clone());
    }
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(tcp, app).await });
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    publish_and_hear(channel.clone()).await;
    let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    assert_eq!(health.unwrap().into_inner().status, 1);
    serving.abort();
}

#[tokio::test]
async fn it_mounts_into_tonic() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    let mounted = service(&broker, &gate);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(tcp);
    let serving = tokio::spawn(async move {
        tonic::transport::Server::builder().add_service(mounted).serve_with_incoming(incoming).await
    });
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    publish_and_hear(channel).await;
    serving.abort();
}

#[tokio::test]
async fn what_is_no_grpc_is_told_by_http_and_what_is_not_there_by_a_status() {
    let mut mounted = service(&Broker::memory(), &Gate::open());
    let mut ask = async |method: &str, path: &str, kind: &str, encoding: &str| {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.header("grpc-encoding", encoding).body(Empty::new()).unwrap();
        let response: Response<Body> = mounted.call(request).await.unwrap();
        let status = response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        (response.status(), status.unwrap_or_default())
    };
    const SUBSCRIBE: &str = "/pushpull.v1.Delivery/Subscribe";
    let grpc = "application/grpc";
    let is = |status: StatusCode, code: &str| (status, code.to_owned());
    assert_eq!(ask("GET", SUBSCRIBE, grpc, "identity").await, is(StatusCode::METHOD_NOT_ALLOWED, ""));
    assert_eq!(
        ask("POST", SUBSCRIBE, "application/grpc-web", "identity").await,
        is(StatusCode::UNSUPPORTED_MEDIA_TYPE, "")
    );
    assert_eq!(ask("POST", SUBSCRIBE, grpc, "identity").await, is(StatusCode::OK, "3"), "no message");
    assert_eq!(ask("POST", SUBSCRIBE, grpc, "gzip").await, is(StatusCode::OK, "12"));
    assert_eq!(ask("POST", "/pushpull.v1.Delivery/X", grpc, "identity").await, is(StatusCode::OK, "12"));
    assert_eq!(ask("POST", "/other.v1.Service/X", grpc, "identity").await, is(StatusCode::OK, "12"));
    let request = Request::post("/grpc.health.v1.Health/Check").header("content-type", grpc);
    let response = mounted.call(request.body(Empty::new()).unwrap()).await.unwrap();
    soon(response.into_body().collect()).await.unwrap();
}
