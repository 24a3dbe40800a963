use bytes::Bytes;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Context as Call, Identity, Message as Published, ProducerExt, PushExt, Subscribe};
use pushpull_http::{Format, Gate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::{
    Subprotocol,
    frame::{self, TEXT},
};

mod budget;
mod stress;
mod swept;
mod turns;

const KEY: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// A session's peer, over a pipe that holds so many bytes.
struct Peer {
    io: DuplexStream,
    decoder: Decoder,
    read: Vec<u8>,
    served: JoinHandle<()>,
}

async fn connect(broker: &Broker, gate: &Gate, cx: Call, pipe: usize, asked: Subscribe) -> Peer {
    let (io, theirs) = duplex(pipe);
    let subscription = broker.consume(asked.clone()).await.unwrap();
    let subscribed = Some((subscription, asked.topics.clone(), Unit::of(&asked)));
    let mode = Mode::Framed(Subprotocol::Json);
    let opening = Opening { subscribed, ..opening(broker, gate, cx, mode) };
    let served = tokio::spawn(Serving::new(theirs, b"", opening));
    Peer { io, decoder: Decoder::new(Side::Client, 1 << 20), read: Vec::new(), served }
}

fn opening(broker: &Broker, gate: &Gate, cx: Call, mode: Mode) -> Opening {
    let push = Arc::new(broker.clone());
    let shared = Arc::new(Shared { push: push.clone(), producer: Some(push), gate: gate.clone() });
    let shape = Shape { mode, format: Format::Json, deflate: false };
    Opening { shape, shared, cx, guard: None, permit: None, subscribed: None, refused: None }
}

fn asks() -> Subscribe {
    Subscribe::to("a").unwrap()
}

async fn publish(broker: &Broker, text: impl Into<String>) {
    broker.publish_one(&"a".parse().unwrap(), Published::text(text)).await.unwrap();
}

impl Peer {
    async fn message(&mut self) -> Option<Message> {
        loop {
            let mut bytes = &self.read[..];
            let decoded = self.decoder.decode(&mut bytes).unwrap();
            self.read = bytes.to_vec();
            if decoded.is_some() {
                return decoded;
            }
            if self.io.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn text(&mut self) -> String {
        match self.message().await {
            Some(Message::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn send(&mut self, opcode: tungstenite::protocol::frame::coding::OpCode, payload: &str) {
        self.io.write_all(&frame::encode(opcode, payload.as_bytes(), KEY)).await.unwrap();
    }
}

fn close(code: u16, reason: String) -> Option<Message> {
    Some(Message::Close(Some(Closing::new(code, reason))))
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_twice_and_closed() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_keep_alive(Duration::from_secs(1000)).build().unwrap();
    let mut peer = connect(&broker, &gate, Call::default(), 4096, asks()).await;
    let begun = Instant::now();
    peer.text().await;
    assert_eq!(peer.message().await, Some(Message::Ping(Bytes::new())));
    assert_eq!(begun.elapsed().as_secs(), 25);
    peer.send(frame::PONG, "").await;
    for at in [50, 75] {
        assert_eq!(peer.message().await, Some(Message::Ping(Bytes::new())));
        assert_eq!(begun.elapsed().as_secs(), at);
    }
    assert_eq!(peer.message().await, close(1008, "timeout".into()));
    assert_eq!(begun.elapsed().as_secs(), 100);
    peer.served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 105, "and waited for no longer than 5 s");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_carry_the_place_of_a_quiet_topic() {
    let broker = Broker::memory();
    let mut peer = connect(&broker, &Gate::open(), Call::default(), 4096, asks()).await;
    let epoch = broker.place().epoch();
    peer.text().await;
    broker.publish_one(&"other".parse().unwrap(), Published::text("x")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(peer.text().await, format!(r#"{{"heartbeat":{{"cursor":"{epoch}-1","conflated":0}}}}"#));
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_identity_closes_with_4401_and_the_place() {
    let broker = Broker::memory();
    let identity = Identity::new("me").until(Instant::now() + Duration::from_secs(10));
    let mut peer =
        connect(&broker, &Gate::open(), Call::default().with_identity(identity), 4096, asks()).await;
    let begun = Instant::now();
    peer.text().await;
    let place = broker.place();
    assert_eq!(peer.message().await, close(4401, format!("unauthenticated cursor={place}")));
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_frame_half_written_when_the_ring_drops_its_event_is_finished() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    let mut peer = connect(&broker, &Gate::open(), Call::default(), 700, asks()).await;
    let epoch = broker.place().epoch();
    peer.text().await;
    let long = "long ".repeat(1000);
    publish(&broker, long.clone()).await;
    let mut some = [0; 100];
    peer.io.read_exact(&mut some).await.unwrap();
    peer.read.extend(some);
    for text in ["2", "3", "4", "5"] {
        publish(&broker, text).await;
    }
    peer.send(TEXT, r#"{"publish":{"topic":"b","data":1}}"#).await;
    while broker.place().seq() < 6 {
        tokio::task::yield_now().await;
    }
    assert!(peer.text().await.contains(&long), "who does not read is read from all the same");
    let gap = format!(
        r#"{{"gap":{{"after":"{epoch}-1","before":"{epoch}-4","cursor":"{epoch}-1","reason":"lagged"}}}}"#
    );
    assert_eq!(peer.text().await, gap);
    for text in ["4", "5"] {
        let event = peer.text().await;
        assert!(event.contains(&format!(r#""cursor":"{epoch}-{text}""#)), "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_for_30_s_is_cut_off() {
    let broker = Broker::memory();
    let peer = connect(&broker, &Gate::open(), Call::default(), 100, asks()).await;
    let begun = Instant::now();
    publish(&broker, "x".repeat(1000)).await;
    peer.served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    drop(peer.io);
}

#[tokio::test(start_paused = true)]
async fn a_drain_tells_when_and_from_where_to_come_back() {
    let broker = Broker::memory();
    let gate = Gate::open();
    let mut peer = connect(&broker, &gate, Call::default(), 4096, asks()).await;
    peer.text().await;
    publish(&broker, "last").await;
    assert!(peer.text().await.contains("last"));
    broker.publish_one(&"other".parse().unwrap(), Published::text("not asked for")).await.unwrap();
    let place = broker.place();
    gate.drain().begin();
    let away = peer.text().await;
    let retry: u64 =
        away.strip_prefix(r#"{"goaway":{"retry":"#).unwrap().split(',').next().unwrap().parse().unwrap();
    assert_eq!(away, format!(r#"{{"goaway":{{"retry":{retry},"cursor":"{place}"}}}}"#));
    let closing = peer.message().await;
    assert_eq!(closing, close(1001, format!("unavailable retry={retry} cursor={place}")));
    peer.send(CLOSE, "\u{3}").await;
    assert_eq!(peer.message().await, None);
    drop(peer.io);
    peer.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_cut_short_waits_for_nobody() {
    let broker = Broker::memory();
    let gate = Gate::open();
    let mut peer = connect(&broker, &gate, Call::default(), 4096, asks()).await;
    peer.text().await;
    let begun = Instant::now();
    gate.drain().begin();
    peer.text().await;
    gate.drain().abort();
    peer.served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_leaves_before_the_first_word_is_let_go() {
    let broker = Broker::memory();
    let mut peer = connect(&broker, &Gate::open(), Call::default(), 4096, asks()).await;
    let begun = Instant::now();
    peer.send(TEXT, r#"{"subscribe":{"id":1,"topics":["b"]}}"#).await;
    peer.send(CLOSE, "\u{3}\u{e8}").await;
    while !matches!(peer.message().await, Some(Message::Close(_)) | None) {}
    drop(peer.io);
    peer.served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_answers_is_not_asked_for_more() {
    let broker = Broker::memory();
    let peer = connect(&broker, &Gate::open(), Call::default(), 4096, asks()).await;
    let (unread, mut write) = tokio::io::split(peer.io);
    let id = "x".repeat(64 * 1024);
    let frame = format!(r#"{{"publish":{{"id":"{id}","topic":"b","data":1}}}}"#);
    let frame = frame::encode(TEXT, frame.as_bytes(), KEY);
    let writing = tokio::spawn(async move {
        for _ in 0..100 {
            if write.write_all(&frame).await.is_err() {
                break;
            }
        }
    });
    peer.served.await.unwrap();
    drop(unread);
    writing.await.unwrap();
    let done = broker.place().seq();
    assert!((1..=8).contains(&done), "{done} answers of 64 KiB were waiting for who does not read");
}

#[test]
fn an_idle_connection_is_small() {
    // With the two counts of an `Arc`, which allocators hold in the class of 320 bytes.
    let size = size_of::<Connection<Session<tokio::net::TcpStream>>>() + 16;
    assert!(size <= 320, "{size} bytes");
}

#[test]
fn what_a_sweep_turns_to_lies_in_three_lines_of_the_cache() {
    type Idle = Session<tokio::net::TcpStream>;
    let before = 16 + size_of::<Connection<Idle>>() - size_of::<Idle>();
    let stream = std::mem::offset_of!(Idle, pump) + size_of::<crate::outbox::Outbox>();
    let end = before + stream + size_of::<tokio::net::TcpStream>();
    assert!(end <= 3 * 64, "{end} bytes");
}
