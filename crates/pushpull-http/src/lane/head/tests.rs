//! What the judge takes, what it leaves, and that hyper reads the same where it takes.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use http::Response;
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::lane::received::ROOM;

/// A request as a service sees it: method, target, headers, body.
type Read = (Method, String, Vec<(String, Vec<u8>)>, Vec<u8>);

fn read_of(parts: &http::request::Parts, body: &[u8]) -> Read {
    let headers = parts.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    (parts.method.clone(), parts.uri.to_string(), headers, body.to_vec())
}

/// The requests that the lane takes of `bytes`, one after the other, until one is not plain.
fn by_judge(mut bytes: &[u8]) -> Vec<Read> {
    let mut read = Vec::new();
    while !bytes.is_empty()
        && let Verdict::Plain(plain) = judge(&bytes[..bytes.len().min(ROOM)], ROOM)
    {
        let (parts, body) = plain.request.into_parts();
        read.push(read_of(&parts, &body.into_whole().unwrap()));
        bytes = &bytes[plain.bytes..];
        if plain.asked.closes {
            break;
        }
    }
    read
}

/// The requests that hyper takes of `bytes`.
fn by_hyper(bytes: &[u8]) -> Vec<Read> {
    let read = Arc::new(Mutex::new(Vec::new()));
    let noted = read.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let noted = noted.clone();
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                noted.lock().unwrap().push(read_of(&parts, &body.to_bytes()));
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(client.write_all(bytes)).poll(&mut cx).is_ready());
    {
        // A client that neither ends nor waits: as far as it comes by itself.
        let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(server), service));
        (0..20).find(|_| connection.as_mut().poll(&mut cx).is_ready());
    }
    Arc::try_unwrap(read).unwrap().into_inner().unwrap()
}

/// One word for a verdict.
fn verdict(bytes: &[u8]) -> &'static str {
    match judge(bytes, ROOM) {
        Verdict::Plain(_) => "plain",
        Verdict::Partial => "partial",
        Verdict::BodyPartial => "body",
        Verdict::Other => "other",
        Verdict::Bare => "bare",
        Verdict::Http2 => "http2",
    }
}

#[test]
fn plain_requests_are_taken_as_hyper_reads_them() {
    for text in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /poll?topic=a.b&start=latest HTTP/1.1\r\nHost: [::1]:80\r\nIf-None-Match: \"e-1\"\r\n\r\n",
        "HEAD /a%20b HTTP/1.1\r\nhOsT:\r\nX-A: 1\r\nX-A: \t 2 \t\r\nX: \u{e4}\r\n\r\n",
        "GET /#f HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST /topics/a HTTP/1.1\r\nHost: x\r\nContent-Length: 005\r\n\r\nhello",
        "POST /topics/a HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /t HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let Verdict::Plain(plain) = judge(text.as_bytes(), ROOM) else { panic!("{text}") };
        assert_eq!(plain.bytes, text.len(), "{text}");
        assert_eq!(plain.asked.is_head, text.starts_with("HEAD"));
        assert_eq!(plain.asked.closes, text.contains("Connection: close"));
        let followed = format!("{text}GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
        let read = by_hyper(followed.as_bytes());
        assert_eq!(by_judge(followed.as_bytes()), read, "{text}");
        assert_eq!(read.len(), if plain.asked.closes { 1 } else { 2 });
    }
}

#[test]
fn in_any_doubt_a_request_is_left() {
    const LONG: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ";
    let large = format!("{LONG}8192\r\n\r\n");
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(64));
    for (text, expected) in [
        ("G", "partial"),
        ("P", "partial"),
        ("PRI", "partial"),
        ("PRI * HTTP/2.0\r\n", "http2"),
        ("PRIX / HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\n", "partial"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r", "partial"),
        ("GET /?topic=> HTTP/1.1\r\nHost: x\r\n\r\n", "bare"),
        ("GET /a HTTP/1.1\r\nHost: >\r\n\r\n", "plain"),
        ("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("get / HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("GET / HTTP/1.0\r\nHost: x\r\n\r\n", "other"),
        ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", "other"),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("GET x HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("PUT / HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "other"),
        ("GET / HTTP/1.1\nHost: x\n\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\n\r\n", "other"),
        ("GET / HTTP/1.1\nHost: x", "other"),
        ("GET / HTTP/1.1\nHost: x\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\x7f\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close, x\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nConnection: close\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nTrailer: x\r\n\r\n", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", "other"),
        ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "other"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "other",
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nhello", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n", "other"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nhello", "body"),
        (&large, "other"),
        (&many, "other"),
    ] {
        assert_eq!(verdict(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn what_does_not_fit_is_left() {
    let head = |bytes: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(bytes - rest))
    };
    assert_eq!(verdict(head(ROOM).as_bytes()), "plain");
    assert_eq!(verdict(&head(ROOM + 1).as_bytes()[..ROOM]), "other");
    assert_eq!(verdict(&head(ROOM).as_bytes()[..ROOM - 1]), "partial");
}

#[test]
fn a_name_is_told_as_the_parser_tells_it() {
    for text in
        ["Host", "Content-Length", "Content-Type", "Accept", "User-Agent", "Authorization", "Connection"]
            .into_iter()
            .chain(["If-None-Match", "X-A", "hOsT", "Acceptt", "A b", ""])
    {
        for text in [text.to_owned(), text.to_lowercase()] {
            assert_eq!(name(&text), HeaderName::from_bytes(text.as_bytes()).ok(), "{text}");
        }
    }
}

/// Heads to begin with, and what is put into them.
const HEADS: [&str; 6] = [
    "GET /poll?topic=a HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"e-1\"\r\n\r\n",
    "POST /topics/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /topics/a HTTP/1.1\r\nContent-Length: 27\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /longpoll?topic=a&wait=5 HTTP/1.1\r\nhost: x\r\nprefer: wait=3\r\nconnection: keep-alive\r\n\r\n",
];
const PIECES: [&str; 22] = [
    "\r",
    "\n",
    "\r\n",
    " ",
    "\t",
    ":",
    "\0",
    "\x7f",
    "+",
    ",",
    "0",
    "5",
    ">",
    "#",
    "/",
    "A",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Host: y\r\n",
    " folded\r\n",
];

fn changed(head: usize, changes: Vec<(prop::sample::Index, usize, bool)>) -> Vec<u8> {
    let mut bytes = HEADS[head].as_bytes().to_vec();
    for (at, piece, replaces) in changes {
        let at = at.index(bytes.len());
        let end = at + usize::from(replaces);
        bytes.splice(at..end, PIECES[piece].bytes());
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What the lane takes, hyper would have taken, with the same parts, and gone on at the same byte.
    #[test]
    fn hyper_reads_the_same(
        head in 0..HEADS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), any::<bool>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = changed(head, changes);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (taken, read) = (by_judge(&bytes), by_hyper(&bytes));
        prop_assert!(read.starts_with(&taken), "{:?}\n{taken:?}\n{read:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn every_line_of_what_is_taken_ends_alike(
        head in 0..HEADS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), any::<bool>()), 0..4),
    ) {
        let bytes = changed(head, changes);
        if let Verdict::Plain(plain) = judge(&bytes, ROOM) {
            let body = plain.request.into_body().into_whole().unwrap();
            prop_assert!(is_lined(&bytes[..plain.bytes - body.len()]));
        }
    }

    /// So what is kept of a connection is less than that.
    #[test]
    fn what_fills_the_room_is_not_waited_for(
        head in 0..HEADS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), any::<bool>()), 0..4),
        cut in any::<prop::sample::Index>(),
        filled in prop::option::of(1..ROOM),
    ) {
        let mut bytes = changed(head, changes);
        bytes.truncate(cut.index(bytes.len()));
        bytes.resize(filled.unwrap_or(ROOM).max(bytes.len()), b'a');
        let is_waited_for = matches!(judge(&bytes, ROOM), Verdict::Partial | Verdict::BodyPartial);
        prop_assert!(!is_waited_for || bytes.len() < ROOM);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        judge(&bytes, ROOM);
    }
}
