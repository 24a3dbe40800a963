//! The client half, over the server half and over servers that misbehave.

use std::{num::NonZeroU32, time::Duration};

use prost::Message as _;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Cursor, Delivery, Epoch, ErrorKind, Event, EventParts, Link, Message, Overflow, Prev, Problem,
    ProducerExt, Published, PushExt, Retry, Start, Subscribe, Subscription,
};
use pushpull_http::{
    Gate,
    proto::{self, v1::ServerFrame},
};
use pushpull_ws::{Subprotocol, WsClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tungstenite::handshake::derive_accept_key;

use crate::peer::{Server, publish, within};

fn gate() -> Gate {
    Gate::builder().with_retry_spread(Duration::from_millis(20)).build().unwrap()
}

fn client(server: &Server, spoken: Subprotocol) -> WsClient {
    WsClient::new(&format!("ws://{}", server.address)).unwrap().with_subprotocol(spoken)
}

fn at(broker: &Broker, seq: u64) -> Cursor {
    Cursor::new(broker.place().epoch(), seq)
}

async fn next(subscription: &mut Subscription) -> Delivery {
    within(subscription.next()).await.unwrap().unwrap()
}

/// The seq of the next event; whatever is no event and no gap is passed over.
async fn next_event(subscription: &mut Subscription) -> u64 {
    loop {
        match next(subscription).await {
            Delivery::Event(event) => return event.cursor().seq(),
            Delivery::Gap(gap) => panic!("{gap}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn it_goes_on_after_a_restart_without_loss() {
    for spoken in Subprotocol::ALL {
        goes_on_after_a_restart(spoken).await;
    }
}

async fn goes_on_after_a_restart(spoken: Subprotocol) {
    let broker = Broker::memory();
    let server = Server::start(&broker, gate()).await;
    let address = server.address.to_string();
    let mut subscription = client(&server, spoken).consume(Subscribe::to("a.*").unwrap()).await.unwrap();
    assert!(matches!(next(&mut subscription).await, Delivery::Link(Link::Connected)));
    assert!(matches!(next(&mut subscription).await, Delivery::Place(place) if place == at(&broker, 0)));
    publish(&broker, "a.b", &["1", "2"]).await;
    assert_eq!((next_event(&mut subscription).await, next_event(&mut subscription).await), (1, 2));
    let stopped = tokio::spawn(server.stop());
    let away = next(&mut subscription).await;
    assert!(matches!(away, Delivery::Link(Link::Reconnecting { cause: None, .. })), "{away:?}");
    assert!(within(stopped).await.unwrap());
    publish(&broker, "a.c", &["3", "4"]).await;
    let server = Server::at(&address, &broker, gate()).await;
    assert_eq!((next_event(&mut subscription).await, next_event(&mut subscription).await), (3, 4));
    assert_eq!(subscription.place(), Some(at(&broker, 4)));
    drop(subscription);
    assert!(server.stop().await);
}

#[tokio::test]
async fn what_is_granted_reaches_the_server() {
    for spoken in Subprotocol::ALL {
        is_granted(spoken).await;
    }
}

async fn is_granted(spoken: Subprotocol) {
    let broker = Broker::memory();
    let server = Server::start(&broker, gate()).await;
    let window = NonZeroU32::new(2).unwrap();
    let asked = Subscribe::to("a").unwrap().with_window(window);
    let mut subscription = client(&server, spoken).consume(asked).await.unwrap();
    publish(&broker, "a", &["1", "2", "3", "4", "5"]).await;
    assert_eq!((next_event(&mut subscription).await, next_event(&mut subscription).await), (1, 2));
    assert_eq!(server.gate.metrics().connections(pushpull_http::Transport::Ws), 1);
    for seq in 3..=5 {
        let waiting = tokio::time::timeout(Duration::from_millis(20), subscription.next());
        assert!(waiting.await.is_err(), "nothing comes without credit");
        subscription.grant(1);
        assert_eq!(next_event(&mut subscription).await, seq);
    }
}

#[tokio::test]
async fn it_publishes_and_takes_snapshots_and_gaps() {
    for spoken in Subprotocol::ALL {
        takes_snapshots_and_gaps(spoken).await;
    }
}

async fn takes_snapshots_and_gaps(spoken: Subprotocol) {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    let server = Server::start(&broker, gate()).await;
    let topic = "a".parse().unwrap();
    for key in ["k1", "k2", "k1"] {
        broker.publish_one(&topic, Message::text(key).with_key(key)).await.unwrap();
    }
    let asked = Subscribe::to("a").unwrap().from(Start::Snapshot);
    let mut snapshot = client(&server, spoken).consume(asked).await.unwrap();
    next(&mut snapshot).await;
    for seq in [2, 3] {
        let Delivery::Event(event) = next(&mut snapshot).await else { panic!("an event") };
        assert_eq!((event.cursor().seq(), event.is_snapshot()), (seq, true));
        assert_eq!(snapshot.place(), None, "not before it is complete");
    }
    assert!(matches!(next(&mut snapshot).await, Delivery::Place(place) if place == at(&broker, 3)));
    assert_eq!(snapshot.place(), Some(at(&broker, 3)));
    let unknown = Subscribe::to("a").unwrap().from(Cursor::new(Epoch::from_random(3), 9));
    let mut lost = client(&server, spoken).consume(unknown).await.unwrap();
    next(&mut lost).await;
    let Delivery::Gap(gap) = next(&mut lost).await else { panic!("a gap") };
    assert_eq!((gap.reason.as_str(), gap.cursor), ("reset", at(&broker, 1)));
    let closed = Subscribe::to("a").unwrap().from(at(&broker, 0)).on_overflow(Overflow::Close);
    let mut closed = client(&server, spoken).consume(closed).await.unwrap();
    let mut told = Vec::new();
    while let Some(delivery) = within(closed.next()).await {
        told.push(delivery.unwrap());
    }
    assert!(matches!(told[told.len() - 2], Delivery::Gap(_)), "{told:?}");
    assert!(matches!(told.last(), Some(Delivery::Link(Link::Ended { retry: None, .. }))), "{told:?}");
}

#[tokio::test]
async fn refusals_are_told_as_what_they_are() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::builder().with_max_connections(1).build().unwrap()).await;
    let unknown = WsClient::new(&format!("http://{}", server.address)).unwrap();
    let _one = unknown.consume(Subscribe::to("a").unwrap()).await.unwrap();
    let mut second = unknown.consume(Subscribe::to("a").unwrap()).await.unwrap();
    let Delivery::Link(Link::Reconnecting { cause: Some(cause), .. }) = next(&mut second).await else {
        panic!("it tries again")
    };
    assert!(cause.is_retryable() && matches!(cause.retry(), Retry::After(_)), "{cause:?}");
}

/// What a client that speaks `spoken` tells first when the server says `bytes` right behind its 101.
async fn told(spoken: Subprotocol, bytes: &[u8]) -> Vec<String> {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = WsClient::new(&format!("ws://{}", tcp.local_addr().unwrap())).unwrap();
    let client = client.with_subprotocol(spoken);
    let bytes = bytes.to_vec();
    let served = tokio::spawn(async move {
        let (mut io, _) = tcp.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(io.read_buf(&mut head).await.unwrap() > 0);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("GET /ws?topic=a HTTP/1.1\r\n"), "{head}");
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: {}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
            spoken.as_str()
        );
        io.write_all(&[answer.as_bytes(), &bytes].concat()).await.unwrap();
        let mut rest = Vec::new();
        let _ = io.read_to_end(&mut rest).await;
    });
    let mut subscription = client.consume(Subscribe::to("a").unwrap()).await.unwrap();
    let mut told = Vec::new();
    loop {
        match within(subscription.next()).await {
            None => break,
            Some(Err(error)) => told.push(format!("error {}", error.kind().slug())),
            Some(Ok(Delivery::Link(Link::Reconnecting { delay, cause }))) => {
                let cause = cause.as_ref().map(Problem::kind).map_or("none", ErrorKind::slug);
                told.push(format!("again {cause} {}", delay >= Duration::from_secs(9)));
                break;
            }
            Some(Ok(Delivery::Link(Link::Connected))) => {}
            Some(Ok(Delivery::Link(Link::Ended { .. }))) => told.push("ended".into()),
            Some(Ok(Delivery::Place(place))) => told.push(format!("place {place}")),
            Some(Ok(Delivery::Event(event))) => told.push(format!("event {}", event.cursor())),
            Some(Ok(other)) => told.push(format!("{other:?}")),
        }
    }
    drop(subscription);
    within(served).await.unwrap();
    told
}

fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(payload.len()).unwrap()], payload].concat()
}

fn closing(code: u16, reason: &str) -> Vec<u8> {
    server_frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

#[tokio::test]
async fn closes_and_faults_are_told_as_what_they_are() {
    let text = |text: &str| server_frame(0x81, text.as_bytes());
    let beat = text(r#"{"heartbeat":{"cursor":"e-3","conflated":0}}"#);
    let event = |at: u8| {
        text(&format!(r#"{{"topic":"a","cursor":"e-{at}","time":1,"type":"application/json","data":1}}"#))
    };
    let array = text(r#"[{"heartbeat":{"cursor":"e-3"}},{"ok":{"id":1}},{"later":{}}]"#);
    for (bytes, expected) in [
        ([beat, event(4), closing(1000, "")].concat(), "place e-3, event e-4, ended"),
        ([array, closing(4409, "lagged cursor=e-3")].concat(), "place e-3, ended"),
        (closing(4400, "bad-request"), "error bad-request"),
        (closing(4401, "unauthenticated cursor=e-3"), "error unauthenticated"),
        (closing(4403, "forbidden"), "error forbidden"),
        (closing(1001, "unavailable retry=9500 cursor=e-3"), "again none true"),
        (text(r#"{"goaway":{"retry":9500,"cursor":"e-3"}}"#), "again none true"),
        (closing(1001, ""), "again none false"),
        (closing(1012, "service restart"), "again none false"),
        (closing(1013, "overloaded"), "again overloaded false"),
        (closing(1011, ""), "again protocol false"),
        (text("{"), "again protocol false"),
        (server_frame(0x82, b"x"), "again protocol false"),
        (crate::peer::frame(0x81, b"{}"), "again protocol false"),
    ] {
        assert_eq!(
            told(Subprotocol::Json, &bytes).await.join(", "),
            expected,
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[tokio::test]
async fn protobuf_is_read_as_json_is() {
    let e = |seq: u64| format!("e-{seq}").parse::<Cursor>().unwrap();
    let frame = |frame: ServerFrame| server_frame(0x82, &frame.encode_to_vec());
    let beat = frame(proto::heartbeat(Some(e(3)), 0));
    let event = EventParts {
        topic: "a".parse().unwrap(),
        cursor: e(4),
        prev: Prev::Unknown,
        time_ms: 1,
        message: Message::new(""),
    };
    let event = frame(proto::event_frame(&Event::new(event)));
    let refused = Problem::invalid("events", "there is no window");
    let answers = [
        frame(proto::ok(None, Some(e(9)))),
        frame(proto::published(None, &Published::new(e(9), e(9), 1))),
        frame(proto::error(None, &refused, None)),
        server_frame(0x82, b"\xa2\x06\x00"),
    ];
    let away = frame(proto::goaway(Duration::from_millis(9500), Some(e(3))));
    for (bytes, expected) in [
        ([beat.clone(), event, closing(1000, "")].concat(), "place e-3, event e-4, ended"),
        ([&answers.concat()[..], &beat, &closing(4409, "lagged cursor=e-3")].concat(), "place e-3, ended"),
        (away, "again none true"),
        (closing(4400, "bad-request"), "error bad-request"),
        (server_frame(0x82, b"\xff"), "again protocol false"),
        (server_frame(0x82, b"\x0a\x02\x0a\x00"), "again protocol false"),
        (server_frame(0x81, b"{}"), "again protocol false"),
    ] {
        assert_eq!(told(Subprotocol::Proto, &bytes).await.join(", "), expected, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_silent_server_counts_as_dead() {
    let broker = Broker::memory();
    let server = Server::start(&broker, gate()).await;
    let client = client(&server, Subprotocol::Json).with_silence(Duration::from_millis(50));
    let mut subscription = client.consume(Subscribe::to("a").unwrap()).await.unwrap();
    next(&mut subscription).await;
    next(&mut subscription).await;
    let Delivery::Link(Link::Reconnecting { cause: Some(cause), .. }) = next(&mut subscription).await else {
        panic!("silence")
    };
    assert_eq!(cause.kind(), ErrorKind::Timeout);
    publish(&broker, "a", &["x"]).await;
    assert_eq!(next_event(&mut subscription).await, 1, "and it goes on");
}

#[tokio::test]
async fn topics_change_from_the_consumers_own_place() {
    let broker = Broker::memory();
    let server = Server::start(&broker, gate()).await;
    let mut subscription =
        client(&server, Subprotocol::Json).consume(Subscribe::to("a").unwrap()).await.unwrap();
    publish(&broker, "a", &["1"]).await;
    assert_eq!(next_event(&mut subscription).await, 1);
    publish(&broker, "b", &["2"]).await;
    subscription.retarget("b".parse::<pushpull_core::Pattern>().unwrap().into()).unwrap();
    assert_eq!(next_event(&mut subscription).await, 2, "what was published between is not missed");
}
