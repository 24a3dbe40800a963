//! The server half over the broker, request by request.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Cursor, Message, ProducerExt};
use pushpull_http::{Body, Exposition, Gate, MAX_PAGE, Transport};
use pushpull_http_poll::PollService;
use serde_json::{Value, json};
use tower_service::Service;

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn seqs(&self) -> Vec<u64> {
        let page = self.json();
        let events = page["events"].as_array().unwrap().iter();
        events.filter_map(|event| Some(event["cursor"].as_str()?.parse::<Cursor>().unwrap().seq())).collect()
    }

    fn place(&self) -> Cursor {
        self.json()["cursor"].as_str().unwrap().parse().unwrap()
    }
}

async fn taken(response: Response<Body>) -> Answered {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answered { status: head.status, headers: head.headers, body }
}

async fn call(broker: &Broker, gate: &Gate, method: &str, query: &str, headers: &[(&str, &str)]) -> Answered {
    let mut request = Request::builder().method(method).uri(format!("/poll?{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut service = PollService::new(Arc::new(broker.clone()), gate.clone());
    taken(service.call(request.body(()).unwrap()).await.unwrap()).await
}

async fn ask(broker: &Broker, query: &str, headers: &[(&str, &str)]) -> Answered {
    call(broker, &Gate::open(), "GET", query, headers).await
}

async fn publish(broker: &Broker, topic: &str, count: usize) {
    for _ in 0..count {
        broker.publish_one(&topic.parse().unwrap(), Message::json(&1).unwrap()).await.unwrap();
    }
}

fn at(broker: &Broker, seq: u64) -> Cursor {
    Cursor::new(broker.place().epoch(), seq)
}

#[tokio::test]
async fn a_page_has_its_events_its_cursor_and_its_headers() {
    let broker = Broker::memory();
    publish(&broker, "a", 2).await;
    let epoch = broker.place().epoch();
    let answered = ask(&broker, "topic=a&start=earliest", &[]).await;
    assert_eq!(answered.status, 200);
    let page = answered.json();
    assert_eq!(page["events"][0]["cursor"], format!("{epoch}-1"));
    assert_eq!(page["events"][0]["prev"], Value::Null);
    assert_eq!(page["events"][1]["prev"], format!("{epoch}-1"));
    assert_eq!((&page["cursor"], &page["more"]), (&json!(format!("{epoch}-2")), &json!(false)));
    assert_eq!(answered.header("content-type"), "application/json");
    assert_eq!(answered.header("cache-control"), "no-store");
    assert_eq!(answered.header("etag"), format!("\"{epoch}-2\""));
    let latest = ask(&broker, "topic=a", &[]).await;
    assert_eq!(latest.json(), json!({"events": [], "cursor": format!("{epoch}-2"), "more": false}));
}

#[tokio::test]
async fn the_first_named_place_counts() {
    let broker = Broker::memory();
    publish(&broker, "a", 5).await;
    let epoch = broker.place().epoch();
    let tag = format!("W/\"{epoch}-4\"");
    let (after, last) = (format!("after={epoch}-3"), format!("lastEventId={epoch}-2"));
    for (query, headers, expected) in [
        (format!("topic=a&{after}&{last}"), vec![("if-none-match", tag.as_str())], vec![5]),
        (format!("topic=a&{after}&{last}"), vec![], vec![4, 5]),
        (format!("topic=a&{last}&start=earliest"), vec![], vec![3, 4, 5]),
        ("topic=a&start=earliest".into(), vec![], vec![1, 2, 3, 4, 5]),
        ("topic=a&start=last".into(), vec![], vec![5]),
        ("topic=a".into(), vec![], vec![]),
    ] {
        assert_eq!(ask(&broker, &query, &headers).await.seqs(), expected, "{query} {headers:?}");
    }
}

#[tokio::test]
async fn nothing_new_is_a_304_that_tells_the_place() {
    let broker = Broker::memory();
    publish(&broker, "a", 40).await;
    let tag = format!("\"{}\"", at(&broker, 40));
    let same = ask(&broker, "topic=a", &[("if-none-match", &tag)]).await;
    assert_eq!(
        (same.status, same.header("pushpull-cursor")),
        (StatusCode::NOT_MODIFIED, &tag[1..tag.len() - 1])
    );
    assert_eq!((same.header("etag"), same.body.len()), (tag.as_str(), 0));
    publish(&broker, "b", 2).await;
    let moved = ask(&broker, "topic=a", &[("if-none-match", &tag)]).await;
    assert_eq!(moved.status, StatusCode::NOT_MODIFIED);
    assert_eq!(moved.header("pushpull-cursor"), at(&broker, 42).to_string());
    let by_query = ask(&broker, &format!("topic=a&after={}", at(&broker, 40)), &[]).await;
    assert_eq!((by_query.status, by_query.place()), (StatusCode::OK, at(&broker, 42)));
    publish(&broker, "a", 1).await;
    assert_eq!(ask(&broker, "topic=a", &[("if-none-match", &tag)]).await.seqs(), [43]);
}

#[tokio::test]
async fn a_quiet_poller_is_moved_before_anybody_forgets_and_told_no_false_gap() {
    let (unchanged, moved) = poll_quietly(100).await;
    assert!(unchanged > 100 && moved > 3, "{unchanged} unchanged, {moved} moved");
}

#[tokio::test]
async fn a_quiet_poller_is_moved_where_evidence_is_kept_for_less_than_events() {
    let (_, moved) = poll_quietly(4).await;
    assert!(moved > 100, "{moved} moved");
}

/// Polls a quiet pattern while others publish far beyond what is retained: how often the answer was a 304, and how
/// often a new place.
async fn poll_quietly(topics: usize) -> (u32, u32) {
    let broker = Broker::memory_with(Retention::default().with_messages(50).with_topics(topics));
    publish(&broker, "quiet.a", 1).await;
    let mut place = broker.place();
    let (mut unchanged, mut moved) = (0, 0);
    for round in 0..300 {
        publish(&broker, &format!("busy.t{round}"), 1).await;
        publish(&broker, "busy.all", 3).await;
        let tag = format!("\"{place}\"");
        let answered = ask(&broker, "topic=quiet.*", &[("if-none-match", &tag)]).await;
        match answered.status {
            StatusCode::NOT_MODIFIED => unchanged += 1,
            _ => {
                assert_eq!(answered.json()["events"], json!([]), "round {round}");
                assert!(answered.place().seq() > place.seq());
                (place, moved) = (answered.place(), moved + 1);
            }
        }
    }
    publish(&broker, "quiet.b", 1).await;
    let found = ask(&broker, "topic=quiet.*", &[("if-none-match", &format!("\"{place}\""))]).await;
    assert_eq!(found.seqs(), [broker.place().seq()]);
    assert_eq!(found.json()["events"].as_array().unwrap().len(), 1, "and no gap");
    (unchanged, moved)
}

#[tokio::test]
async fn a_limit_cuts_and_the_cursor_is_the_last_events() {
    let broker = Broker::memory();
    publish(&broker, "a", 5).await;
    publish(&broker, "b", 3).await;
    let mut place = at(&broker, 0);
    let mut pages = Vec::new();
    loop {
        let page = ask(&broker, &format!("topic=a&limit=2&after={place}"), &[]).await;
        place = page.place();
        pages.push((page.seqs(), place.seq(), page.json()["more"] == true));
        if page.json()["more"] == false {
            break;
        }
    }
    assert_eq!(pages, [(vec![1, 2], 2, true), (vec![3, 4], 4, true), (vec![5], 8, false)]);
}

#[tokio::test]
async fn an_answer_is_cut_by_its_own_size_not_the_payloads() {
    let broker = Broker::memory();
    // Six bytes of JSON for each byte of payload.
    let text = "\u{1}".repeat(200_000);
    for _ in 0..5 {
        broker.publish_one(&"a".parse().unwrap(), Message::text(text.clone())).await.unwrap();
    }
    let huge = "\u{1}".repeat(1 << 20);
    broker.publish_one(&"a".parse().unwrap(), Message::text(huge)).await.unwrap();
    let mut place = at(&broker, 0);
    for (expected, more) in [(vec![1, 2], true), (vec![3, 4], true), (vec![5], true), (vec![6], false)] {
        let page = ask(&broker, &format!("topic=a&after={place}"), &[]).await;
        assert_eq!((page.seqs(), page.json()["more"].as_bool()), (expected.clone(), Some(more)));
        assert!(page.body.len() <= MAX_PAGE || expected == [6]);
        place = page.place();
        assert_eq!(place.seq(), *expected.last().unwrap());
        assert_eq!(page.header("etag"), format!("\"{place}\""));
    }
}

#[tokio::test]
async fn a_snapshot_is_never_cut() {
    let broker = Broker::memory();
    let text = "\u{1}".repeat(200_000);
    for key in ["k1", "k2", "k3", "k4"] {
        let message = Message::text(text.clone()).with_key(key);
        broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    }
    let page = ask(&broker, "topic=a&start=snapshot&limit=1", &[]).await;
    assert_eq!((page.seqs(), page.json()["more"].as_bool()), (vec![1, 2, 3, 4], Some(false)));
    assert_eq!((page.json()["events"][0]["snapshot"].as_bool(), page.place()), (Some(true), at(&broker, 4)));
}

#[tokio::test]
async fn gaps_are_told_and_close_is_a_410_with_the_gap() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", 5).await;
    let [one, four] = [at(&broker, 1), at(&broker, 4)];
    let (after, before) = (one.to_string(), four.to_string());
    let gap = json!({"after": after, "before": before, "cursor": after, "reason": "evicted"});
    let told = ask(&broker, &format!("topic=a&after={one}&limit=1"), &[]).await;
    assert_eq!(told.json()["events"][0]["gap"], gap);
    assert_eq!(
        (told.seqs(), told.json()["more"].as_bool()),
        (vec![4], Some(true)),
        "no gap counts in the limit"
    );
    let gate = Gate::open();
    let closed = call(&broker, &gate, "GET", &format!("topic=a&overflow=close&after={one}"), &[]).await;
    assert_eq!(
        (closed.status, closed.header("content-type")),
        (StatusCode::GONE, "application/problem+json")
    );
    assert_eq!((&closed.json()["gap"], &closed.json()["status"]), (&gap, &json!(410)));
    assert!(closed.json()["type"].as_str().unwrap().ends_with("/lagged"));
    let ahead = ask(&broker, &format!("topic=a&after={}", at(&broker, 99)), &[]).await;
    assert_eq!(ahead.json()["events"][0]["gap"]["reason"], "reset");
    assert_eq!(ahead.seqs(), [4, 5]);
    let page = gate.metrics().render(Exposition::Prometheus, None);
    assert!(page.contains("pushpull_gaps_total{reason=\"evicted\"} 1\n"), "{page}");
}

#[tokio::test]
async fn a_place_that_only_matched_in_the_past_is_answered_in_full() {
    let broker = Broker::memory();
    publish(&broker, "a", 1).await;
    let answered = ask(&broker, "topic=a", &[("if-none-match", "\"unknown-7\"")]).await;
    assert_eq!((answered.status, answered.seqs()), (StatusCode::OK, vec![1]));
    assert_eq!(answered.json()["events"][0]["gap"]["reason"], "reset");
}

#[tokio::test]
async fn bad_requests_are_named() {
    let broker = Broker::memory();
    let gate = Gate::open();
    for (query, headers, parameter) in [
        ("", &[][..], "topic"),
        ("topic=a..b", &[], "topic"),
        ("topic=a&wait=1", &[], "wait"),
        ("topic=a&format=json", &[], "format"),
        ("topic=a&overflow=latest", &[], "overflow"),
        ("topic=a&limit=0", &[], "limit"),
        ("topic=a&limit=1001", &[], "limit"),
        ("topic=a&after=x", &[], "after"),
        ("topic=a&after=e-1&start=latest", &[], "start"),
        ("topic=a", &[("if-none-match", "*")], "If-None-Match"),
        ("topic=a", &[("if-none-match", "\"e-1\", \"e-2\"")], "If-None-Match"),
        ("topic=a", &[("if-none-match", "\"nonsense\"")], "If-None-Match"),
        ("topic=a", &[("if-none-match", "e-1")], "If-None-Match"),
    ] {
        let refused = call(&broker, &gate, "GET", query, headers).await;
        assert_eq!(
            (refused.status, &refused.json()["parameter"]),
            (StatusCode::BAD_REQUEST, &json!(parameter)),
            "{query}"
        );
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    let post = call(&broker, &gate, "POST", "topic=a", &[]).await;
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, "GET, HEAD, OPTIONS"));
    let page = gate.metrics().render(Exposition::Prometheus, None);
    assert!(page.contains("pushpull_rejected_total{reason=\"bad_request\"} 14\n"), "{page}");
    assert_eq!(gate.metrics().connections(Transport::Poll), 0, "nothing is left behind");
}

#[tokio::test]
async fn head_and_cors_and_counts() {
    let broker = Broker::memory();
    publish(&broker, "a", 3).await;
    let gate = Gate::builder().with_origin("https://app.example").build().unwrap();
    let query = "topic=a&start=earliest";
    let origin = [("origin", "https://app.example")];
    let got = call(&broker, &gate, "GET", query, &origin).await;
    let head = call(&broker, &gate, "HEAD", query, &origin).await;
    assert_eq!((head.status, head.body.len()), (got.status, 0));
    assert_eq!(head.header("content-length"), got.body.len().to_string());
    for name in ["etag", "content-type", "cache-control", "vary"] {
        assert_eq!(head.headers.get(name), got.headers.get(name), "{name}");
    }
    assert_eq!(got.header("access-control-allow-origin"), "https://app.example");
    assert!(got.header("access-control-expose-headers").contains("ETag"));
    let foreign = call(&broker, &gate, "GET", query, &[("origin", "https://evil.example")]).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    let page = gate.metrics().render(Exposition::Prometheus, None);
    assert!(
        page.contains("pushpull_delivered_total{transport=\"poll\"} 3\n"),
        "a HEAD delivers nothing: {page}"
    );
    gate.drain().begin();
    let late = call(&broker, &gate, "GET", query, &[]).await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(late.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn conflation_keeps_the_newest_of_each_key() {
    let broker = Broker::memory();
    for (topic, key) in [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")] {
        broker.publish_one(&topic.parse().unwrap(), Message::text("v").with_key(key)).await.unwrap();
    }
    let gate = Gate::open();
    let page = call(&broker, &gate, "GET", "topic=a&topic=b&start=earliest&conflate=key", &[]).await;
    assert_eq!(page.seqs(), [2, 3, 4]);
    let counted = gate.metrics().render(Exposition::Prometheus, None);
    assert!(counted.contains("pushpull_conflated_total 1\n"), "{counted}");
    assert!(page.json()["events"][1].get("prev").is_none(), "the one before it was left out");
    assert_eq!(page.json()["events"][2]["prev"], page.json()["events"][1]["cursor"]);
}
