//! permessage-deflate (RFC 7692).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use pushpull_broker::Broker;
use pushpull_http::Gate;

use crate::peer::{JSON, PING, PONG, Peer, Server, TEXT, frame, head, publish};

pub(crate) const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 100);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - TAIL.len());
    out
}

pub(crate) fn inflated_bytes(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let whole = [payload, &TAIL].concat();
    Decompress::new(false).decompress_vec(&whole, &mut out, FlushDecompress::Sync).unwrap();
    out
}

fn inflated(payload: &[u8]) -> String {
    String::from_utf8(inflated_bytes(payload)).unwrap()
}

pub(crate) async fn connect(server: &Server, more: &[&str]) -> Peer {
    let (answer, peer) = Peer::ask(server.address, head("topic=a", more)).await;
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, Some(agreed)));
    peer
}

#[tokio::test]
async fn large_messages_go_deflated_alike_and_small_ones_plain() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut raw = connect(&server, &[OFFER]).await;
    let mut second = connect(&server, &[OFFER]).await;
    let mut json = connect(&server, &[OFFER, JSON]).await;
    let mut plain = Peer::raw(&server, "topic=a").await;
    assert!(json.text().await.contains("heartbeat"));
    let long = "again and ".repeat(500);
    publish(&broker, "a", &[&long, &long, "short"]).await;
    for _ in 0..2 {
        let (first, payload) = raw.frame().await.unwrap();
        assert_eq!((first, inflated(&payload)), (0xc0 | TEXT, long.clone()));
        assert!(payload.len() < 200);
        assert_eq!(
            second.frame().await,
            Some((first, payload)),
            "no context is carried from one to the next"
        );
        let (first, payload) = json.frame().await.unwrap();
        assert!(first == 0xc0 | TEXT && inflated(&payload).contains(&long));
        assert_eq!(plain.text().await, long);
    }
    assert_eq!(raw.text().await, "short");
}

#[tokio::test]
async fn deflated_messages_are_taken_in_parts_and_mixed_with_plain_ones() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = connect(&server, &[OFFER]).await;
    let bytes = deflated("häufig".as_bytes());
    let (first, second) = bytes.split_at(3);
    peer.bytes(&[frame(0x41, first), frame(0x89, b"p"), frame(0x80, second)].concat()).await;
    assert_eq!(peer.frame().await, Some((0x80 | PONG, b"p".to_vec())));
    assert_eq!(peer.text().await, "häufig");
    peer.send(TEXT, "plain").await;
    assert_eq!(peer.text().await, "plain");
    peer.send(PING, "").await;
    assert_eq!(peer.frame().await, Some((0x80 | PONG, Vec::new())));
}

#[tokio::test]
async fn what_deflate_does_not_allow_is_closed_with_its_code() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::builder().with_max_payload(100_000).build().unwrap()).await;
    let bomb = deflated(&vec![b'x'; 20 << 20]);
    assert!(bomb.len() < 100_000);
    for (what, bytes, code) in [
        ("a bomb", frame(0xc1, &bomb), 1009),
        ("no deflate", frame(0xc1, b"\xff\xff\xff"), 1007),
        ("text that is no UTF-8", frame(0xc1, &deflated(b"a\xff")), 1007),
        ("a ping with the bit", frame(0xc9, b"x"), 1002),
        ("a later part with the bit", [frame(0x41, &bomb[..9]), frame(0xc0, &bomb[9..])].concat(), 1002),
    ] {
        let mut peer = connect(&server, &[OFFER]).await;
        peer.bytes(&bytes).await;
        assert_eq!(peer.close_frame().await.0, code, "{what}");
    }
    assert_eq!(broker.place().seq(), 0);
}

#[tokio::test]
async fn offers_that_cannot_be_met_are_declined() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    for offer in ["permessage-deflate; server_max_window_bits=9", "permessage-deflate; x", "other"] {
        let offer = format!("Sec-WebSocket-Extensions: {offer}");
        let (answer, mut peer) = Peer::ask(server.address, head("topic=a", &[&offer])).await;
        assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None), "{offer}");
        let long = "again and ".repeat(500);
        peer.say(&long).await;
        assert_eq!(peer.text().await, long);
    }
}
