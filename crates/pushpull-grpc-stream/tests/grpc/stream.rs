//! `Subscribe` and `Fetch` against a stock client.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http_body_util::BodyExt;
use prost::Message as _;

use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Context, Cursor, Epoch, Message, ProducerExt, Push, Subscribe, SubscribeError, Subscription,
};
use pushpull_grpc_stream::GrpcService;
use pushpull_grpc_stream::proto::{
    Conflate, FetchRequest, Gap, GapReason, Heartbeat, Overflow, PublishRequest, Start, SubscribeRequest,
    server_frame::Frame,
};
use pushpull_http::{Gate, Transport};
use tonic::{Code, Request};
use tonic_types::StatusExt;
use tower_service::Service;

use crate::support::{Node, bearing, beat, end, event, guarded, next, publish, raw, soon, topics, until};

#[tokio::test]
async fn the_first_frame_tells_the_place_and_events_follow() {
    let node = Node::open().await;
    publish(&node.broker, "a", 1).await;
    let start = publish(&node.broker, "b", 1).await;
    let mut frames = node.subscribe(topics(&["a", "b"])).await;
    assert_eq!(next(&mut frames).await, beat(start));
    let message = Message::json(&[1]).unwrap().with_name("trade").with_key("K");
    let second = node.broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    let got = event(next(&mut frames).await);
    let prev = Cursor::new(second.epoch(), 1).to_string();
    assert_eq!((got.topic.as_str(), got.cursor, got.prev), ("a", second.to_string(), Some(prev)));
    assert_eq!((got.event.as_str(), got.key.as_str(), &got.payload[..]), ("trade", "K", &b"[1]"[..]));
    assert_eq!((got.content_type.as_str(), got.snapshot), ("application/json", false));
    assert!(got.time_ms > 1_600_000_000_000);
    assert_eq!(node.gate.metrics().connections(Transport::Grpc), 1);
}

#[tokio::test]
async fn prev_tells_a_first_event_from_one_left_out() {
    let node = Node::open().await;
    let mut frames = node.subscribe(topics(&["a"])).await;
    next(&mut frames).await;
    let keyed = Message::text("1").with_key("k");
    let first = node.broker.publish_one(&"a".parse().unwrap(), keyed).await.unwrap();
    let got = event(next(&mut frames).await);
    assert_eq!((got.cursor, got.prev), (first.to_string(), Some(String::new())));
    let asked = SubscribeRequest { start: Start::Snapshot.into(), ..topics(&["a"]) };
    let mut snapshot = node.subscribe(asked).await;
    let got = event(next(&mut snapshot).await);
    assert_eq!((got.cursor, got.prev, got.snapshot), (first.to_string(), None, true));
    assert_eq!(next(&mut snapshot).await, beat(first), "once it is complete");
}

#[tokio::test]
async fn a_gap_is_a_frame_and_so_is_a_reset() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    let node = Node::start(&broker, Gate::open()).await;
    let head = publish(&broker, "a", 5).await;
    let at = |seq| Cursor::new(head.epoch(), seq).to_string();
    let mut frames = node.subscribe(SubscribeRequest { after: at(1), ..topics(&["a"]) }).await;
    assert_eq!(next(&mut frames).await, beat(Cursor::new(head.epoch(), 1)));
    let gap = |after: String, before, cursor, reason: GapReason| {
        Frame::Gap(Gap { after, before, cursor, reason: reason.into() })
    };
    assert_eq!(next(&mut frames).await, gap(at(1), at(4), at(1), GapReason::Evicted));
    assert_eq!(event(next(&mut frames).await).cursor, at(4));

    let unknown = Cursor::new(Epoch::from_random(7), 3).to_string();
    let mut frames = node.subscribe(SubscribeRequest { after: unknown.clone(), ..topics(&["a"]) }).await;
    let Frame::Gap(told) = next(&mut frames).await else { panic!("no gap") };
    assert_eq!((told.after, told.reason), (unknown, GapReason::Reset.into()));

    let close = Overflow::Close.into();
    let mut frames =
        node.subscribe(SubscribeRequest { after: at(1), overflow: close, ..topics(&["a"]) }).await;
    next(&mut frames).await;
    assert!(matches!(next(&mut frames).await, Frame::Gap(_)));
    assert!(soon(frames.message()).await.unwrap().is_none(), "it ends, and well");
    assert_eq!(frames.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
}

#[tokio::test]
async fn heartbeats_come_each_interval_and_move_the_place() {
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let node = Node::start(&Broker::memory(), gate).await;
    let mut frames = node.subscribe(topics(&["quiet"])).await;
    next(&mut frames).await;
    let place = publish(&node.broker, "busy", 3).await;
    soon(async { while next(&mut frames).await != beat(place) {} }).await;
}

#[tokio::test]
async fn conflation_leaves_out_what_is_old_and_says_how_much() {
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let node = Node::start(&Broker::memory(), gate).await;
    let start = node.broker.place();
    for text in ["1", "2", "3"] {
        node.broker.publish_one(&"a".parse().unwrap(), Message::text(text).with_key("k")).await.unwrap();
    }
    let conflate = Conflate::Key.into();
    let mut frames =
        node.subscribe(SubscribeRequest { after: start.to_string(), conflate, ..topics(&["a"]) }).await;
    assert_eq!(next(&mut frames).await, beat(start));
    let got = event(next(&mut frames).await);
    assert_eq!((&got.payload[..], got.prev), (&b"3"[..], None));
    let beat = Heartbeat { cursor: node.broker.place().to_string(), conflated: 2 };
    assert_eq!(next(&mut frames).await, Frame::Heartbeat(beat));
}

#[tokio::test]
async fn a_deadline_ends_a_stream_and_a_wait() {
    let node = Node::open().await;
    let place = publish(&node.broker, "a", 1).await;
    let mut client = node.client().await;
    let mut request = Request::new(topics(&["a"]));
    request.set_timeout(Duration::from_millis(100));
    let mut frames = client.subscribe(request).await.unwrap().into_inner();
    assert_eq!(next(&mut frames).await, beat(place));
    let status = end(&mut frames).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.metadata().get("pushpull-cursor").unwrap(), &place.to_string());
    until(|| node.gate.metrics().connections(Transport::Grpc) == 0).await;

    // Past the stock client, which gives up by itself.
    let asked = FetchRequest { topics: vec!["a".into()], wait: 60, ..FetchRequest::default() };
    let headers = [("grpc-timeout", "50m")];
    assert_eq!(soon(raw(&node, "Fetch", &headers, &asked)).await.code(), Code::DeadlineExceeded);
    let mut request = Request::new(topics(&["a"]));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = client.subscribe(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn a_dropped_stream_leaves_nothing() {
    let node = Node::open().await;
    let channel = node.channel().await;
    let mut client = pushpull_grpc_stream::proto::delivery_client::DeliveryClient::new(channel);
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut frames = client.subscribe(topics(&["a"])).await.unwrap().into_inner();
            next(&mut frames).await;
            streams.push(frames);
        }
        assert_eq!(node.gate.metrics().connections(Transport::Grpc), 20);
        drop(streams);
        until(|| node.gate.metrics().connections(Transport::Grpc) == 0).await;
    }
}

/// A source that never says whether it delivers.
struct Undecided;

#[async_trait]
impl Push for Undecided {
    async fn subscribe(&self, _: &Context, _: Subscribe) -> Result<Subscription, SubscribeError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn initial_metadata_comes_at_once_and_a_drain_waits_for_no_source() {
    let gate = Gate::open();
    let mut service = GrpcService::new(Arc::new(Undecided), gate.clone());
    let mut body = vec![0, 0, 0, 0, 3];
    topics(&["a"]).encode(&mut body).unwrap();
    let request = http::Request::post("http://h/pushpull.v1.Delivery/Subscribe");
    let request = request.header("content-type", "application/grpc");
    let request = request.body(http_body_util::Full::new(bytes::Bytes::from(body))).unwrap();
    let response = soon(service.call(request)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("grpc-status")), (200, None));
    gate.drain().abort();
    let trailers = soon(response.into_body().collect()).await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["grpc-status"], "14");
}

#[tokio::test]
async fn a_drain_tells_when_and_where_to_come_back() {
    let node = Node::open().await;
    let mut frames = node.subscribe(topics(&["a"])).await;
    next(&mut frames).await;
    let place = publish(&node.broker, "a", 1).await;
    next(&mut frames).await;
    let mut client = node.client().await;
    let waiting = tokio::spawn(async move {
        client.fetch(FetchRequest { topics: vec!["a".into()], wait: 60, ..Default::default() }).await
    });
    until(|| node.gate.metrics().connections(Transport::Grpc) == 2).await;
    let drained = tokio::spawn(node.drain());
    let Frame::Goaway(away) = next(&mut frames).await else { panic!("no goaway") };
    assert_eq!(away.cursor, place.to_string());
    assert!((500..=5000).contains(&away.retry_ms));
    let status = end(&mut frames).await;
    assert_eq!(status.code(), Code::Unavailable);
    let retry = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(retry.as_millis(), u128::from(away.retry_ms));
    assert_eq!(status.metadata().get("pushpull-cursor").unwrap(), &place.to_string());
    let reply = soon(waiting).await.unwrap().unwrap().into_inner();
    assert_eq!((reply.events.len(), reply.cursor), (0, place.to_string()), "who waits is answered");
    assert!(soon(drained).await.unwrap());
}

#[tokio::test]
async fn an_expired_token_ends_a_stream() {
    let node = Node::start(&Broker::memory(), guarded()).await;
    let asked = bearing("soon", topics(&["a"]));
    let mut frames = node.client().await.subscribe(asked).await.unwrap().into_inner();
    next(&mut frames).await;
    let status = end(&mut frames).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.metadata().contains_key("pushpull-cursor"));
}

#[tokio::test]
async fn fetch_pages_through_and_waits_for_what_comes() {
    let node = Node::open().await;
    let head = publish(&node.broker, "a", 5).await;
    let at = move |seq| Cursor::new(head.epoch(), seq).to_string();
    let mut client = node.client().await;
    let ask = |after, limit, wait| FetchRequest {
        topics: vec!["a".into()],
        after,
        limit,
        wait,
        ..FetchRequest::default()
    };
    let reply = client.fetch(ask(at(1), 3, 0)).await.unwrap().into_inner();
    let cursors: Vec<_> = reply.events.into_iter().map(|frame| event(frame.frame.unwrap()).cursor).collect();
    assert_eq!((cursors, reply.cursor, reply.more), (vec![at(2), at(3), at(4)], at(4), true));
    let mut waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.fetch(ask(at(5), 0, 60)).await });
    until(|| node.gate.metrics().connections(Transport::Grpc) == 1).await;
    publish(&node.broker, "a", 1).await;
    let reply = soon(waiting).await.unwrap().unwrap().into_inner();
    assert_eq!((reply.events.len(), reply.cursor, reply.more), (1, at(6), false));
    let reply = client.fetch(ask(at(6), 0, 0)).await.unwrap().into_inner();
    assert_eq!((reply.events.len(), reply.cursor), (0, at(6)));
}

#[tokio::test]
async fn a_reply_is_cut_below_what_a_stock_client_takes() {
    let node = Node::open().await;
    let mut client = node.client().await;
    for _ in 0..8 {
        let asked = PublishRequest {
            topic: "big".into(),
            payload: vec![7; 1024 * 1024].into(),
            ..PublishRequest::default()
        };
        client.publish(asked).await.unwrap();
    }
    let mut asked = FetchRequest {
        topics: vec!["big".into()],
        start: Start::Earliest.into(),
        limit: 1000,
        ..FetchRequest::default()
    };
    let (mut seen, mut more) = (0, true);
    while more {
        let reply = client.fetch(asked.clone()).await.unwrap().into_inner();
        assert!((1..=3).contains(&reply.events.len()));
        seen += reply.events.len();
        (asked.start, asked.after, more) = (0, reply.cursor, reply.more);
    }
    assert_eq!(seen, 8);
}

#[tokio::test]
async fn an_event_too_large_for_a_frame_ends_its_stream() {
    let gate = Gate::builder().with_max_payload(8 * 1024 * 1024).build().unwrap();
    let broker = Broker::memory_with(Retention::default().with_payload(8 * 1024 * 1024));
    let node = Node::start(&broker, gate).await;
    let mut frames = node.subscribe(topics(&["big"])).await;
    next(&mut frames).await;
    let message = Message::new(vec![7; 4 * 1024 * 1024]);
    node.broker.publish_one(&"big".parse().unwrap(), message).await.unwrap();
    let status = end(&mut frames).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "too-large");
}
