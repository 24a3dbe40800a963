//! The opening handshake (RFC 6455, 4.2).

use pushpull_broker::Broker;
use pushpull_core::{Context, ErrorKind, Identity, Problem};
use pushpull_http::{Action, Authorizer, Gate};

use crate::peer::{JSON, Peer, Server, head, publish};

const GOOD: &str = "GET /ws?topic=a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn requests_are_taken_or_refused_by_the_letter() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    for (from, to, status) in [
        ("", "", 101),
        ("Upgrade: websocket", "Upgrade: WebSocket", 101),
        ("Upgrade: websocket", "upgrade: h2c, websocket", 101),
        ("Connection: Upgrade", "Connection: keep-alive, Upgrade", 101),
        ("Connection: Upgrade", "connection: keep-alive\r\nconnection: upgrade", 101),
        ("Connection: Upgrade\r\n", "", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("Upgrade: websocket\r\n", "", 426),
        ("Upgrade: websocket", "Upgrade: websockets", 426),
        ("Version: 13", "Version: 12", 426),
        ("Version: 13", "Version: 013", 426),
        ("Version: 13", "Version: 13, 8", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "!", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("Host: h\r\n", "Host: h\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
        ("Host: h\r\n", "", 400),
        ("Host: h", "Host: h\r\nHost: h", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Host: h", "Host: h\r\nContent-Length: 5", 400),
        ("GET", "POST", 405),
        ("GET", "HEAD", 405),
        ("topic=a", "topic=a..b", 400),
        ("topic=a", "", 400),
        ("topic=a", "topic=a&topic=b", 400),
        ("topic=a", "topic=a.*", 400),
        ("topic=a", "topic=a&limit=1", 400),
        ("topic=a", "topic=a&window=1", 400),
        ("topic=a", "topic=a&overflow=gap", 400),
        ("topic=a", "topic=a&after=x", 400),
        ("Host: h", "Host: h\r\nSec-WebSocket-Protocol: chat, pushpull.v2.proto", 400),
    ] {
        let request = GOOD.replacen(from, to, 1);
        assert!(from.is_empty() || request != GOOD);
        let (head, _peer) = Peer::ask(server.address, &request).await;
        assert_eq!(head.status, status, "{request}{}", head.text);
        if status == 426 {
            assert_eq!(head.header("sec-websocket-version"), Some("13"), "{request}");
            assert_eq!(head.header("upgrade"), Some("websocket"));
        }
        if status >= 400 && !request.starts_with("HEAD") {
            assert_eq!(head.header("content-type"), Some("application/problem+json"), "{request}");
        }
    }
    let (head, _) = Peer::ask(server.address, &GOOD.replace("GET", "OPTIONS")).await;
    assert_eq!((head.status, head.header("allow")), (204, Some("GET, CONNECT, OPTIONS")));
}

#[tokio::test]
async fn the_answer_is_the_standards_own() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let (answer, _peer) = Peer::ask(server.address, GOOD).await;
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((answer.header("upgrade"), answer.header("connection")), (Some("websocket"), Some("Upgrade")));
    for absent in
        ["content-length", "transfer-encoding", "sec-websocket-protocol", "sec-websocket-extensions"]
    {
        assert_eq!(answer.header(absent), None, "{}", answer.text);
    }
    let several = head("", &["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: x, pushpull.v1.json"]);
    let (answer, _peer) = Peer::ask(server.address, &several).await;
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("pushpull.v1.json")));
}

#[tokio::test]
async fn frames_sent_with_the_head_are_not_lost() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let early = [GOOD.as_bytes(), &crate::peer::frame(0x81, b"early")].concat();
    let (answer, mut peer) = Peer::ask(server.address, &early).await;
    assert_eq!((answer.status, peer.text().await.as_str()), (101, "early"));
}

struct Strict;

#[async_trait::async_trait]
impl Authorizer for Strict {
    async fn identify(&self, token: Option<&str>, cx: Context) -> Result<Context, Problem> {
        match token {
            Some("good") => Ok(cx.with_identity(Identity::new("me"))),
            _ => Err(Problem::new(ErrorKind::Unauthenticated, "no token")),
        }
    }
    async fn authorize(&self, _: &Context, action: Action<'_>) -> Result<(), Problem> {
        match action.to_string().ends_with(" a") {
            true => Ok(()),
            false => Err(Problem::new(ErrorKind::Forbidden, "not yours")),
        }
    }
}

#[tokio::test]
async fn a_browser_is_told_by_a_close_code_what_others_are_told_by_a_status() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_authorizer(Strict).build().unwrap();
    let server = Server::start(&broker, gate).await;
    for (query, status, code, slug) in [
        ("topic=a..b&access_token=good", 400, 4400, "bad-request"),
        ("topic=a&access_token=good&nonsense=1", 400, 4400, "bad-request"),
        ("topic=a", 401, 4401, "unauthenticated"),
        ("topic=b&access_token=good", 403, 4403, "forbidden"),
    ] {
        let (answer, _) = Peer::ask(server.address, &head(query, &[JSON])).await;
        assert_eq!(answer.status, status, "{query}");
        let (answer, mut peer) = Peer::ask(server.address, &head(query, &[JSON, "Origin: http://h"])).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("pushpull.v1.json")));
        assert_eq!(peer.closed().await, (code, slug.to_owned()), "{query}");
    }
    for origin in ["Origin: http://evil.example", "Origin: null", "Origin: http://h.evil.example"] {
        let (answer, mut peer) =
            Peer::ask(server.address, &head("topic=a&access_token=good", &[JSON, origin])).await;
        assert_eq!(answer.status, 101, "{origin}");
        assert_eq!(peer.closed().await, (4403, "forbidden".to_owned()), "and nothing was delivered");
    }
    let (answer, _peer) =
        Peer::ask(server.address, &head("topic=a&access_token=good", &[JSON, "Origin: http://h"])).await;
    assert_eq!(answer.status, 101);
    assert_eq!(server.gate.metrics().connections(pushpull_http::Transport::Ws), 1);
}

#[tokio::test]
async fn a_full_or_draining_server_says_so_by_status() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::builder().with_max_connections(1).build().unwrap()).await;
    let _one = Peer::raw(&server, "topic=a").await;
    let (answer, _) = Peer::ask(server.address, &head("topic=a", &["Origin: http://h"])).await;
    assert_eq!(answer.status, 503);
    let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&retry), "a part of the default spread of 5 s, in whole seconds: {retry}");
}

#[tokio::test]
async fn refused_browsers_cannot_pile_up() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let bad = head("topic=a..b", &["Origin: http://h"]);
    let mut peers = Vec::new();
    for _ in 0..256 {
        let (answer, peer) = Peer::ask(server.address, &bad).await;
        assert_eq!(answer.status, 101);
        peers.push(peer);
    }
    assert_eq!(Peer::ask(server.address, &bad).await.0.status, 400);
}

#[tokio::test]
async fn what_the_source_refuses_has_its_status_before_the_upgrade() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    broker.close();
    let (answer, _) = Peer::ask(server.address, head("topic=a", &[JSON, "Origin: http://h"])).await;
    assert_eq!((answer.status, answer.header("content-type")), (503, Some("application/problem+json")));
    let connections = server.gate.metrics().connections(pushpull_http::Transport::Ws);
    assert_eq!(connections, 0);
}

#[tokio::test]
async fn a_bare_pattern_is_taken() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::json(&server, "topic=a.>").await;
    assert_eq!(peer.value().await["heartbeat"]["conflated"], 0);
    publish(&broker, "a.b", &["x"]).await;
    assert_eq!(peer.value().await["topic"], "a.b");
}
