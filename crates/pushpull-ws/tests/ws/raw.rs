//! Raw mode.

use pushpull_broker::{Broker, Retention};
use pushpull_core::{Message, ProducerExt, Pull, Start};
use pushpull_http::Gate;

use crate::peer::{BINARY, PING, PONG, Peer, Server, TEXT, publish, within};

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
    let fetch =
        pushpull_core::Fetch::new(pushpull_core::Topics::only(&"a".parse().unwrap())).from(Start::Earliest);
    let batch = within(broker.fetch(&pushpull_core::Context::default(), fetch)).await.unwrap();
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
