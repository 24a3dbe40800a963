//! What one poll does, and what a peer that does not read may cost: by count and by bytes, not by time.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Wake, Waker},
};

use prost::Message as _;
use pushpull_http::proto::v1::{self, client_frame};
use tokio::io::ReadBuf;

use super::*;
use crate::{
    close,
    deflate::deflate,
    frame::{BINARY, encode, encode_deflated},
};

/// A frame of a client, whose mask changes nothing.
const UNMASKED: Option<[u8; 4]> = Some([0; 4]);
/// Most messages that a turn publishes where each comes by itself.
const MOST: u64 = 1200;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection that is polled by hand.
struct Turns {
    serving: Serving<Deaf>,
    wakes: Arc<Wakes>,
}

impl Turns {
    /// One whose peer has said `said`, to be published to `b` where it is a payload.
    fn after(broker: &Broker, mode: Mode, said: Vec<u8>) -> Self {
        let said = Deaf(io::Cursor::new(said));
        let mut opening = opening(broker, &Gate::open(), Call::default(), mode);
        opening.shape.deflate = true;
        let serving = Serving::new(said, b"", opening);
        serving.session().topics = (mode == Mode::Raw).then(|| Topics::new(["b".parse().unwrap()]).unwrap());
        Self { serving, wakes: Arc::default() }
    }

    /// One turn; whether it asks for another.
    async fn turn(&mut self) -> bool {
        let before = self.wakes.0.load(Ordering::Relaxed);
        let waker = Waker::from(self.wakes.clone());
        assert!(Pin::new(&mut self.serving).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(self.wakes.0.load(Ordering::Relaxed), before, "others come before it");
        tokio::task::yield_now().await;
        self.wakes.0.load(Ordering::Relaxed) > before
    }
}

fn json(text: &str) -> Vec<u8> {
    encode(TEXT, text.as_bytes(), UNMASKED).to_vec()
}

fn array(frame: &str, count: usize) -> String {
    format!("[{}]", vec![frame; count].join(","))
}

fn batch(count: usize, id: Option<u64>) -> Vec<u8> {
    let messages = vec![v1::Message::default(); count];
    let publish = v1::PublishRequest { topic: "b".into(), id, messages, ..v1::PublishRequest::default() };
    let frame = v1::ClientFrame { frame: Some(client_frame::Frame::Publish(publish)) };
    encode(BINARY, &frame.encode_to_vec(), UNMASKED).to_vec()
}

const JSON: Mode = Mode::Framed(Subprotocol::Json);
const PROTO: Mode = Mode::Framed(Subprotocol::Proto);

#[tokio::test(start_paused = true)]
async fn one_turn_publishes_some_thousand_messages_at_most() {
    let publish = r#"{"publish":{"topic":"b","data":1}}"#;
    for (mode, said, all, most) in [
        (JSON, json(&array(publish, 10_000)), 10_000, MOST),
        (JSON, json(publish).repeat(5000), 5000, MOST),
        (Mode::Raw, encode(BINARY, b"", UNMASKED).repeat(5000), 5000, MOST),
        // A batch is one act, and the work of a turn.
        (PROTO, batch(10_000, None).repeat(8), 80_000, 10_000),
        (PROTO, batch(1, None).repeat(5000), 5000, MOST),
    ] {
        let broker = Broker::memory();
        let mut turns = Turns::after(&broker, mode, said);
        let mut count = 0;
        while broker.place().seq() < all {
            let before = broker.place().seq();
            let again = turns.turn().await;
            assert!(broker.place().seq() - before <= most, "{mode:?}: {}", broker.place().seq() - before);
            assert!(again || broker.place().seq() == all, "{mode:?}: it asks for its next turn");
            count += 1;
            assert!(count < 2000, "{mode:?}: it goes on");
        }
        assert!(count as u64 >= all / most, "{mode:?}: {count} turns");
    }
}

#[tokio::test(start_paused = true)]
async fn one_turn_inflates_no_more_than_a_message_beyond_its_measure() {
    let bomb = deflate(&vec![0; 1 << 20]).unwrap();
    let mut bomb = encode_deflated(BINARY, &bomb).to_vec();
    bomb[1] |= 0x80;
    let mask_at = if bomb[1] & 0x7f == 126 { 4 } else { 2 };
    bomb.splice(mask_at..mask_at, [0; 4]);
    let broker = Broker::memory();
    let mut turns = Turns::after(&broker, Mode::Raw, bomb.repeat(8));
    for done in 0..8 {
        assert_eq!(broker.place().seq(), done);
        while broker.place().seq() == done {
            let asked_again = turns.turn().await;
            assert!(
                turns.serving.session().spent.0 as usize <= TURN + 3 * (1 << 20),
                "{}",
                turns.serving.session().spent.0
            );
            assert!(asked_again || broker.place().seq() == 8);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pings_and_what_comes_behind_a_close_have_their_measure_too() {
    let broker = Broker::memory();
    for (is_closed, said) in [
        (false, encode(PING, b"", UNMASKED).repeat(20_000)),
        (true, encode(BINARY, &[0; 1000], UNMASKED).repeat(1000)),
    ] {
        let mut turns = Turns::after(&broker, JSON, said);
        if is_closed {
            turns.serving.session().close(&Closing::new(close::NORMAL, ""));
        }
        let mut count = 1;
        while turns.turn().await {
            count += 1;
        }
        assert!(count > 5, "{count} turns");
    }
}

/// The stream of a peer that has said all this, and takes nothing.
struct Deaf(io::Cursor<Vec<u8>>);

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.position() < self.0.get_ref().len() as u64 {
            true => Pin::new(&mut self.0).poll_read(cx, into),
            false => Poll::Pending,
        }
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Session<Deaf> {
    /// The bytes it holds for its peer beside its place.
    fn held(&self) -> usize {
        self.pump.outbox.bytes() + self.inbox.held() + self.pump.held()
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answers_costs_what_it_says_at_once_and_144_kib() {
    let topics: Vec<String> = (0..64).map(|n| format!(r#""{}-{n}""#, "t".repeat(200))).collect();
    let unsubscribe = format!(r#"{{"unsubscribe":{{"id":1,"topics":[{}]}}}}"#, topics.join(","));
    let wrong = r#"{"credit":{"id":1}}"#;
    let values = |count| count * size_of::<Published>();
    for (mode, message, count, command) in [
        (JSON, json(wrong), 100_000, 0),
        (JSON, json(&array(wrong, 1000)), 200, 0),
        (JSON, json(&unsubscribe), 200, 0),
        (JSON, json(&array(&unsubscribe, 60)), 5, 0),
        (JSON, json(&array(wrong, 10_000)), 10, 0),
        (PROTO, batch(5000, Some(1)), 50, values(5000)),
    ] {
        let broker = Broker::memory();
        let mut turns = Turns::after(&broker, mode, message.repeat(count));
        let (mut most, mut does_go_on) = (0, true);
        while does_go_on {
            does_go_on = turns.turn().await;
            most = most.max(turns.serving.session().held());
        }
        // An answer of these has less than 1 KiB.
        let bound = 144 * 1024 + 1024 + message.len() + command;
        assert!(most <= bound, "{mode:?}, {} bytes: {most} held", message.len());
        let unread = turns.serving.session().pump.io().0.position();
        assert!(
            unread < 256 * 1024 + message.len() as u64,
            "{mode:?}, {} bytes: {unread} read",
            message.len()
        );
    }
}
