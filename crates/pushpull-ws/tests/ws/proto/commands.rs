//! What a client asks for and publishes, and what it is told of it.

use super::*;

#[tokio::test]
async fn what_is_published_is_answered_by_its_cursors() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::proto(&server, "").await;
    let published = |id, first, last, count| {
        let (first, last) = (at(&broker, first), at(&broker, last));
        Said::Published(Published { id: Some(id), cursor: last.clone(), first, last, count })
    };
    let one = PublishRequest { idempotency: "i".into(), key: "k".into(), ..publishing(0, "x") };
    for id in [1, 2] {
        peer.tell(Ask::Publish(PublishRequest { id: Some(id), ..one.clone() })).await;
        assert_eq!(peer.said().await, published(id, 1, 1, 1), "a repeat gives the first answer");
    }
    let part = |payload: &'static str| v1::Message { payload: payload.into(), ..v1::Message::default() };
    let messages = vec![part("y"), part("z")];
    let batch = PublishRequest { id: Some(3), topic: "a".into(), messages, ..PublishRequest::default() };
    peer.tell(Ask::Publish(batch)).await;
    assert_eq!(peer.said().await, published(3, 2, 3, 2), "a batch");
    peer.tell(Ask::Publish(PublishRequest { id: None, ..publishing(0, "without an id") })).await;
    peer.subscribe(4, &["a"], Start::Earliest).await;
    assert_eq!(peer.said().await, ok(&broker, 4, 0), "only errors are told without an id");
    for (payload, content_type) in [
        ("x", "text/plain"),
        ("y", "application/octet-stream"),
        ("z", "application/octet-stream"),
        ("without an id", "text/plain"),
    ] {
        let event = peer.event().await;
        assert_eq!((&event.payload[..], &*event.content_type), (payload.as_bytes(), content_type));
    }
}

#[tokio::test]
async fn errors_bear_the_fields_of_a_problem_and_the_id_of_what_they_answer() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::builder().with_max_payload(100).build().unwrap()).await;
    let mut peer = Peer::proto(&server, "").await;
    let id = Some(7);
    let asks = |topics: &[&str]| subscribing(7, topics, Start::Unspecified);
    let sends = |payload| publishing(7, payload);
    let long = "x".repeat(120);
    let (bad, large) = (("bad-request", 400), ("too-large", 413));
    for (said, (slug, status), parameter) in [
        (Ask::Subscribe(asks(&["a..b"])), bad, "topics"),
        (Ask::Subscribe(asks(&[])), bad, "topics"),
        (Ask::Subscribe(SubscribeRequest { after: "x".into(), ..asks(&["a"]) }), bad, "after"),
        (Ask::Subscribe(SubscribeRequest { start: 99, ..asks(&["a"]) }), bad, "start"),
        (Ask::Subscribe(SubscribeRequest { start: 1, after: "e-1".into(), ..asks(&["a"]) }), bad, "start"),
        (Ask::Subscribe(SubscribeRequest { rate: 0.01, ..asks(&["a"]) }), bad, "rate"),
        (Ask::Unsubscribe(Unsubscribe { id, topics: vec!["*x".into()] }), bad, "topics"),
        (Ask::Credit(Credit { id, events: 5 }), bad, "events"),
        (Ask::Credit(Credit { id, events: 0 }), bad, "events"),
        (Ask::Publish(PublishRequest { topic: "a.*".into(), ..sends("x") }), bad, "topic"),
        (Ask::Publish(PublishRequest { topic: String::new(), ..sends("x") }), bad, "topic"),
        (Ask::Publish(PublishRequest { event: "open".into(), ..sends("x") }), bad, "event"),
        (
            Ask::Publish(PublishRequest { content_type: "application/json".into(), ..sends("{") }),
            bad,
            "payload",
        ),
        (
            Ask::Publish(PublishRequest { messages: vec![v1::Message::default()], ..sends("x") }),
            bad,
            "messages",
        ),
        (Ask::Publish(PublishRequest { payload: long.into(), ..sends("") }), large, ""),
    ] {
        let is_publish = matches!(said, Ask::Publish(_));
        peer.tell(said.clone()).await;
        let error = peer.error().await;
        assert_eq!(
            (error.id, error.status, &*error.parameter),
            (id, status, parameter),
            "{said:?} {error:?}"
        );
        assert!(error.r#type.ends_with(&format!("/{slug}")), "{error:?}");
        assert!(!error.title.is_empty() && !error.detail.is_empty(), "{error:?}");
        assert_eq!(error.outcome, if is_publish { "not-applied" } else { "" }, "{error:?}");
    }
    peer.tell(Ask::Credit(Credit { id: None, events: 0 })).await;
    assert_eq!(peer.error().await.id, None, "an error is told though nobody asked for an answer");
    assert_eq!(broker.place().seq(), 0);
}

#[tokio::test]
async fn a_problem_reads_the_same_as_in_json() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut proto = Peer::proto(&server, "").await;
    proto.tell(Ask::Publish(PublishRequest { event: "open".into(), ..publishing(1, "x") })).await;
    let mut json = Peer::json(&server, "").await;
    json.say(r#"{"publish":{"id":1,"topic":"a","type":"text/plain","data":"x","event":"open"}}"#).await;
    let (error, told) = (proto.error().await, json.value().await);
    let expected = serde_json::json!({"error": {
        "id": 1, "type": error.r#type, "title": error.title, "status": error.status, "detail": error.detail,
        "parameter": error.parameter, "outcome": error.outcome,
    }});
    assert_eq!(told, expected);
}

#[tokio::test]
async fn later_subscribes_bear_topics_only() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::proto(&server, "topic=a").await;
    peer.said().await;
    let asks = || subscribing(1, &["b"], Start::Unspecified);
    for (asked, parameter) in [
        (SubscribeRequest { after: "e-1".into(), ..asks() }, "after"),
        (SubscribeRequest { start: 1, ..asks() }, "start"),
        (SubscribeRequest { overflow: 1, ..asks() }, "overflow"),
        (SubscribeRequest { conflate: 1, ..asks() }, "conflate"),
        (SubscribeRequest { rate: 5.0, ..asks() }, "rate"),
        (SubscribeRequest { window: 5, ..asks() }, "window"),
    ] {
        peer.tell(Ask::Subscribe(asked)).await;
        let error = peer.error().await;
        assert_eq!((error.id, error.status, &*error.parameter), (Some(1), 400, parameter));
    }
}

#[tokio::test]
async fn what_is_no_frame_closes_with_4400_and_text_with_1003() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let whole = ClientFrame { frame: Some(Ask::Publish(publishing(1, "payload"))) }.encode_to_vec();
    let server_only =
        ServerFrame { frame: Some(Said::Goaway(Goaway::default())), padding: Default::default() }
            .encode_to_vec();
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("garbage", b"\xff\xff\xff\xff"),
        ("a cut frame", &whole[..whole.len() - 3]),
        ("a frame of the server's alone", &server_only),
        ("a frame of a later version", b"\x7a\x00"),
        ("text that is no UTF-8", b"\x0a\x03\x0a\x01\xff"),
    ] {
        let mut peer = Peer::proto(&server, "").await;
        peer.send(BINARY, bytes).await;
        assert_eq!(peer.closed().await, (4400, "bad-request".to_owned()), "{what}");
    }
    let mut peer = Peer::proto(&server, "").await;
    peer.say(r#"{"publish":{"topic":"a","data":1}}"#).await;
    assert_eq!(peer.closed().await, (1003, "unsupported-media-type".to_owned()));
    assert_eq!(broker.place().seq(), 0);
}

#[tokio::test]
async fn a_batch_of_too_many_messages_is_too_large_and_a_flood_of_them_is_not_read() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::proto(&server, "").await;
    let batch = |count| {
        let messages = vec![v1::Message::default(); count];
        let topic = "a".to_owned();
        Ask::Publish(PublishRequest { id: Some(1), topic, messages, ..PublishRequest::default() })
    };
    peer.tell(batch(10_001)).await;
    let error = peer.error().await;
    assert_eq!((error.id, error.status, &*error.parameter), (Some(1), 413, "messages"));
    assert!(error.r#type.ends_with("/too-large"), "{error:?}");
    assert_eq!(broker.place().seq(), 0);
    peer.tell(batch(10_000)).await;
    let Said::Published(published) = peer.said().await else { panic!("not published") };
    assert_eq!((published.count, broker.place().seq()), (10_000, 10_000));
    peer.tell(batch(10_101)).await;
    assert_eq!(peer.closed().await, (1009, "too-large".to_owned()));
    assert_eq!(broker.place().seq(), 10_000);
}

#[tokio::test]
async fn fields_of_a_later_version_say_nothing() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::proto(&server, "").await;
    let mut frame = ClientFrame { frame: Some(Ask::Publish(publishing(1, "x"))) }.encode_to_vec();
    // Field 100, two bytes long.
    frame.extend(b"\xa2\x06\x02hi");
    peer.send(BINARY, frame).await;
    assert!(matches!(peer.said().await, Said::Published(published) if published.id == Some(1)));
}

#[tokio::test]
async fn a_message_over_the_limit_closes_with_1009() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::builder().with_max_payload(1000).build().unwrap()).await;
    let mut peer = Peer::proto(&server, "").await;
    peer.send(BINARY, vec![0; 3 * 1000 + 8192 + 1]).await;
    assert_eq!(peer.close_frame().await.0, 1009);
}
