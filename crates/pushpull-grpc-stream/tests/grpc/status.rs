//! Which status says what.

use std::time::Duration;

use pushpull_broker::Broker;
use pushpull_grpc_stream::proto::{FetchRequest, Message, Overflow, PublishRequest, Start, SubscribeRequest};
use pushpull_http::{Gate, Transport};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{Node, bearing, guarded, next, topics};

fn told(status: &Status) -> (Code, String, Option<String>) {
    let details = status.get_error_details();
    let slug = details.error_info().unwrap().reason.clone();
    let field = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
    assert!(field.as_ref().is_none_or(|field| status.message().starts_with(field.as_str())), "{status:?}");
    (status.code(), slug, field)
}

fn invalid(field: &str) -> (Code, String, Option<String>) {
    (Code::InvalidArgument, "bad-request".into(), Some(field.into()))
}

#[tokio::test]
async fn a_bad_subscription_names_its_field() {
    let node = Node::open().await;
    let mut client = node.client().await;
    let good = || topics(&["a"]);
    let latest = Start::Latest.into();
    for (asked, field) in [
        (topics(&[]), "topics"),
        (topics(&["a..b"]), "topics"),
        (topics(&["a"; 65].map(|_| "a")), ""),
        (SubscribeRequest { after: "no cursor".into(), ..good() }, "after"),
        (SubscribeRequest { after: "a-1".into(), start: latest, ..good() }, "start"),
        (SubscribeRequest { start: 99, ..good() }, "start"),
        (SubscribeRequest { overflow: 99, ..good() }, "overflow"),
        (SubscribeRequest { conflate: 99, ..good() }, "conflate"),
        (SubscribeRequest { rate: 0.01, ..good() }, "rate"),
        (SubscribeRequest { rate: f64::NAN, ..good() }, "rate"),
    ] {
        match client.subscribe(asked).await {
            Ok(_) => assert_eq!(field, "", "the same topic many times counts once"),
            Err(status) => assert_eq!(told(&status), invalid(field)),
        }
    }
    let many: Vec<_> = (0..65).map(|n| format!("t{n}")).collect();
    let asked = SubscribeRequest { topics: many, ..SubscribeRequest::default() };
    assert_eq!(told(&client.subscribe(asked).await.unwrap_err()), invalid("topics"));
}

#[tokio::test]
async fn a_bad_question_names_its_field() {
    let node = Node::open().await;
    let mut client = node.client().await;
    let good = || FetchRequest { topics: vec!["a".into()], ..FetchRequest::default() };
    for (asked, field) in [
        (FetchRequest::default(), "topics"),
        (FetchRequest { after: "x".into(), ..good() }, "after"),
        (FetchRequest { limit: 1001, ..good() }, "limit"),
        (FetchRequest { wait: 61, ..good() }, "wait"),
        (FetchRequest { overflow: Overflow::Latest.into(), ..good() }, "overflow"),
    ] {
        assert_eq!(told(&client.fetch(asked).await.unwrap_err()), invalid(field));
    }
}

#[tokio::test]
async fn a_bad_publish_names_its_field_and_its_outcome() {
    let gate = Gate::builder().with_max_payload(100).build().unwrap();
    let node = Node::start(&Broker::memory(), gate).await;
    let mut client = node.client().await;
    let good = || PublishRequest { topic: "a".into(), ..PublishRequest::default() };
    let batch = vec![Message::default()];
    for (asked, field) in [
        (PublishRequest { topic: "a.>".into(), ..good() }, "topic"),
        (PublishRequest { event: "pushpull-x".into(), ..good() }, "event"),
        (PublishRequest { key: "k".repeat(256), ..good() }, "key"),
        (PublishRequest { content_type: "json".into(), ..good() }, "content_type"),
        (
            PublishRequest { content_type: "application/json".into(), payload: "{".into(), ..good() },
            "payload",
        ),
        (PublishRequest { idempotency: "i".repeat(256), ..good() }, "idempotency"),
        (PublishRequest { payload: "x".into(), messages: batch, ..good() }, "messages"),
    ] {
        let status = client.publish(asked).await.unwrap_err();
        assert_eq!(told(&status), invalid(field));
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["outcome"], "not-applied");
    }
    for size in [101, 2_000_000] {
        let asked = PublishRequest { payload: vec![0; size].into(), ..good() };
        let status = client.publish(asked).await.unwrap_err();
        assert_eq!(told(&status), (Code::ResourceExhausted, "too-large".into(), None), "{size}");
    }
    let asked = PublishRequest { payload: "1".into(), idempotency: "i".into(), ..good() };
    let first = client.publish(asked.clone()).await.unwrap().into_inner();
    assert_eq!((&first.cursor, &first.cursor, first.count), (&first.first, &first.last, 1));
    assert_eq!(client.publish(asked.clone()).await.unwrap().into_inner(), first, "a repeat");
    let other = PublishRequest { payload: "2".into(), ..asked };
    let conflict = client.publish(other).await.unwrap_err();
    assert_eq!(
        told(&conflict),
        (Code::AlreadyExists, "idempotency-conflict".into(), Some("idempotency".into()))
    );
    let messages = ["1", "2", "3"].map(|payload| Message { payload: payload.into(), ..Message::default() });
    let batch = PublishRequest { messages: messages.into(), ..good() };
    let reply = client.publish(batch).await.unwrap().into_inner();
    assert_eq!(reply.count, 3);
    assert!(reply.first.ends_with("-2") && reply.last.ends_with("-4") && reply.cursor == reply.last);
}

#[tokio::test]
async fn who_is_not_known_or_may_not_is_told() {
    let node = Node::start(&Broker::memory(), guarded()).await;
    let mut client = node.client().await;
    let fetch = || FetchRequest { topics: vec!["a".into()], ..FetchRequest::default() };
    let publish = || PublishRequest { topic: "a".into(), ..PublishRequest::default() };
    let unknown = (Code::Unauthenticated, "unauthenticated".to_owned(), None);
    assert_eq!(told(&client.subscribe(topics(&["a"])).await.unwrap_err()), unknown);
    assert_eq!(told(&client.fetch(fetch()).await.unwrap_err()), unknown);
    assert_eq!(told(&client.publish(publish()).await.unwrap_err()), unknown);
    let attach = tonic::codegen::tokio_stream::empty();
    assert_eq!(told(&client.attach(attach).await.unwrap_err()), unknown);
    let forbidden = (Code::PermissionDenied, "forbidden".to_owned(), None);
    let stranger = client.subscribe(bearing("stranger", topics(&["a"]))).await;
    assert_eq!(told(&stranger.unwrap_err()), forbidden);
    assert_eq!(told(&client.fetch(bearing("stranger", fetch())).await.unwrap_err()), forbidden);
    assert_eq!(told(&client.publish(bearing("stranger", publish())).await.unwrap_err()), forbidden);
    let published = client.publish(bearing("friend", publish())).await.unwrap().into_inner();
    assert_eq!((published.cursor, published.count), (node.broker.place().to_string(), 1));
    assert_eq!(node.broker.place().seq(), 1, "and nothing of the others'");
    let foreign = |mut request: Request<SubscribeRequest>| {
        request.metadata_mut().insert("origin", "https://evil.example".parse().unwrap());
        request
    };
    let foreign = client.subscribe(foreign(bearing("friend", topics(&["a"])))).await;
    assert_eq!(told(&foreign.unwrap_err()), forbidden);
}

#[tokio::test]
async fn a_full_and_a_draining_server_say_when_to_come_back() {
    let spread = Duration::from_secs(2);
    let gate = Gate::builder().with_max_connections(1).with_retry_spread(spread).build().unwrap();
    let node = Node::start(&Broker::memory(), gate).await;
    let retry = |status: &Status| {
        let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay).unwrap();
        assert!((spread / 10..=spread).contains(&delay), "{delay:?}");
    };
    let mut client = node.client().await;
    let mut frames = client.subscribe(topics(&["a"])).await.unwrap().into_inner();
    next(&mut frames).await;
    let full = client.subscribe(topics(&["a"])).await.unwrap_err();
    assert_eq!(told(&full), (Code::ResourceExhausted, "overloaded".into(), None));
    retry(&full);
    assert_eq!(node.gate.metrics().connections(Transport::Grpc), 1);
    drop(frames);
    // Not by the listener, which would close the connection.
    node.gate.drain().begin();
    let draining = client.subscribe(topics(&["a"])).await.unwrap_err();
    assert_eq!(told(&draining), (Code::Unavailable, "unavailable".into(), None));
    retry(&draining);
}
