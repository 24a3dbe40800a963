//! Health and reflection against stock clients.

use std::time::Duration;

use pushpull_broker::Broker;
use pushpull_http::Gate;
use tonic::{Code, codegen::tokio_stream};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{Node, guarded, next, soon, topics};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn health_is_told_to_anybody() {
    let node = Node::start(&Broker::memory(), guarded()).await;
    let mut client = HealthClient::new(node.channel().await);
    for service in ["", "pushpull.v1.Delivery"] {
        let answer = client.check(of(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(client.check(of("other")).await.unwrap_err().code(), Code::NotFound);
    let mut unknown = client.watch(of("other")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn a_watcher_hears_of_a_full_and_of_a_draining_server() {
    let gate = Gate::builder().with_max_connections(1).with_keep_alive(Duration::from_millis(10));
    let node = Node::start(&Broker::memory(), gate.build().unwrap()).await;
    let mut client = HealthClient::new(node.channel().await);
    let mut watch = client.watch(of("")).await.unwrap().into_inner();
    let mut status = async || soon(watch.message()).await.unwrap().unwrap().status();
    assert_eq!(status().await, ServingStatus::Serving);
    let mut frames = node.subscribe(topics(&["a"])).await;
    next(&mut frames).await;
    assert_eq!(status().await, ServingStatus::NotServing);
    drop(frames);
    assert_eq!(status().await, ServingStatus::Serving);
    let drained = tokio::spawn(node.drain());
    assert_eq!(status().await, ServingStatus::NotServing);
    assert_eq!(soon(watch.message()).await.unwrap_err().code(), Code::Unavailable);
    assert!(soon(drained).await.unwrap());
}

macro_rules! reflects {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let node = Node::open().await;
            let ask = |asked| ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
            let asked = [
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol("pushpull.v1.Delivery.Attach".into())),
            ];
            let mut client = ServerReflectionClient::new(node.channel().await);
            let asked = tokio_stream::iter(asked);
            let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
            let mut answer = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
            let MessageResponse::ListServicesResponse(list) = answer().await else { panic!("no list") };
            let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
            for name in ["pushpull.v1.Delivery", "grpc.health.v1.Health"] {
                assert!(names.contains(&name), "{names:?}");
            }
            let MessageResponse::FileDescriptorResponse(file) = answer().await else { panic!("no file") };
            let file = String::from_utf8_lossy(&file.file_descriptor_proto[0]).into_owned();
            assert!(file.contains("SubscribeRequest") && file.contains("pushpull/v1/pushpull.proto"));
        }
    };
}

reflects!(reflection_v1, v1);
reflects!(reflection_v1alpha, v1alpha);

#[tokio::test]
async fn an_open_reflection_stream_does_not_hold_up_a_drain() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let node = Node::open().await;
    let mut client = ServerReflectionClient::new(node.channel().await);
    let silent = tokio_stream::pending();
    let mut answers = client.server_reflection_info(silent).await.unwrap().into_inner();
    let drained = tokio::spawn(node.drain());
    assert_eq!(soon(answers.message()).await.unwrap_err().code(), Code::Unavailable);
    assert!(soon(drained).await.unwrap());
}
