use std::time::Duration;

use super::*;

/// What comes out of `stage` for `came`.
fn passed(stage: &mut impl Stage, came: &str, faults: &Faults) -> String {
    let mut out = Vec::new();
    stage.pass(came.as_bytes(), faults, &mut out);
    String::from_utf8(out).unwrap()
}

const GET: &str = "GET /sse HTTP/1.1\r\nHost: h\r\n\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const NOTHING_NEW: &str = "HTTP/1.1 304 Not Modified\r\n\r\n";

#[test]
fn requests_and_responses_pass_as_they_are() {
    let (exchange, faults) = (Exchange::default(), Faults::none());
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    for _ in 0..3 {
        let post = "POST /topics/a HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET ";
        assert_eq!(passed(&mut up, post, &faults), post);
        let early = "HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(passed(&mut down, early, &faults), early);
        assert!(exchange.first().is_some(), "it still waits");
        let answer = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(passed(&mut down, answer, &faults), answer);
        assert!(exchange.first().is_none());
    }
    assert!(!exchange.is_tunnel());
}

#[test]
fn two_requests_at_once_are_told_apart() {
    let (exchange, faults) = (Exchange::default(), Faults::none().with_buffering(Buffering::Whole));
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    let head = "HEAD /a HTTP/1.1\r\n\r\n";
    assert_eq!(passed(&mut up, &format!("{head}{GET}"), &faults), format!("{head}{GET}"));
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(
        passed(&mut down, &format!("{answer}{NOTHING_NEW}"), &faults),
        format!("{answer}{NOTHING_NEW}")
    );
    assert!(exchange.first().is_none());
}

#[test]
fn a_body_is_held_until_it_ends() {
    let (exchange, faults) = (Exchange::default(), Faults::none().with_buffering(Buffering::Body));
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    passed(&mut up, GET, &faults);
    assert_eq!(passed(&mut down, &format!("{STREAM}2\r\nab\r\n"), &faults), STREAM);
    assert_eq!(passed(&mut down, "2\r\ncd\r\n", &faults), "");
    assert_eq!(passed(&mut down, "0\r\n\r\n", &faults), "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n");
    assert_eq!(passed(&mut up, GET, &faults), GET);
    assert_eq!(passed(&mut down, NOTHING_NEW, &faults), NOTHING_NEW);
}

#[test]
fn a_response_is_held_until_it_ends_or_buffering_does() {
    let (exchange, faults) = (Exchange::default(), Faults::none().with_buffering(Buffering::Whole));
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    passed(&mut up, GET, &faults);
    assert_eq!(passed(&mut down, &format!("{STREAM}2\r\nab\r\n"), &faults), "");
    assert!(exchange.first().is_none(), "it was answered, though nobody sees it");
    let mut out = Vec::new();
    down.change(&faults, &mut out);
    assert_eq!(out, b"");
    down.change(&Faults::none(), &mut out);
    assert_eq!(out, format!("{STREAM}2\r\nab\r\n").into_bytes());
    assert_eq!(passed(&mut down, "2\r\ncd\r\n", &Faults::none()), "2\r\ncd\r\n");
    assert_eq!(passed(&mut down, "2\r\nef\r\n", &faults), "", "those under way are held too");
    down.end(&mut out);
    assert!(out.ends_with(b"2\r\nef\r\n"), "what is held when the server goes is not lost");
}

#[test]
fn what_is_held_is_bounded() {
    let (exchange, faults) = (Exchange::default(), Faults::none().with_buffering(Buffering::Whole));
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    passed(&mut up, GET, &faults);
    let until_end = "HTTP/1.1 200 OK\r\n\r\n";
    passed(&mut down, until_end, &faults);
    let (piece, mut out) = ("x".repeat(1000), 0);
    for sent in (0..).map(|n| n * piece.len() + until_end.len()).take(3000) {
        out += passed(&mut down, &piece, &faults).len();
        assert!(sent + piece.len() - out <= MAX_HELD);
    }
    assert!(out > MAX_HELD && down.held.len() > MAX_HELD / 2, "{out} {}", down.held.len());
}

#[test]
fn an_upgrade_passes_and_what_follows_is_not_looked_at() {
    let (exchange, faults) = (Exchange::default(), Faults::none().with_buffering(Buffering::Whole));
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    let ask = "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(passed(&mut up, ask, &faults), ask);
    let yes = "HTTP/1.1 101 Switching Protocols\r\n\r\nframe";
    assert_eq!(passed(&mut down, yes, &faults), yes);
    assert_eq!(passed(&mut up, "GET ", &faults), "GET ", "not the begin of a request");
    assert_eq!(passed(&mut down, "more", &faults), "more");
}

#[test]
fn a_stripped_upgrade_is_a_plain_get() {
    let exchange = Exchange::default();
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    let faults = Faults::none().with_upgrade(Upgrade::Stripped);
    let ask = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(passed(&mut up, &ask[..40], &faults), "", "a head is looked at as a whole");
    assert_eq!(passed(&mut up, &ask[40..], &faults), "GET /ws HTTP/1.1\r\nHost: h\r\n\r\n");
    let no = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(passed(&mut down, no, &faults), no);
    assert_eq!(passed(&mut up, ask, &Faults::none()), ask, "the next request, on the same connection");
}

#[test]
fn other_protocols_pass() {
    let faults = Faults::none().with_buffering(Buffering::Whole).with_upgrade(Upgrade::Stripped);
    let speak = |asks: &str, answers: &str| {
        let exchange = Exchange::default();
        let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
        for _ in 0..2 {
            assert_eq!(passed(&mut up, asks, &faults), asks);
            assert_eq!(passed(&mut down, answers, &faults), answers);
        }
        assert!(exchange.first().is_none(), "nobody waits");
    };
    speak("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\x12\x04\0\0\0");
    speak("\x16\x03\x01\0", "\x16\x03\x03\0");
    speak("hello", "HTTP/1.1 is not what this is\r\n\r\n");
}

#[test]
fn what_becomes_malformed_passes_and_nobody_waits() {
    let (exchange, faults) = (Exchange::default(), Faults::none().with_buffering(Buffering::Whole));
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    let post = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(passed(&mut up, &format!("{post}no size\r\n"), &faults), format!("{post}no size\r\n"));
    assert!(exchange.first().is_none() && exchange.is_tunnel());
    let answer = "HTTP/1.1 400 Bad Request\r\n\r\nmore";
    assert_eq!(passed(&mut down, answer, &faults), answer);
}

#[tokio::test(start_paused = true)]
async fn patience_is_lost_with_the_request_that_waits_too_long() {
    let (exchange, faults) = (Exchange::default(), Faults::none().with_patience(Duration::from_secs(5)));
    let (mut up, mut down) = (Requests::new(&exchange), Responses::new(&exchange));
    let sender = watch::Sender::new(faults.clone());
    let begun = Instant::now();
    let mut losing = Box::pin(exchange.lose_patience(sender.subscribe()));
    passed(&mut up, GET, &faults);
    passed(&mut down, STREAM, &faults);
    let soon = tokio::time::timeout(Duration::from_secs(60), &mut losing).await;
    assert!(soon.is_err(), "a stream that began is left alone");
    passed(&mut down, "0\r\n\r\n", &faults);
    passed(&mut up, GET, &faults);
    losing.await;
    assert_eq!(begun.elapsed().as_secs(), 65);
}
