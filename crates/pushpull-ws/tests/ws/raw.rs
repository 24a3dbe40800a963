//! Raw mode.

use pushpull_broker::{Broker, Retention};
use pushpull_core::{Context, ErrorKind, Fetch, Message, Problem, ProducerExt, Pull, Start, Topics};
use pushpull_http::{Action, Authorizer, Gate};
use tokio::io::AsyncWriteExt;

use crate::peer::{BINARY, PING, PONG, Peer, Server, TEXT, frame, publish, within};

#[tokio::test]
async fn each_event_is_one_message_of_its_kind() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::raw(&server, "topic=a").await;
    let topic = "a".parse().unwrap();
    for (message, first, payload) in [
        (Message::text("häl\nlo"), TEXT, "häl\nlo".as_bytes()),
        (Message::json(&[1, 2]).unwrap(), TEXT, b"[1,2]"),
        (Message::new(&b"\xff\x00"[..]), BINARY, b"\xff\x00"),
        (Message::text(""), TEXT, b""),
    ] {
        broker.publish_one(&topic, message).await.unwrap();
        assert_eq!(peer.frame().await, Some((0x80 | first, payload.to_vec())));
    }
    peer.send(PING, "are you there").await;
    assert_eq!(peer.frame().await, Some((0x80 | PONG, b"are you there".to_vec())));
    drop(peer);
    assert!(server.stop().await);
}

#[tokio::test]
async fn a_data_message_is_published() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::raw(&server, "topic=a").await;
    peer.send(TEXT, "mine").await;
    assert_eq!(peer.text().await, "mine");
    peer.send(BINARY, [1, 2]).await;
    assert_eq!(peer.frame().await, Some((0x80 | BINARY, vec![1, 2])));
    let fetch = Fetch::new(Topics::only(&"a".parse().unwrap())).from(Start::Earliest);
    let batch = within(broker.fetch(&Context::default(), fetch)).await.unwrap();
    let types: Vec<_> = batch
        .deliveries
        .into_iter()
        .filter_map(|delivery| delivery.into_event())
        .map(|event| event.content_type().to_owned())
        .collect();
    assert_eq!(types, ["text/plain; charset=utf-8", "application/octet-stream"]);
    assert_eq!(server.gate.metrics().connections(pushpull_http::Transport::Ws), 1);
}

#[tokio::test]
async fn any_gap_closes_it() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", &["1", "2", "3", "4"]).await;
    let epoch = broker.place().epoch();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::raw(&server, &format!("topic=a&after={epoch}-1")).await;
    assert_eq!(peer.closed().await, (4409, format!("lagged cursor={epoch}-1")));
    let mut fresh = Peer::raw(&server, &format!("topic=a&after={epoch}-2")).await;
    assert_eq!((fresh.text().await, fresh.text().await), ("3".into(), "4".into()));
}

#[tokio::test]
async fn what_was_sent_before_a_close_or_the_end_is_published() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut watcher = Peer::raw(&server, "topic=a").await;
    let mut closing = Peer::raw(&server, "topic=a").await;
    closing.bytes(&[frame(0x81, b"1"), frame(0x81, b"2"), frame(0x88, b"\x03\xe8")].concat()).await;
    let mut ending = Peer::raw(&server, "topic=a").await;
    ending.bytes(&[frame(0x81, b"3"), frame(0x81, b"4")].concat()).await;
    ending.io.shutdown().await.unwrap();
    let mut failing = Peer::raw(&server, "topic=a").await;
    failing.bytes(&[frame(0x81, b"5"), frame(0x8f, b"")].concat()).await;
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(watcher.text().await);
    }
    told.sort();
    assert_eq!(told, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn events_come_as_json_where_the_query_asks_for_it() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::raw(&server, "topic=a&format=json").await;
    let cursor = publish(&broker, "a", &["x"]).await;
    let event = peer.value().await;
    assert_eq!((&event["cursor"], &event["data"]), (&cursor.to_string().into(), &"x".into()));
}

#[tokio::test]
async fn who_may_not_publish_is_closed() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_authorizer(Readers).build().unwrap();
    let server = Server::start(&broker, gate).await;
    let mut peer = Peer::raw(&server, "topic=a").await;
    peer.say("x").await;
    assert_eq!(peer.closed().await, (4403, "forbidden".to_owned()));
    let mut peer = Peer::json(&server, "topic=a").await;
    peer.value().await;
    peer.say(r#"{"publish":{"id":1,"topic":"a","data":1}}"#).await;
    let told = peer.value().await;
    assert_eq!((&told["error"]["id"], &told["error"]["status"]), (&1.into(), &403.into()));
    peer.say(r#"{"subscribe":{"id":2,"topics":["b"]}}"#).await;
    assert_eq!(peer.value().await["error"]["status"], 403, "and the connection goes on");
    assert_eq!(broker.place().seq(), 0);
}

/// Everybody may read `a`, nobody anything else.
struct Readers;

#[async_trait::async_trait]
impl Authorizer for Readers {
    async fn identify(&self, _: Option<&str>, cx: Context) -> Result<Context, Problem> {
        Ok(cx)
    }
    async fn authorize(&self, _: &Context, action: Action<'_>) -> Result<(), Problem> {
        match action.to_string() == "subscribe to a" {
            true => Ok(()),
            false => Err(Problem::new(ErrorKind::Forbidden, "no")),
        }
    }
}
