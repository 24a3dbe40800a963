//! The server half over the broker, request by request, in paused time.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Context, Cursor, Identity, Message, Problem, ProducerExt};
use pushpull_http::{Action, Authorizer, Gate, Transport};
use pushpull_longpoll::LongpollService;
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tower_service::Service;

#[derive(Debug)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    took: Duration,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn seqs(&self) -> Vec<u64> {
        let page = self.json();
        let events = page["events"].as_array().unwrap().iter();
        events.map(|event| event["cursor"].as_str().unwrap().parse::<Cursor>().unwrap().seq()).collect()
    }

    fn place(&self) -> Cursor {
        self.json()["cursor"].as_str().unwrap().parse().unwrap()
    }
}

type Asking = Pin<Box<dyn Future<Output = Answered> + Send>>;

fn call(broker: &Broker, gate: &Gate, method: &str, query: &str, headers: &[(&str, &str)]) -> Asking {
    let mut request = Request::builder().method(method).uri(format!("/longpoll?{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut service = LongpollService::new(Arc::new(broker.clone()), gate.clone());
    let answer = service.call(request.body(()).unwrap());
    let begun = Instant::now();
    Box::pin(async move {
        let (head, body) = answer.await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answered { status: head.status, headers: head.headers, body, took: begun.elapsed() }
    })
}

fn ask(broker: &Broker, query: &str, headers: &[(&str, &str)]) -> Asking {
    call(broker, &Gate::open(), "GET", query, headers)
}

/// Begins to ask, and returns once it waits.
async fn waiting(asking: Asking, gate: &Gate, count: u64) -> JoinHandle<Answered> {
    let task = tokio::spawn(asking);
    while gate.metrics().connections(Transport::Longpoll) < count {
        tokio::task::yield_now().await;
    }
    // In paused time one more tick means that everything that can run has run.
    tokio::time::sleep(Duration::from_millis(1)).await;
    task
}

async fn publish(broker: &Broker, topic: &str, count: usize) {
    for _ in 0..count {
        broker.publish_one(&topic.parse().unwrap(), Message::json(&1).unwrap()).await.unwrap();
    }
}

fn at(broker: &Broker, seq: u64) -> Cursor {
    Cursor::new(broker.place().epoch(), seq)
}

#[tokio::test(start_paused = true)]
async fn the_first_event_ends_the_wait() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    publish(&broker, "a", 3).await;
    let polled = waiting(call(&broker, &gate, "GET", "topic=a", &[]), &gate, 1).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    publish(&broker, "b", 1).await;
    publish(&broker, "a", 1).await;
    let answered = polled.await.unwrap();
    assert_eq!((answered.status, answered.took.as_secs()), (StatusCode::OK, 7));
    assert_eq!((answered.seqs(), answered.place()), (vec![5], at(&broker, 5)));
    assert_eq!(answered.header("etag"), Some(&*format!("\"{}\"", at(&broker, 5))));
    assert_eq!(answered.header("cache-control"), Some("no-store"));
    assert_eq!(gate.metrics().connections(Transport::Longpoll), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_answered_at_once_up_to_the_limit() {
    let broker = Broker::memory();
    publish(&broker, "a", 3).await;
    let answered = ask(&broker, &format!("topic=a&limit=2&after={}", at(&broker, 0)), &[]).await;
    assert_eq!((answered.seqs(), answered.json()["more"].as_bool()), (vec![1, 2], Some(true)));
    assert_eq!((answered.place(), answered.took), (at(&broker, 2), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_wait_tells_the_place() {
    let broker = Broker::memory();
    publish(&broker, "a", 40).await;
    let tag = format!("\"{}\"", at(&broker, 40));
    let after = format!("topic=a&after={}", at(&broker, 40));
    for (query, headers, seconds, status) in [
        ("topic=a", &[][..], 25, 200),
        ("topic=a&wait=3", &[], 3, 200),
        ("topic=a&wait=0", &[], 0, 200),
        (&after, &[], 25, 200),
        ("topic=a", &[("if-none-match", &*tag)], 25, 304),
        ("topic=a&wait=60", &[("if-none-match", &*tag)], 60, 304),
    ] {
        let answered = ask(&broker, query, headers).await;
        assert_eq!((answered.took.as_secs(), answered.status.as_u16()), (seconds, status), "{query}");
        match status {
            304 => assert_eq!(answered.header("pushpull-cursor"), Some(&tag[1..tag.len() - 1])),
            _ => assert_eq!(
                answered.json(),
                json!({"events": [], "cursor": at(&broker, 40).to_string(), "more": false})
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_preferred_wait_is_applied_where_none_is_given() {
    let broker = Broker::memory();
    for (query, prefer, seconds, applied) in [
        ("topic=a", "wait=5", 5, Some("wait=5")),
        ("topic=a", "respond-async, wait=100", 60, Some("wait=60")),
        ("topic=a&wait=2", "wait=5", 2, None),
        ("topic=a", "wait=x", 25, None),
    ] {
        let answered = ask(&broker, query, &[("prefer", prefer)]).await;
        assert_eq!(answered.took.as_secs(), seconds, "{query} {prefer}");
        assert_eq!(answered.header("preference-applied"), applied, "{query} {prefer}");
        let vary: Vec<_> = answered.headers.get_all("vary").iter().collect();
        assert_eq!(vary.iter().any(|vary| *vary == "Prefer"), query == "topic=a", "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_place_is_moved_at_the_end_of_the_wait() {
    let broker = Broker::memory_with(Retention::default().with_messages(20));
    publish(&broker, "a", 1).await;
    let gate = Gate::open();
    let tag = format!("\"{}\"", broker.place());
    let asking = call(&broker, &gate, "GET", "topic=quiet", &[("if-none-match", &tag)]);
    let polled = waiting(asking, &gate, 1).await;
    publish(&broker, "a", 100).await;
    let answered = polled.await.unwrap();
    assert_eq!((answered.status, answered.took.as_secs()), (StatusCode::OK, 25));
    assert_eq!((answered.seqs(), answered.place()), (vec![], at(&broker, 101)));
}

#[tokio::test(start_paused = true)]
async fn overlapping_polls_with_one_cursor_all_get_the_event() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    publish(&broker, "a", 1).await;
    let query = format!("topic=a&after={}", at(&broker, 1));
    let mut polls = Vec::new();
    for count in 1..=20 {
        polls.push(waiting(call(&broker, &gate, "GET", &query, &[]), &gate, count).await);
    }
    publish(&broker, "a", 1).await;
    for poll in polls {
        assert_eq!(poll.await.unwrap().seqs(), [2]);
    }
    assert_eq!(ask(&broker, &query, &[]).await.seqs(), [2], "and whoever comes late");
}

#[tokio::test(start_paused = true)]
async fn a_drain_answers_the_waiting_at_once() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    publish(&broker, "a", 40).await;
    let tag = format!("\"{}\"", at(&broker, 40));
    let plain = waiting(call(&broker, &gate, "GET", "topic=a", &[]), &gate, 1).await;
    let tagged = waiting(call(&broker, &gate, "GET", "topic=a", &[("if-none-match", &tag)]), &gate, 2).await;
    publish(&broker, "b", 1).await;
    gate.drain().begin();
    let (plain, tagged) = (plain.await.unwrap(), tagged.await.unwrap());
    assert!(plain.took < Duration::from_secs(1) && tagged.took < Duration::from_secs(1));
    assert_eq!((plain.status, plain.seqs(), plain.place()), (StatusCode::OK, vec![], at(&broker, 41)));
    assert_eq!(tagged.status, StatusCode::NOT_MODIFIED);
    assert_eq!(tagged.header("pushpull-cursor"), Some(&*at(&broker, 41).to_string()));
    gate.drain().idle().await;
    let late = call(&broker, &gate, "GET", "topic=a", &[]).await;
    assert_eq!(late.status, StatusCode::SERVICE_UNAVAILABLE);
    let retry: u64 = late.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&retry), "a part of the default spread of 5 s, in whole seconds: {retry}");
}

#[tokio::test(start_paused = true)]
async fn head_does_not_wait_and_a_client_that_leaves_frees_its_place() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    let head = call(&broker, &gate, "HEAD", "topic=a", &[]).await;
    assert_eq!((head.status, head.took, head.body.len()), (StatusCode::OK, Duration::ZERO, 0));
    assert_eq!(head.header("etag"), Some(&*format!("\"{}\"", at(&broker, 0))));
    let poll = waiting(call(&broker, &gate, "GET", "topic=a", &[]), &gate, 1).await;
    poll.abort();
    assert!(poll.await.unwrap_err().is_cancelled());
    assert_eq!(gate.metrics().connections(Transport::Longpoll), 0);
    gate.drain().begin();
    gate.drain().idle().await;
}

#[tokio::test(start_paused = true)]
async fn overflow_close_is_a_410_also_after_a_wait() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", 5).await;
    let query = format!("topic=a&overflow=close&after={}", at(&broker, 1));
    let closed = ask(&broker, &query, &[]).await;
    assert_eq!((closed.status, closed.took), (StatusCode::GONE, Duration::ZERO));
    assert_eq!(closed.json()["gap"]["before"], at(&broker, 4).to_string());
    let gate = Gate::open();
    let asking = call(&broker, &gate, "GET", "topic=a&overflow=close", &[]);
    let poll = waiting(asking, &gate, 1).await;
    publish(&broker, "a", 5).await;
    let closed = poll.await.unwrap();
    assert_eq!((closed.status, &closed.json()["gap"]["reason"]), (StatusCode::GONE, &json!("lagged")));
}

/// Lets nobody in before it is told to, and lets each go after 10 s.
struct Slow(Arc<Notify>);

#[async_trait]
impl Authorizer for Slow {
    async fn identify(&self, _: Option<&str>, cx: Context) -> Result<Context, Problem> {
        self.0.notified().await;
        Ok(cx.with_identity(Identity::new("me").until(Instant::now() + Duration::from_secs(10))))
    }

    async fn authorize(&self, _: &Context, _: Action<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_counts_from_the_moment_it_arrived_and_ends_with_its_identity() {
    let broker = Broker::memory();
    let door = Arc::new(Notify::new());
    let gate = Gate::builder().with_authorizer(Slow(door.clone())).build().unwrap();
    publish(&broker, "a", 3).await;
    for query in ["topic=a", "topic=a&wait=0"] {
        let before = broker.place();
        let poll = tokio::spawn(call(&broker, &gate, "GET", query, &[]));
        tokio::time::sleep(Duration::from_secs(1)).await;
        publish(&broker, "a", 1).await;
        door.notify_one();
        assert_eq!(poll.await.unwrap().seqs(), [before.seq() + 1], "published while it was let in");
    }
    door.notify_one();
    let expired = call(&broker, &gate, "GET", "topic=a&wait=60", &[]).await;
    assert_eq!((expired.status, expired.took.as_secs()), (StatusCode::UNAUTHORIZED, 10));
    assert!(expired.header("www-authenticate").unwrap().starts_with("Bearer"));
    assert!(expired.json()["type"].as_str().unwrap().ends_with("/unauthenticated"));
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_named() {
    let broker = Broker::memory();
    for (query, headers, parameter) in [
        ("topic=a&wait=61", &[][..], "wait"),
        ("topic=a&wait=1.5", &[], "wait"),
        ("topic=a&rate=1", &[], "rate"),
        ("topic=a&overflow=latest", &[], "overflow"),
        ("topic=a", &[("if-none-match", "*")], "If-None-Match"),
        ("topic=a", &[("if-none-match", "\"bad\"")], "If-None-Match"),
    ] {
        let refused = ask(&broker, query, headers).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!((&refused.json()["parameter"], refused.took), (&json!(parameter), Duration::ZERO));
    }
}

#[tokio::test]
async fn a_poll_that_waits_is_small() {
    let mut service = LongpollService::new(Arc::new(Broker::memory()), Gate::open());
    let waiting = size_of_val(&*service.call(Request::new(())));
    assert!(waiting <= 384, "a waiting poll has a future of {waiting} bytes");
}
