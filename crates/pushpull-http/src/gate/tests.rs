use std::{net::SocketAddr, sync::Mutex};

use async_trait::async_trait;
use http::{Request, header};
use http_body_util::BodyExt;
use pushpull_core::{Identity, Retry};
use serde_json::Value;
use tokio::time::Instant;

use super::*;
use crate::{Exposition, Transport};

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn get(uri: &str) -> Parts {
    parts("GET", uri, &[])
}

async fn problem(response: Response<Body>) -> (u16, String, Value) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let members: Value = serde_json::from_slice(&body).unwrap();
    let slug = members["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    (status, slug, members)
}

async fn refused(gate: &Gate, request: &Parts, endpoint: Endpoint) -> Response<Body> {
    match gate.enter(request, endpoint).await {
        Ok(_) => panic!("{} was let in", request.uri),
        Err(response) => response,
    }
}

/// Lets the bearer of `<name>:<seconds>` subscribe to what begins with that name; notes what it was asked.
#[derive(Default)]
struct ByName {
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Authorizer for ByName {
    async fn identify(&self, token: Option<&str>, cx: Context) -> Result<Context, Problem> {
        self.asked.lock().unwrap().push(format!("who {}", token.unwrap_or("-")));
        let parsed = token.and_then(|token| token.split_once(':'));
        let (name, seconds) = parsed.ok_or_else(|| Problem::new(ErrorKind::Unauthenticated, "no"))?;
        let ends = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
        Ok(cx.with_identity(Identity::new(name).until(ends)))
    }

    async fn authorize(&self, cx: &Context, action: Action<'_>) -> Result<(), Problem> {
        self.asked.lock().unwrap().push(action.to_string());
        let name = cx.identity.as_ref().unwrap().subject.clone();
        let granted = match action {
            Action::Subscribe(pattern) => pattern.as_str().starts_with(&*name),
            Action::Publish(topic) => topic.as_str().starts_with(&*name),
        };
        if granted { Ok(()) } else { Err(Problem::new(ErrorKind::Forbidden, "not yours")) }
    }
}

#[tokio::test]
async fn what_is_asked_comes_through() {
    let mut request = get("/sse?topic=a&start=last");
    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    request.extensions.insert(Peer(peer));
    let entry = Gate::open().enter(&request, Endpoint::Sse).await.unwrap();
    assert_eq!((entry.cx.peer, entry.cx.identity.is_none(), entry.is_head()), (Some(peer), true, false));
    assert_eq!(entry.query.topics.unwrap().single().unwrap().as_str(), "a");
}

#[tokio::test]
async fn a_context_from_outside_is_kept() {
    let mut request = get("/sse?topic=a");
    let near: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut cx = Context::default().with_peer(near).with_identity(Identity::new("ann"));
    cx.extensions.insert(7u8);
    request.extensions.insert(cx);
    request.extensions.insert(Peer("127.0.0.1:2".parse().unwrap()));
    let entry = Gate::open().enter(&request, Endpoint::Sse).await.unwrap();
    assert_eq!((entry.cx.peer, &*entry.cx.identity.unwrap().subject), (Some(near), "ann"));
    assert_eq!(entry.cx.extensions.get::<u8>(), Some(&7));
}

#[tokio::test]
async fn only_the_methods_of_the_path_are_taken() {
    use Endpoint::*;
    for (endpoint, allow) in [
        (WsRaw, "GET, CONNECT, OPTIONS"),
        (WsSubprotocol, "GET, CONNECT, OPTIONS"),
        (Sse, "GET, HEAD, OPTIONS"),
        (Longpoll, "GET, HEAD, OPTIONS"),
        (Poll, "GET, HEAD, OPTIONS"),
        (Latest, "GET, HEAD, POST, OPTIONS"),
        (Webhooks, "GET, HEAD, POST, DELETE, OPTIONS"),
    ] {
        let raw = if matches!(endpoint, Latest | Webhooks) { "/x" } else { "/x?topic=a" };
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "CONNECT"] {
            let request = parts(method, raw, &[]);
            if allow.split(", ").any(|allowed| allowed == method) {
                assert!(Gate::open().enter(&request, endpoint).await.is_ok(), "{method} {endpoint:?}");
                continue;
            }
            let response = refused(&Gate::open(), &request, endpoint).await;
            assert_eq!(response.headers()[header::ALLOW], allow);
            if method == "HEAD" {
                assert_eq!(response.status(), 405);
                continue;
            }
            let expected = if method == "get" { (501, "unsupported") } else { (405, "bad-request") };
            let (status, slug, _) = problem(response).await;
            assert_eq!((status, &*slug), expected, "{method} {endpoint:?}");
        }
        let unknown = refused(&Gate::open(), &parts("BREW", raw, &[]), endpoint).await;
        assert_eq!(unknown.status(), 501);
    }
}

#[tokio::test]
async fn refusals_come_in_their_order() {
    let gate = Gate::builder().with_authorizer(ByName::default()).with_max_connections(1).build().unwrap();
    let worst = |uri: &str| parts("GET", uri, &[("host", "a.test"), ("origin", "http://evil.test")]);
    let status =
        async |gate: &Gate, request: Parts| problem(refused(gate, &request, Endpoint::Sse).await).await;
    let held = gate.enter(&get("/sse?topic=a&access_token=a:9"), Endpoint::Sse).await.unwrap();
    let (code, slug, _) = status(&gate, worst("/sse")).await;
    assert_eq!((code, &*slug), (503, "overloaded"), "the limit comes before the origin");
    drop(held);
    let (code, slug, _) = status(&gate, worst("/sse")).await;
    assert_eq!((code, &*slug), (403, "forbidden"), "the origin before the query");
    let (code, slug, members) = status(&gate, get("/sse?topic=b&limit=5")).await;
    assert_eq!((code, &*slug, &members["parameter"]), (400, "bad-request", &Value::from("limit")));
    let (code, slug, _) = status(&gate, get("/sse?topic=b")).await;
    assert_eq!((code, &*slug), (401, "unauthenticated"), "who asks before what");
    let (code, slug, _) = status(&gate, get("/sse?topic=b&access_token=a:9")).await;
    assert_eq!((code, &*slug), (403, "forbidden"));
    gate.drain().begin();
    let (code, slug, _) = status(&gate, worst("/sse")).await;
    assert_eq!((code, &*slug), (503, "unavailable"), "draining before all");
    let counted = gate.metrics().render(Exposition::Prometheus, None);
    for line in [
        "full\"} 1",
        "origin\"} 1",
        "bad_request\"} 1",
        "unauthenticated\"} 1",
        "forbidden\"} 1",
        "draining\"} 1",
        "other\"} 0",
    ] {
        assert!(
            counted.contains(&format!("pushpull_rejected_total{{reason=\"{line}\n")),
            "{line}\n{counted}"
        );
    }
}

#[tokio::test]
async fn connections_are_counted_and_limited_together() {
    let gate = Gate::builder().with_max_connections(2).build().unwrap();
    let sse = gate.enter(&get("/sse?topic=a"), Endpoint::Sse).await.unwrap();
    let ws = gate.enter(&get("/ws?topic=a"), Endpoint::WsRaw).await.unwrap();
    assert_eq!(sse.guard.as_ref().map(ConnectionGuard::transport), Some(Transport::Sse));
    assert_eq!(
        (gate.metrics().connections(Transport::Sse), gate.metrics().connections(Transport::Ws)),
        (1, 1)
    );
    assert!(gate.is_full());
    let refusal = gate.enter_or_problem(&get("/longpoll?topic=a"), Endpoint::Longpoll).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.problem.kind()), (RefusalKind::Full, ErrorKind::Busy));
    assert!(refusal.retry().is_some_and(|delay| (500..=5000).contains(&delay.as_millis())));
    assert!(gate.enter(&get("/topics/a"), Endpoint::Latest).await.unwrap().guard.is_none());
    assert!(gate.enter(&parts("POST", "/topics/a", &[]), Endpoint::Publish).await.is_ok());
    drop(ws);
    assert!(gate.enter_or_problem(&get("/sse?limit=1"), Endpoint::Sse).await.is_err(), "a bad request");
    assert!(!gate.is_full(), "a refused request gives its place back");
    drop(sse);
    assert_eq!(
        (gate.metrics().connections(Transport::Sse), gate.metrics().connections(Transport::Ws)),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_those_inside() {
    let gate = Gate::open();
    let inside = gate.enter(&get("/sse?topic=a"), Endpoint::Sse).await.unwrap();
    let refusal = {
        gate.drain().begin();
        gate.enter_or_problem(&get("/sse?topic=a"), Endpoint::Sse).await.unwrap_err()
    };
    assert_eq!(
        (refusal.kind, matches!(refusal.problem.retry(), Retry::After(_))),
        (RefusalKind::Draining, true)
    );
    let ended = tokio::spawn({
        let drain = gate.drain().clone();
        async move { drain.finish(Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    assert!(!ended.is_finished());
    drop(inside);
    assert!(ended.await.unwrap());
}

#[tokio::test]
async fn tokens_come_by_header_or_by_query_but_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::builder().with_authorizer(ByName { asked: asked.clone() }).build().unwrap();
    for (uri, authorization, who) in [
        ("/sse?topic=a", Some("Bearer a:9"), "who a:9"),
        ("/sse?topic=a", Some("bEARER   a:9 "), "who a:9"),
        ("/sse?topic=a&access_token=a:9", None, "who a:9"),
        ("/sse?topic=a&access_token=a:9", Some("Basic YTpi"), "who a:9"),
        ("/sse?topic=a", Some("Basic YTpi"), "who -"),
        ("/sse?topic=a", Some("Bearer"), "who -"),
        ("/sse?topic=a", Some("Bearer "), "who -"),
        ("/sse?topic=a", None, "who -"),
    ] {
        asked.lock().unwrap().clear();
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
        let entered = gate.enter(&parts("GET", uri, &headers), Endpoint::Sse).await;
        assert_eq!(asked.lock().unwrap()[0], who, "{uri} {authorization:?}");
        assert_eq!(entered.is_ok(), who != "who -");
    }
    let both = parts("GET", "/sse?topic=a&access_token=a:9", &[("authorization", "Bearer a:9")]);
    assert_eq!(problem(refused(&gate, &both, Endpoint::Sse).await).await.2["parameter"], "access_token");
    let twice =
        parts("GET", "/sse?topic=a", &[("authorization", "Bearer a:9"), ("authorization", "Bearer b:9")]);
    assert_eq!(problem(refused(&gate, &twice, Endpoint::Sse).await).await.2["parameter"], "Authorization");
}

#[tokio::test]
async fn a_challenge_says_whether_a_token_was_bad() {
    let gate = Gate::builder().with_authorizer(ByName::default()).build().unwrap();
    for (uri, expected) in [
        ("/sse?topic=a", "Bearer realm=\"pushpull\""),
        ("/sse?topic=a&access_token=x", "Bearer realm=\"pushpull\", error=\"invalid_token\""),
    ] {
        let response = refused(&gate, &get(uri), Endpoint::Sse).await;
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], expected);
    }
}

#[tokio::test]
async fn every_topic_is_asked_for() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::builder().with_authorizer(ByName { asked: asked.clone() }).build().unwrap();
    let uri = "/sse?topic=a&topic=ab.*&topic=b&topic=ac&access_token=a:9";
    assert_eq!(refused(&gate, &get(uri), Endpoint::Sse).await.status(), 403);
    assert_eq!(*asked.lock().unwrap(), ["who a:9", "subscribe to a", "subscribe to ab.*", "subscribe to b"]);
}

#[tokio::test(start_paused = true)]
async fn an_identity_ends() {
    let gate = Gate::builder().with_authorizer(ByName::default()).build().unwrap();
    let entry = gate.enter(&get("/sse?topic=a&access_token=a:30"), Endpoint::Sse).await.unwrap();
    let topic = "a.b".parse().unwrap();
    assert!(gate.authorize(&entry.cx, Action::Publish(&topic)).await.is_ok());
    let start = Instant::now();
    entry.expired().await;
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    let refused = gate.authorize(&entry.cx, Action::Publish(&topic)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    let forever = tokio::time::timeout(Duration::from_secs(1_000_000), expired(&Context::default())).await;
    assert!(forever.is_err());
}

#[tokio::test]
async fn answers_to_browsers_bear_their_origin_errors_too() {
    let gate = Gate::builder().with_origin("https://app.example").build().unwrap();
    let from =
        |origin: &'static str, uri: &str| parts("GET", uri, &[("host", "hub.test"), ("origin", origin)]);
    let exposed = "ETag, Retry-After, Preference-Applied, Pushpull-Cursor, Pushpull-Event, Pushpull-Key";
    let entry = gate.enter(&from("https://app.example", "/sse?topic=a"), Endpoint::Sse).await.unwrap();
    for response in [
        entry.finish(Response::new(Body::full("x"))),
        refused(&gate, &from("https://app.example", "/sse"), Endpoint::Sse).await,
        refused(&gate, &parts("PUT", "/", &[("origin", "https://app.example")]), Endpoint::Latest).await,
    ] {
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
        assert_eq!(response.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS], exposed);
        assert_eq!(response.headers()[header::VARY], "Origin");
    }
    for (origin, endpoint) in
        [("https://evil.test", Endpoint::Sse), ("null", Endpoint::Latest), ("null", Endpoint::Publish)]
    {
        let method = if endpoint == Endpoint::Publish { "POST" } else { "GET" };
        let request = parts(method, "/x?topic=a", &[("host", "hub.test"), ("origin", origin)]);
        let response = refused(&gate, &request, endpoint).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::VARY]),
            (403, &HeaderValue::from_static("Origin"))
        );
        assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
    let plain = gate.enter(&get("/sse?topic=a"), Endpoint::Sse).await.unwrap();
    let response = plain.finish(Response::new(Body::empty()));
    assert_eq!(
        (response.headers().len(), &response.headers()[header::VARY]),
        (1, &HeaderValue::from_static("Origin"))
    );
}

#[tokio::test]
async fn a_preflight_is_answered_without_asking_who() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::builder()
        .with_authorizer(ByName { asked: asked.clone() })
        .with_origin("https://app.example")
        .with_cors_age(Duration::from_secs(60))
        .build()
        .unwrap();
    gate.drain().begin();
    let preflight = |origin: &'static str| {
        let headers = [
            ("host", "hub.test"),
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization, x-other"),
        ];
        parts("OPTIONS", "/topics/a?junk=1", &headers)
    };
    let refusal =
        gate.enter_or_problem(&preflight("https://app.example"), Endpoint::Latest).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Answered);
    let response = refusal.into_response();
    assert_eq!(response.status(), 204);
    for (name, expected) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "GET, HEAD, POST, OPTIONS"),
        (
            "access-control-allow-headers",
            "Authorization, Content-Type, If-None-Match, Last-Event-ID, Prefer, Idempotency-Key, Pushpull-Event, Pushpull-Key",
        ),
        ("access-control-max-age", "60"),
        ("vary", "Origin"),
    ] {
        assert_eq!(response.headers()[name], expected);
    }
    let foreign = refused(&gate, &preflight("https://evil.test"), Endpoint::Latest).await;
    assert_eq!(foreign.status(), 403);
    assert!(foreign.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    let plain = refused(&gate, &parts("OPTIONS", "/sse", &[]), Endpoint::Sse).await;
    assert_eq!(
        (plain.status().as_u16(), &plain.headers()[header::ALLOW]),
        (204, &HeaderValue::from_static("GET, HEAD, OPTIONS"))
    );
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_head_has_no_body_but_its_length() {
    let gate = Gate::open();
    let entry = gate.enter(&parts("HEAD", "/sse?topic=a", &[]), Endpoint::Sse).await.unwrap();
    let response = entry.finish(Response::new(Body::full("four")));
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "4");
    assert!(http_body::Body::is_end_stream(response.body()));
    let bad = refused(&gate, &parts("HEAD", "/sse", &[]), Endpoint::Sse).await;
    assert_eq!(bad.status(), 400);
    assert!(http_body::Body::is_end_stream(bad.body()));
}

#[test]
fn a_gate_that_cannot_be_is_not_built() {
    let zero = Duration::ZERO;
    for builder in [
        Gate::builder().with_max_connections(0),
        Gate::builder().with_max_payload(0),
        Gate::builder().with_body_time(zero),
        Gate::builder().with_keep_alive(zero),
        Gate::builder().with_ping(zero),
    ] {
        assert!(matches!(builder.build().unwrap_err(), ConfigError::Zero(_)));
    }
    let origin = Gate::builder().with_origin("*").build().unwrap_err();
    assert_eq!(origin, ConfigError::Origin("*".into()));
    let gate = Gate::builder().with_max_payload(10).build().unwrap();
    assert_eq!((gate.limits().payload, gate.limits().batch(), gate.limits().connections), (10, 160, 10_000));
    assert_eq!((gate.keep_alive(), gate.ping()), (Duration::from_secs(15), Duration::from_secs(25)));
}

#[test]
fn a_path_takes_the_methods_that_it_lists() {
    for endpoint in [
        Endpoint::WsRaw,
        Endpoint::WsSubprotocol,
        Endpoint::Sse,
        Endpoint::Longpoll,
        Endpoint::Poll,
        Endpoint::Publish,
        Endpoint::Latest,
        Endpoint::Webhooks,
    ] {
        let listed = |method: &Method| methods(endpoint).split(", ").any(|known| known == method.as_str());
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS]
        {
            assert_eq!(takes(endpoint, &method), listed(&method), "{method} {endpoint:?}");
        }
    }
}
