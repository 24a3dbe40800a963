//! Frames by the letter (RFC 6455, 5 and 7).

use pushpull_broker::Broker;
use pushpull_http::Gate;

use crate::peer::{BINARY, CLOSE, PING, PONG, Peer, Server, TEXT, frame};

/// A masked frame with this header instead of its own: the first byte, the length as coded, a mask of zeros.
fn header(first: u8, length: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, length[0] | 0x80];
    bytes.extend(&length[1..]);
    bytes.extend([0; 4]);
    bytes
}

#[tokio::test]
async fn what_breaks_a_rule_is_closed_with_its_code() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::builder().with_max_payload(1000).build().unwrap()).await;
    let close = |payload: &[u8]| frame(0x88, payload);
    for (what, bytes, code) in [
        ("unmasked", b"\x81\x02hi".to_vec(), 1002),
        ("rsv1 not agreed on", frame(0xc1, b"x"), 1002),
        ("rsv2", frame(0xa1, b"x"), 1002),
        ("rsv3", frame(0x91, b"x"), 1002),
        ("reserved opcode 3", frame(0x83, b"x"), 1002),
        ("reserved opcode 7", frame(0x87, b"x"), 1002),
        ("reserved opcode 11", frame(0x8b, b"x"), 1002),
        ("reserved opcode 15", frame(0x8f, b"x"), 1002),
        ("a ping in parts", frame(0x09, b"x"), 1002),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a message in another", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        ("a length of two bytes that fits one", header(0x81, &[126, 0, 5]), 1002),
        ("a length of eight bytes that fits two", header(0x81, &[127, 0, 0, 0, 0, 0, 0, 1, 0]), 1002),
        ("a length with its top bit", header(0x82, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0]), 1002),
        ("too long, by its header alone", header(0x82, &[126, 3, 0xe9]), 1009),
        ("far too long, by its header alone", header(0x82, &[127, 0, 0, 1, 0, 0, 0, 0, 0]), 1009),
        ("too long in all", [frame(0x02, &[0; 600]), header(0x80, &[126, 1, 0x91])].concat(), 1009),
        ("no UTF-8", frame(0x81, b"a\xff"), 1007),
        ("a surrogate", frame(0x81, b"\xed\xa0\x80"), 1007),
        ("overlong", frame(0x81, b"\xc0\xaf"), 1007),
        ("beyond the last code point, at its second byte", frame(0x01, b"\xf4\x90"), 1007),
        ("cut at the end", frame(0x81, b"\xe2\x82"), 1007),
        ("wrong before its frame is whole", frame(0x81, b"a\xffrest")[..8].to_vec(), 1007),
        ("a close of one byte", close(&[3]), 1002),
        ("a close with 1005", close(&1005u16.to_be_bytes()), 1002),
        ("a close with 999", close(&999u16.to_be_bytes()), 1002),
        ("a close whose reason is no UTF-8", close(b"\x03\xe8\xff"), 1007),
    ] {
        let mut peer = Peer::raw(&server, "topic=a").await;
        peer.bytes(&bytes).await;
        assert_eq!(peer.close_frame().await.0, code, "{what}");
        assert_eq!(peer.frame().await, None, "{what}");
    }
    let place = broker.place();
    assert_eq!(place.seq(), 0, "nothing of it was published");
}

#[tokio::test]
async fn messages_come_in_parts_with_pings_between() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::raw(&server, "topic=a").await;
    for byte in [
        frame(0x01, "€".as_bytes().split_at(1).0),
        frame(0x89, b"between"),
        frame(0x00, b""),
        frame(0x00, "€".as_bytes().split_at(1).1),
        frame(0x80, b"!"),
    ]
    .concat()
    {
        peer.bytes(&[byte]).await;
    }
    assert_eq!(peer.frame().await, Some((0x80 | PONG, b"between".to_vec())));
    assert_eq!(peer.text().await, "€!");
    peer.send(PONG, "unasked").await;
    peer.send(TEXT, "").await;
    assert_eq!(peer.text().await, "");
    let large = vec![7; 1 << 20];
    peer.send(BINARY, &large).await;
    assert_eq!(peer.frame().await, Some((0x80 | BINARY, large)));
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_the_server_ends_first() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    for (sent, answer) in [
        (&b""[..], &b""[..]),
        (b"\x03\xe8", b"\x03\xe8"),
        (b"\x03\xe8bye", b"\x03\xe8"),
        (b"\x0b\xb8", b"\x0b\xb8"),
        (b"\x11\x31", b"\x11\x31"),
    ] {
        let mut peer = Peer::raw(&server, "topic=a").await;
        peer.send(CLOSE, sent).await;
        assert_eq!(peer.frame().await, Some((0x80 | CLOSE, answer.to_vec())));
        assert_eq!(peer.frame().await, None);
    }
    let mut peer = Peer::raw(&server, "topic=a").await;
    peer.send(PING, "x").await;
    assert_eq!(peer.frame().await, Some((0x80 | PONG, b"x".to_vec())));
    drop(peer);
    assert!(server.stop().await, "a peer that is gone is no obstacle");
}
