use std::{convert::Infallible, time::Duration};

use async_trait::async_trait;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Context as CallContext, Fetch, Identity, Message, ProducerExt, PublishError, Published, Start, Subscribe,
};
use serde_json::{Value, json};

use super::*;
use crate::{Action, Authorizer, Exposition};

const JSON: (&str, &str) = ("content-type", "application/json");
const TEXT: (&str, &str) = ("content-type", "text/plain");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

/// URI, headers, body; the status and the parameter at fault of the answer.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'static [u8], u16, &'a str);

struct Answered {
    status: u16,
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
}

fn over(broker: &Broker, gate: Gate) -> TopicService {
    let source = Arc::new(broker.clone());
    TopicService::new(gate).with_producer(source.clone()).with_pull(source)
}

async fn send<B>(
    service: &TopicService,
    (method, uri): (&str, &str),
    headers: &[(&str, &str)],
    body: B,
) -> Answered
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().call(request.body(body).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answered { status: head.status.as_u16(), headers: head.headers, body }
}

async fn post(service: &TopicService, uri: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Answered {
    send(service, ("POST", uri), headers, Full::new(Bytes::from_static(body))).await
}

async fn get(service: &TopicService, uri: &str, headers: &[(&str, &str)]) -> Answered {
    send(service, ("GET", uri), headers, Full::new(Bytes::new())).await
}

/// A body whose length is not known before its end.
fn chunked(sizes: &[usize]) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let frames: Vec<_> = sizes.iter().map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; *size])))).collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

#[tokio::test]
async fn a_publish_is_acknowledged_with_its_cursor_and_read_back() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::open());
    let headers = [JSON, ("pushpull-event", "trade"), ("pushpull-key", "k%20%C3%A4")];
    let created = post(&service, "/topics/quotes.AAPL", &headers, b"{\"px\":\n1}").await;
    assert_eq!((created.status, created.json()), (201, json!({"cursor": broker.place().to_string()})));
    let read = get(&service, "/topics/quotes.AAPL", &[]).await;
    assert_eq!((read.status, &read.body[..]), (200, &b"{\"px\": 1}"[..]));
    assert_eq!(read.header("content-type"), "application/json");
    assert_eq!(read.header("etag"), format!("\"{}\"", broker.place()));
    assert_eq!((read.header("pushpull-event"), read.header("pushpull-key")), ("trade", "k%20%C3%A4"));
    assert!(httpdate::parse_http_date(read.header("last-modified")).is_ok());
}

#[tokio::test]
async fn what_is_left_out_has_its_default() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::open());
    let empty = [("pushpull-event", ""), ("pushpull-key", ""), ("idempotency-key", ""), ("content-type", "")];
    for headers in [&[][..], &empty] {
        assert_eq!(post(&service, "/topics/a", headers, b"\xff").await.status, 201);
        let read = get(&service, "/topics/a", &[]).await;
        assert_eq!((read.header("content-type"), &read.body[..]), ("application/octet-stream", &b"\xff"[..]));
        assert!(!read.headers.contains_key("pushpull-event") && !read.headers.contains_key("pushpull-key"));
    }
    assert_eq!(post(&service, "/topics/a", &[TEXT], b"").await.status, 201, "an empty payload is one");
}

#[tokio::test]
async fn every_error_of_a_publish_has_its_status_its_parameter_and_nothing_applied() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_max_payload(16).build().unwrap();
    let service = over(&broker, gate.clone());
    let long = "k".repeat(256);
    let rows: &[Row<'_>] = &[
        ("/topics/a..b", &[TEXT], b"x", 400, "topic"),
        ("/topics/a.*", &[TEXT], b"x", 400, "topic"),
        ("/topics/a.%3E", &[TEXT], b"x", 400, "topic"),
        ("/topics/", &[TEXT], b"x", 400, "topic"),
        ("/topics/%FF", &[TEXT], b"x", 400, "topic"),
        ("/topics/a?unknown=1", &[TEXT], b"x", 400, "unknown"),
        ("/topics/a?limit=1", &[TEXT], b"x", 400, "limit"),
        ("/topics/a?batch=csv", &[LINES], b"1", 400, "batch"),
        ("/topics/a?batch=ndjson", &[LINES], b"\r\n\n \n", 400, "payload"),
        ("/topics/a?batch=ndjson", &[LINES], b"1\n{\n", 400, "payload"),
        ("/topics/a?batch=ndjson", &[JSON], b"1", 415, "Content-Type"),
        ("/topics/a?batch=ndjson", &[], b"1", 415, "Content-Type"),
        ("/topics/a?batch=ndjson", &[LINES], b"123456789012345678", 413, ""),
        ("/topics/a", &[JSON], b"{", 400, "payload"),
        ("/topics/a", &[JSON], b"", 400, "payload"),
        ("/topics/a", &[TEXT], b"\xff", 400, "payload"),
        ("/topics/a", &[("content-type", "text")], b"x", 400, "Content-Type"),
        ("/topics/a", &[TEXT, TEXT], b"x", 400, "Content-Type"),
        ("/topics/a", &[("pushpull-event", "error")], b"x", 400, "Pushpull-Event"),
        ("/topics/a", &[("pushpull-event", "pushpull-x")], b"x", 400, "Pushpull-Event"),
        ("/topics/a", &[("pushpull-event", "a%0Ab")], b"x", 400, "Pushpull-Event"),
        ("/topics/a", &[("pushpull-event", "%FF")], b"x", 400, "Pushpull-Event"),
        ("/topics/a", &[("pushpull-key", &long)], b"x", 400, "Pushpull-Key"),
        ("/topics/a", &[("pushpull-key", "a"), ("pushpull-key", "b")], b"x", 400, "Pushpull-Key"),
        ("/topics/a", &[("idempotency-key", &long)], b"x", 400, "Idempotency-Key"),
        ("/topics/a", &[TEXT], b"12345678901234567", 413, ""),
    ];
    for (uri, headers, body, status, parameter) in rows {
        let refused = post(&service, uri, headers, body).await;
        let problem = refused.json();
        assert_eq!(refused.status, *status, "{uri} {headers:?}: {problem}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(
            (&problem["status"], &problem["outcome"]),
            (&json!(status), &json!("not-applied")),
            "{uri}"
        );
        let named = problem["parameter"].as_str().unwrap_or_default();
        assert_eq!(named, *parameter, "{uri} {headers:?}: {problem}");
    }
    assert_eq!(broker.place().seq(), 0, "nothing was published");
    let page = gate.metrics().render(Exposition::Prometheus, None);
    assert!(page.contains("pushpull_rejected_total{reason=\"too_large\"} 2\n"), "{page}");
    assert!(page.contains(&format!("{{reason=\"bad_request\"}} {}\n", rows.len() - 2)), "{page}");
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_also_when_chunked() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::builder().with_max_payload(16).build().unwrap());
    for (sizes, status) in [(&[8, 8][..], 201), (&[8, 8, 1], 413), (&[100_000], 413)] {
        let answered = send(&service, ("POST", "/topics/a"), &[TEXT], chunked(sizes)).await;
        assert_eq!(answered.status, status, "{sizes:?}");
    }
    let lines = |sizes: &[usize]| {
        let text: Vec<_> = sizes.iter().map(|size| format!("\"{}\"\n", "x".repeat(size - 2))).collect();
        Full::new(Bytes::from(text.concat()))
    };
    for (sizes, status) in [(&[16; 15][..], 201), (&[16; 16], 413), (&[17], 413)] {
        let answered = send(&service, ("POST", "/topics/a?batch=ndjson"), &[LINES], lines(sizes)).await;
        assert_eq!(answered.status, status, "{} lines of {}", sizes.len(), sizes[0]);
    }
    assert_eq!(broker.place().seq(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::builder().with_body_time(Duration::from_secs(3)).build().unwrap());
    let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let begun = tokio::time::Instant::now();
    let answered = send(&service, ("POST", "/topics/a"), &[TEXT], never).await;
    assert_eq!((answered.status, &answered.json()["outcome"]), (408, &json!("not-applied")));
    assert!((3..10).contains(&begun.elapsed().as_secs()));
}

#[tokio::test]
async fn lines_are_published_all_or_none() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::open());
    let headers = [("content-type", "Application/X-NDJSON; charset=utf-8"), ("pushpull-key", "k")];
    let created = post(&service, "/topics/a?batch=ndjson", &headers, b"1\r\n\n{\"a\":2}\n \n3").await;
    let epoch = broker.place().epoch();
    let expected = json!({"first": format!("{epoch}-1"), "last": format!("{epoch}-3"), "count": 3});
    assert_eq!((created.status, created.json()), (201, expected));
    let refused = post(&service, "/topics/a?batch=ndjson", &[LINES], b"4\n5\nsix").await;
    assert_eq!((refused.status, broker.place().seq()), (400, 3));
    let read = broker.fetch(&CallContext::default(), Fetch::like(&all("a"))).await.unwrap();
    let events = read.deliveries.into_iter().filter_map(pushpull_core::Delivery::into_event);
    let payloads: Vec<_> = events
        .map(|event| {
            assert_eq!((event.content_type(), event.key()), ("application/json", Some("k")));
            event.payload().clone()
        })
        .collect();
    assert_eq!(payloads, ["1", "{\"a\":2}", "3"]);
}

#[tokio::test]
async fn a_batch_has_at_most_100_000_lines() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::open());
    for (lines, status) in [(100_000, 201), (100_001, 413)] {
        let body = "1\n".repeat(lines).leak().as_bytes();
        let answered = post(&service, "/topics/a?batch=ndjson", &[LINES], body).await;
        assert_eq!((answered.status, broker.place().seq()), (status, 100_000), "{lines}");
    }
}

fn all(topic: &str) -> Subscribe {
    Subscribe::to(topic).unwrap().from(Start::Earliest)
}

#[tokio::test]
async fn an_idempotency_key_gives_the_first_answer_and_another_payload_is_422() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::open());
    let id = [TEXT, ("idempotency-key", "once")];
    let [first, again] =
        [post(&service, "/topics/a", &id, b"x").await, post(&service, "/topics/a", &id, b"x").await];
    assert_eq!((first.status, again.status, first.json()), (201, 201, again.json()));
    let other = post(&service, "/topics/a", &id, b"y").await;
    assert_eq!((other.status, &other.json()["outcome"]), (422, &json!("not-applied")));
    assert!(other.json()["type"].as_str().unwrap().ends_with("/idempotency-conflict"));
    assert_eq!(post(&service, "/topics/b", &id, b"y").await.status, 201, "each topic has its own");
    let bad = [JSON, ("idempotency-key", "twice")];
    assert_eq!(post(&service, "/topics/a", &bad, b"{").await.status, 400);
    assert_eq!(post(&service, "/topics/a", &bad, b"{}").await.status, 201, "a refused one uses no key up");
    assert_eq!(broker.place().seq(), 3);
}

#[tokio::test]
async fn a_full_window_is_429_with_a_delay() {
    let broker = Broker::memory_with(Retention::default().with_idempotency(Duration::from_secs(60), 1));
    let service = over(&broker, Gate::open());
    let with = |id| [TEXT, ("idempotency-key", id)];
    assert_eq!(post(&service, "/topics/a", &with("1"), b"x").await.status, 201);
    let refused = post(&service, "/topics/a", &with("2"), b"x").await;
    assert_eq!((refused.status, &refused.json()["outcome"]), (429, &json!("not-applied")));
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
}

struct Failing(PublishError);

#[async_trait]
impl Producer for Failing {
    async fn publish(&self, _: &CallContext, _: &Topic, _: &[Message]) -> Result<Published, PublishError> {
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn what_the_engine_says_is_passed_on() {
    let down = || Problem::new(ErrorKind::Unavailable, "down").with_retry(Duration::from_secs(7));
    for (error, status, outcome, retry) in [
        (PublishError::not_applied(down()), 503, "not-applied", "7"),
        (PublishError::unknown(down()), 503, "unknown", "7"),
        (PublishError::unknown(Problem::new(ErrorKind::Timeout, "x")), 504, "unknown", ""),
        (PublishError::not_applied(Problem::new(ErrorKind::Unsupported, "x")), 501, "not-applied", ""),
        (PublishError::unknown(Problem::new(ErrorKind::Internal, "x")), 500, "unknown", ""),
    ] {
        let service = TopicService::new(Gate::open()).with_producer(Arc::new(Failing(error)));
        let refused = post(&service, "/topics/a", &[TEXT], b"x").await;
        assert_eq!((refused.status, &refused.json()["outcome"]), (status, &json!(outcome)));
        assert_eq!(refused.header("retry-after"), retry);
    }
    let gate = Gate::open();
    gate.drain().begin();
    let refused = post(&TopicService::new(gate), "/topics/a", &[TEXT], b"x").await;
    assert_eq!((refused.status, &refused.json()["outcome"]), (503, &json!("not-applied")));
    assert!(!refused.header("retry-after").is_empty());
    let nothing = TopicService::new(Gate::open());
    assert_eq!(post(&nothing, "/topics/a", &[TEXT], b"x").await.status, 501);
    assert_eq!(get(&nothing, "/topics/a", &[]).await.status, 501);
}

/// Knows one token, whose bearer may publish to `a` and read `b`.
struct Keeper;

#[async_trait]
impl Authorizer for Keeper {
    async fn identify(&self, token: Option<&str>, cx: CallContext) -> Result<CallContext, Problem> {
        match token {
            Some("me") => Ok(cx.with_identity(Identity::new("me"))),
            _ => Err(Problem::new(ErrorKind::Unauthenticated, "who?")),
        }
    }

    async fn authorize(&self, _: &CallContext, action: Action<'_>) -> Result<(), Problem> {
        match action.to_string().as_str() {
            "publish to a" | "subscribe to b" => Ok(()),
            _ => Err(Problem::new(ErrorKind::Forbidden, "not you")),
        }
    }
}

#[tokio::test]
async fn who_may_publish_and_read_is_asked_for_each_topic() {
    let broker = Broker::memory();
    broker.publish_one(&"b".parse().unwrap(), Message::text("x")).await.unwrap();
    let gate = Gate::builder().with_authorizer(Keeper).build().unwrap();
    let service = over(&broker, gate);
    let me = ("authorization", "Bearer me");
    for (uri, headers, status) in [
        ("/topics/a", &[TEXT][..], 401),
        ("/topics/a", &[TEXT, ("authorization", "Bearer you")], 401),
        ("/topics/a", &[TEXT, me], 201),
        ("/topics/a?access_token=me", &[TEXT], 201),
        ("/topics/b", &[TEXT, me], 403),
        ("/topics/a", &[TEXT, me, ("origin", "http://evil.example")], 403),
    ] {
        let answered = post(&service, uri, headers, b"x").await;
        assert_eq!(answered.status, status, "{uri} {headers:?}");
        if status != 201 {
            assert_eq!(answered.json()["outcome"], "not-applied");
        }
    }
    for (uri, headers, status) in
        [("/topics/a", &[me][..], 403), ("/topics/b", &[me], 200), ("/topics/b", &[], 401)]
    {
        assert_eq!(get(&service, uri, headers).await.status, status, "{uri}");
    }
}

#[tokio::test]
async fn the_newest_event_is_read_under_conditions() {
    let broker = Broker::memory();
    let service = over(&broker, Gate::open()).with_paths(Paths::under("/live"));
    let missing = get(&service, "/live/topics/a", &[]).await;
    assert_eq!((missing.status, missing.header("content-type")), (404, "application/problem+json"));
    assert!(missing.json().get("outcome").is_none());
    for text in ["one", "two"] {
        broker.publish_one(&"a".parse().unwrap(), Message::text(text)).await.unwrap();
    }
    let tag = format!("\"{}\"", broker.place());
    let weak = format!("\"x\", W/{tag}");
    for (header, status) in [
        (("accept", "*/*"), 200),
        (("if-none-match", &*tag), 304),
        (("if-none-match", &weak), 304),
        (("if-none-match", "*"), 304),
        (("if-none-match", "\"x\""), 200),
    ] {
        let read = get(&service, "/live/topics/a", &[header]).await;
        assert_eq!((read.status, read.header("etag")), (status, &*tag), "{header:?}");
        assert_eq!(&read.body[..], if status == 200 { &b"two"[..] } else { b"" });
    }
    let head = send(&service, ("HEAD", "/live/topics/a"), &[], Full::new(Bytes::new())).await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, "3"));
    assert_eq!((head.header("etag"), head.header("content-type")), (&*tag, "text/plain; charset=utf-8"));
    for (method, status) in [("PUT", 405), ("DELETE", 405), ("OPTIONS", 204), ("BREW", 501)] {
        let answered = send(&service, (method, "/live/topics/a"), &[], Full::new(Bytes::new())).await;
        assert_eq!(answered.status, status, "{method}");
    }
    for (uri, parameter) in [("/live/topics/a?limit=1", "limit"), ("/live/topics/a.*", "topic")] {
        let refused = get(&service, uri, &[]).await;
        assert_eq!((refused.status, &refused.json()["parameter"]), (400, &json!(parameter)));
    }
}
