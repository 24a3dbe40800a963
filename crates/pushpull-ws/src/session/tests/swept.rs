//! Connections while a sweep serves them.

use std::{future::Future, pin::pin, task::Waker};

use tokio::task::yield_now;

use super::*;

/// A peer of a connection that the sweep serves, and the connection.
async fn swept(broker: &Broker, gate: &Gate, mode: Mode) -> (Peer, Weak<Connection<Session<DuplexStream>>>) {
    let (io, theirs) = duplex(4096);
    let subscription = broker.consume(asks()).await.unwrap();
    let subscribed = Some((subscription, asks().topics, Unit::None));
    let opening = Opening { subscribed, ..opening(broker, gate, Call::default(), mode) };
    let serving = Serving::new(theirs, b"", opening);
    let connection = serving.session().me.clone();
    let served = tokio::spawn(serving);
    while !is_swept(&connection) {
        yield_now().await;
    }
    (Peer { io, decoder: Decoder::new(Side::Client, 1 << 20), read: Vec::new(), served }, connection)
}

fn is_swept(connection: &Weak<Connection<Session<DuplexStream>>>) -> bool {
    let connection = Serving(connection.upgrade().expect("it goes on"));
    connection.session().post.is_swept()
}

/// At once, before anything else has its turn.
fn publish_all(broker: &Broker, texts: &[&str]) {
    for text in texts {
        let topic = "a".parse().unwrap();
        let mut publishing = pin!(broker.publish_one(&topic, Published::text(*text)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(publishing.as_mut().poll(&mut cx).is_ready(), "in memory nothing is waited for");
    }
}

const JSON: Mode = Mode::Framed(Subprotocol::Json);

#[tokio::test(start_paused = true)]
async fn who_is_swept_is_pinged_answered_and_told_the_place() {
    let broker = Broker::memory();
    let (mut peer, connection) = swept(&broker, &Gate::open(), JSON).await;
    let (begun, epoch) = (Instant::now(), broker.place().epoch());
    peer.text().await;
    for seq in 1..=3 {
        publish_all(&broker, &["news"]);
        assert!(peer.text().await.contains(&format!(r#""cursor":"{epoch}-{seq}""#)));
    }
    peer.send(PING, "who is there").await;
    let pong = peer.message().await;
    assert_eq!(pong, Some(Message::Pong));
    assert_eq!(peer.text().await, format!(r#"{{"heartbeat":{{"cursor":"{epoch}-3","conflated":0}}}}"#));
    assert_eq!(begun.elapsed().as_secs(), 15);
    assert_eq!(peer.message().await, Some(Message::Ping(Bytes::new())));
    assert_eq!(begun.elapsed().as_secs(), 25);
    assert!(is_swept(&connection), "all the while");
    publish_all(&broker, &["more"]);
    assert!(peer.text().await.contains("more"));
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_closed_though_events_flow_by_the_sweep() {
    let broker = Broker::memory();
    let (mut peer, _) = swept(&broker, &Gate::open(), Mode::Raw).await;
    let begun = Instant::now();
    let publishing = tokio::spawn(async move {
        for _ in 0..100 {
            publish_all(&broker, &["x"]);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let closing = loop {
        match peer.message().await {
            Some(Message::Text(_) | Message::Ping(_)) => {}
            other => break other,
        }
    };
    assert_eq!((closing, begun.elapsed().as_secs()), (close(1008, "timeout".into()), 75));
    publishing.abort();
}

#[tokio::test(start_paused = true)]
async fn who_falls_off_what_is_retained_between_two_sweeps_is_told() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    let (mut peer, connection) = swept(&broker, &Gate::open(), JSON).await;
    let (mut raw, _) = swept(&broker, &Gate::open(), Mode::Raw).await;
    let epoch = broker.place().epoch();
    peer.text().await;
    publish_all(&broker, &["1", "2", "3", "4", "5"]);
    let gap = format!(
        r#"{{"gap":{{"after":"{epoch}-0","before":"{epoch}-4","cursor":"{epoch}-0","reason":"lagged"}}}}"#
    );
    assert_eq!(peer.text().await, gap);
    for seq in 4..=5 {
        assert!(peer.text().await.contains(&format!(r#""cursor":"{epoch}-{seq}""#)));
    }
    assert_eq!(raw.message().await, close(4409, format!("lagged cursor={epoch}-0")));
    publish_all(&broker, &["6"]);
    assert!(peer.text().await.contains(&format!(r#""cursor":"{epoch}-6""#)));
    assert!(is_swept(&connection), "it stands with others again");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_closed_says_so_by_the_sweep() {
    let broker = Broker::memory();
    let (mut peer, _) = swept(&broker, &Gate::open(), JSON).await;
    peer.text().await;
    publish_all(&broker, &["last"]);
    let place = broker.place();
    broker.close();
    assert!(peer.text().await.contains("last"), "what was published before comes first");
    assert_eq!(peer.text().await, format!(r#"{{"goaway":{{"retry":1000,"cursor":"{place}"}}}}"#));
    assert_eq!(peer.message().await, close(1001, format!("unavailable retry=1000 cursor={place}")));
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_more_leaves_the_sweep_and_hears_of_it_at_once() {
    let broker = Broker::memory();
    let (mut peer, connection) = swept(&broker, &Gate::open(), JSON).await;
    let begun = Instant::now();
    peer.text().await;
    peer.send(TEXT, r#"{"subscribe":{"id":1,"topics":["b"]}}"#).await;
    assert!(peer.text().await.starts_with(r#"{"ok":"#));
    yield_now().await;
    assert!(!is_swept(&connection), "it stands with nobody");
    for topic in ["b", "a", "b"] {
        broker.publish_one(&topic.parse().unwrap(), Published::text("x")).await.unwrap();
        assert!(peer.text().await.starts_with(&format!(r#"{{"topic":"{topic}""#)));
    }
    peer.send(TEXT, r#"{"unsubscribe":{"id":2,"topics":["b"]}}"#).await;
    assert!(peer.text().await.starts_with(r#"{"ok":"#));
    yield_now().await;
    assert!(is_swept(&connection), "and with others again");
    publish_all(&broker, &["y"]);
    assert!(peer.text().await.contains(r#""y""#));
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_reaches_who_is_swept() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    let (mut peer, _) = swept(&broker, &gate, JSON).await;
    let begun = Instant::now();
    peer.text().await;
    gate.drain().begin();
    assert!(peer.text().await.starts_with(r#"{"goaway":"#));
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_search_for_an_event_comes_to_its_end() {
    let broker = Broker::memory();
    let mut peers = Vec::new();
    for _ in 0..2 {
        let asked = Subscribe::to("a.*").unwrap();
        let mut peer = connect(&broker, &Gate::open(), Call::default(), 4096, asked).await;
        peer.text().await;
        peers.push(peer);
    }
    for _ in 0..100 {
        yield_now().await;
    }
    for _ in 0..10_000 {
        publish(&broker, "not asked for").await;
    }
    broker.publish_one(&"a.b".parse().unwrap(), Published::text("wanted")).await.unwrap();
    let begun = Instant::now();
    for peer in &mut peers {
        assert!(peer.text().await.contains("wanted"));
    }
    assert_eq!(begun.elapsed().as_secs(), 0, "not by the next heartbeat");
}
