//! `pushpull.v1.proto`: what is delivered; what is asked and published is in `proto/commands.rs`.

use std::time::Duration;

use prost::Message as _;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Message, ProducerExt};
use pushpull_http::{
    Gate, Transport,
    proto::v1::{
        self, ClientFrame, Credit, Error, Event, Gap, GapReason, Goaway, Heartbeat, Ok as Done,
        PublishRequest, Published, ServerFrame, Start, SubscribeRequest, Unsubscribe,
        client_frame::Frame as Ask, server_frame::Frame as Said,
    },
};

use crate::{
    deflate::{OFFER, connect, inflated_bytes},
    peer::{BINARY, PROTO, Peer, Server, head, publish, within},
};

mod commands;

impl Peer {
    async fn tell(&mut self, frame: Ask) {
        self.send(BINARY, ClientFrame { frame: Some(frame) }.encode_to_vec()).await;
    }

    async fn subscribe(&mut self, id: u64, topics: &[&str], start: Start) {
        self.tell(Ask::Subscribe(subscribing(id, topics, start))).await;
    }

    /// The next message, which must be one frame.
    async fn said(&mut self) -> Said {
        let (first, payload) = self.frame().await.expect("a message");
        assert_eq!(first, 0x80 | BINARY, "{}", String::from_utf8_lossy(&payload));
        ServerFrame::decode(&payload[..]).unwrap().frame.expect("a frame")
    }

    async fn event(&mut self) -> Event {
        match self.said().await {
            Said::Event(event) => event,
            other => panic!("no event: {other:?}"),
        }
    }

    async fn error(&mut self) -> Error {
        match self.said().await {
            Said::Error(error) => error,
            other => panic!("no error: {other:?}"),
        }
    }
}

fn subscribing(id: u64, topics: &[&str], start: Start) -> SubscribeRequest {
    let topics = topics.iter().map(ToString::to_string).collect();
    SubscribeRequest { id: Some(id), topics, start: start.into(), ..SubscribeRequest::default() }
}

fn at(broker: &Broker, seq: u64) -> String {
    format!("{}-{seq}", broker.place().epoch())
}

fn beat(broker: &Broker, seq: u64) -> Said {
    Said::Heartbeat(Heartbeat { cursor: at(broker, seq), conflated: 0 })
}

fn ok(broker: &Broker, id: u64, seq: u64) -> Said {
    Said::Ok(Done { id: Some(id), cursor: at(broker, seq) })
}

fn publishing(id: u64, payload: &'static str) -> PublishRequest {
    let content_type = "text/plain".to_owned();
    PublishRequest {
        id: Some(id),
        topic: "a".into(),
        content_type,
        payload: payload.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_query_opens_the_subscription_and_a_heartbeat_comes_first() {
    let broker = Broker::memory();
    publish(&broker, "a", &["1", "2"]).await;
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::proto(&server, "topic=a").await;
    assert_eq!(peer.said().await, beat(&broker, 2));
    let message = Message::new(vec![0, 255]).with_name("n").with_key("k");
    broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    let event = peer.event().await;
    assert!(event.time_ms > 1_600_000_000_000, "{event:?}");
    let expected = Event {
        topic: "a".into(),
        cursor: at(&broker, 3),
        prev: Some(at(&broker, 2)),
        time_ms: event.time_ms,
        event: "n".into(),
        key: "k".into(),
        content_type: "application/octet-stream".into(),
        payload: vec![0, 255].into(),
        snapshot: false,
    };
    assert_eq!(event, expected);
    let mut resumed = Peer::proto(&server, &format!("topic=a&after={}", at(&broker, 1))).await;
    assert_eq!(resumed.said().await, beat(&broker, 1));
    assert_eq!(resumed.event().await.payload, "2");
    assert_eq!(resumed.event().await, expected);
    assert_eq!(server.gate.metrics().connections(Transport::Ws), 2);
}

#[tokio::test]
async fn of_the_subprotocols_offered_the_first_that_is_known_is_spoken() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    for (offered, spoken) in [
        (&["Sec-WebSocket-Protocol: pushpull.v1.proto, pushpull.v1.json"][..], "pushpull.v1.proto"),
        (&["Sec-WebSocket-Protocol: pushpull.v1.json, pushpull.v1.proto"], "pushpull.v1.json"),
        (&["Sec-WebSocket-Protocol: chat,pushpull.v1.proto"], "pushpull.v1.proto"),
        (&["Sec-WebSocket-Protocol: PUSHPULL.V1.PROTO,pushpull.v1.json"], "pushpull.v1.json"),
        (&["Sec-WebSocket-Protocol: chat", PROTO], "pushpull.v1.proto"),
    ] {
        let (answer, _peer) = Peer::ask(server.address, head("topic=a", offered)).await;
        assert_eq!(
            (answer.status, answer.header("sec-websocket-protocol")),
            (101, Some(spoken)),
            "{offered:?}"
        );
    }
    for query in ["topic=a&format=json", "topic=a&limit=1", "topic=a&window=x"] {
        let (answer, _peer) = Peer::ask(server.address, head(query, &[PROTO])).await;
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[tokio::test]
async fn topics_come_and_go_on_a_live_connection() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::proto(&server, "").await;
    publish(&broker, "a", &["before"]).await;
    peer.subscribe(1, &["a"], Start::Earliest).await;
    assert_eq!(peer.said().await, ok(&broker, 1, 0));
    let first = peer.event().await;
    assert_eq!((first.cursor, first.prev), (at(&broker, 1), Some(String::new())), "the topic's first");
    peer.subscribe(2, &["b.*", "b.>", "a"], Start::Unspecified).await;
    assert_eq!(peer.said().await, ok(&broker, 2, 1));
    publish(&broker, "b.x", &["once, though two entries match"]).await;
    assert_eq!(peer.event().await.cursor, at(&broker, 2));
    for (id, topics) in [(3, vec!["b.*".to_owned()]), (4, vec!["b.>".to_owned()])] {
        peer.tell(Ask::Unsubscribe(Unsubscribe { id: Some(id), topics })).await;
        assert_eq!(peer.said().await, ok(&broker, id, 2));
    }
    publish(&broker, "b.x", &["not asked for"]).await;
    publish(&broker, "a", &["asked for"]).await;
    assert_eq!(peer.event().await.payload, "asked for");
    peer.tell(Ask::Unsubscribe(Unsubscribe { id: Some(5), topics: vec!["a".into()] })).await;
    assert_eq!(peer.said().await, ok(&broker, 5, 4));
    publish(&broker, "a", &["nobody"]).await;
    peer.subscribe(6, &["a"], Start::Last).await;
    assert_eq!(peer.said().await, Said::Ok(Done { id: Some(6), cursor: String::new() }), "no place yet");
    let last = peer.event().await;
    assert_eq!((last.cursor, last.snapshot, last.prev), (at(&broker, 5), true, None));
    assert_eq!(peer.said().await, beat(&broker, 5));
}

#[tokio::test]
async fn a_window_holds_events_back_and_heartbeats_run_on() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let server = Server::start(&broker, gate).await;
    let mut peer = Peer::proto(&server, "topic=a&window=2").await;
    assert_eq!(peer.said().await, beat(&broker, 0));
    publish(&broker, "a", &["1", "2", "3", "4", "5"]).await;
    let (mut events, mut beats) = (Vec::new(), 0);
    while beats < 3 {
        match peer.said().await {
            Said::Event(event) => events.push(event.payload),
            said if events.len() == 2 => {
                assert_eq!(said, beat(&broker, 2), "the place stays with the credit");
                beats += 1;
            }
            _ => {}
        }
    }
    assert_eq!(events, ["1", "2"]);
    peer.tell(Ask::Credit(Credit { id: Some(9), events: 2 })).await;
    let mut has_ok = false;
    while events.len() < 4 {
        match peer.said().await {
            Said::Event(event) => events.push(event.payload),
            said => has_ok |= said == ok(&broker, 9, 2),
        }
    }
    assert_eq!((&events[2..], has_ok), (&["3".into(), "4".into()][..], true));
    let mut by_frame = Peer::proto(&server, "").await;
    let asked = SubscribeRequest { window: 1, ..subscribing(1, &["a"], Start::Earliest) };
    by_frame.tell(Ask::Subscribe(asked)).await;
    assert_eq!(by_frame.said().await, ok(&broker, 1, 0));
    assert_eq!(by_frame.event().await.payload, "1");
    assert_eq!(by_frame.said().await, beat(&broker, 1), "and no second event");
    by_frame.tell(Ask::Credit(Credit { id: Some(2), events: 1 << 32 })).await;
    loop {
        match by_frame.said().await {
            Said::Heartbeat(_) => {}
            said => break assert_eq!(said, ok(&broker, 2, 1), "a credit may be of any number"),
        }
    }
    assert_eq!(by_frame.event().await.payload, "2");
}

#[tokio::test]
async fn a_subscribe_is_answered_by_ok_and_without_an_id_a_heartbeat_tells_the_place() {
    let broker = Broker::memory();
    publish(&broker, "a", &["1"]).await;
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::proto(&server, "").await;
    peer.subscribe(1, &["a"], Start::Earliest).await;
    assert_eq!(peer.said().await, ok(&broker, 1, 0));
    assert_eq!(peer.event().await.payload, "1", "no heartbeat is between them");
    let mut peer = Peer::proto(&server, "").await;
    peer.tell(Ask::Subscribe(SubscribeRequest { id: None, ..subscribing(0, &["a"], Start::Earliest) })).await;
    assert_eq!(peer.said().await, beat(&broker, 0), "the first word");
    assert_eq!(peer.event().await.payload, "1");
}

#[tokio::test]
async fn heartbeats_carry_the_place_of_a_quiet_topic() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let server = Server::start(&broker, gate).await;
    let mut peer = Peer::proto(&server, "topic=a").await;
    assert_eq!(peer.said().await, beat(&broker, 0));
    publish(&broker, "other", &["x", "y"]).await;
    within(async { while peer.said().await != beat(&broker, 2) {} }).await;
}

#[tokio::test]
async fn gaps_are_told_and_overflow_close_ends_behind_them() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", &["1", "2", "3", "4"]).await;
    let server = Server::start(&broker, Gate::open()).await;
    let (after, before) = (at(&broker, 1), at(&broker, 3));
    let gap = Said::Gap(Gap { cursor: after.clone(), after, before, reason: GapReason::Evicted.into() });
    let query = format!("topic=a&after={}", at(&broker, 1));
    let mut peer = Peer::proto(&server, &query).await;
    assert_eq!(peer.said().await, beat(&broker, 1));
    assert_eq!(peer.said().await, gap);
    assert_eq!(peer.event().await.cursor, at(&broker, 3));
    let mut peer = Peer::proto(&server, &format!("{query}&overflow=close")).await;
    peer.said().await;
    assert_eq!(peer.said().await, gap);
    assert_eq!(peer.closed().await, (4409, format!("lagged cursor={}", at(&broker, 1))));
    let mut unknown = Peer::proto(&server, "topic=a&after=zzz-9").await;
    let told = unknown.said().await;
    assert!(matches!(&told, Said::Gap(gap) if gap.reason() == GapReason::Reset), "{told:?}");
}

#[tokio::test]
async fn conflation_is_counted() {
    let broker = Broker::memory();
    let topic = "a".parse().unwrap();
    for text in ["1", "2", "3"] {
        broker.publish_one(&topic, Message::text(text).with_key("k")).await.unwrap();
    }
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let server = Server::start(&broker, gate).await;
    let mut peer = Peer::proto(&server, "topic=a&start=earliest&conflate=key").await;
    assert_eq!(peer.said().await, beat(&broker, 0));
    let survivor = peer.event().await;
    assert_eq!((&survivor.payload[..], survivor.prev), (&b"3"[..], None));
    let counted = Said::Heartbeat(Heartbeat { cursor: at(&broker, 3), conflated: 2 });
    assert_eq!(peer.said().await, counted);
}

#[tokio::test]
async fn a_drain_tells_when_and_from_where_to_come_back() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_retry_spread(Duration::from_millis(100)).build().unwrap();
    let server = Server::start(&broker, gate.clone()).await;
    let mut peer = Peer::proto(&server, "topic=a").await;
    peer.said().await;
    let place = publish(&broker, "a", &["1"]).await;
    peer.event().await;
    let stopped = tokio::spawn(server.stop());
    let Said::Goaway(Goaway { retry_ms, cursor }) = peer.said().await else { panic!("it goes away") };
    assert_eq!((cursor, (10..=100).contains(&retry_ms)), (place.to_string(), true), "{retry_ms}");
    assert_eq!(peer.closed().await, (1001, format!("unavailable retry={retry_ms} cursor={place}")));
    drop(peer);
    assert!(within(stopped).await.unwrap(), "it ended by itself");
}

#[tokio::test]
async fn large_events_go_deflated_alike_and_small_ones_plain() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut one = connect(&server, &[OFFER, PROTO]).await;
    let mut other = connect(&server, &[OFFER, PROTO]).await;
    let mut plain = Peer::proto(&server, "topic=a").await;
    for peer in [&mut one, &mut other, &mut plain] {
        assert_eq!(peer.said().await, beat(&broker, 0));
    }
    let long = "again and ".repeat(500);
    publish(&broker, "a", &[&long, "short"]).await;
    let (first, deflated) = one.frame().await.unwrap();
    assert_eq!(first, 0xc0 | BINARY);
    assert!(deflated.len() < 300, "{}", deflated.len());
    assert_eq!(other.frame().await, Some((first, deflated.clone())));
    assert_eq!(plain.frame().await, Some((0x80 | BINARY, inflated_bytes(&deflated))));
    assert_eq!(one.event().await.payload, "short");
}
