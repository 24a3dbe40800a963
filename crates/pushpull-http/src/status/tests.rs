use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use http::request::Parts;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::{Endpoint, Observation};

#[derive(Default)]
struct Source {
    is_down: AtomicBool,
    probes: AtomicU32,
}

#[async_trait]
impl Observed for Source {
    fn observe(&self) -> Observation {
        Observation::new(1, 2, 3, true).of_engine("memory")
    }

    async fn probe(&self) -> Result<(), Problem> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        match self.is_down.load(Ordering::SeqCst) {
            true => Err(Problem::new(ErrorKind::Unavailable, "down")),
            false => Ok(()),
        }
    }
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn ask(service: &StatusService, method: &str, uri: &str, headers: &[(&str, &str)]) -> Answered {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().call(request.body(()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answered { status: head.status.as_u16(), headers: head.headers, body }
}

fn poll_request() -> Parts {
    Request::builder().uri("/poll?topic=a").body(()).unwrap().into_parts().0
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_liked_best() {
    let service = StatusService::new(Gate::open()).with_observed(Arc::new(Source::default()));
    for (accept, expected, end) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", false),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
        (
            "text/plain;q=0.9,application/openmetrics-text;q=0.1",
            "text/plain; version=0.0.4; charset=utf-8",
            false,
        ),
    ] {
        let page = ask(&service, "GET", "/metrics", &[("accept", accept)]).await;
        assert_eq!((page.status, page.header("content-type")), (200, expected), "{accept}");
        assert_eq!(page.body.ends_with("# EOF\n"), end, "{accept}");
        assert_eq!((page.header("vary"), page.header("cache-control")), ("Accept", "no-store"));
        assert!(page.body.contains("\npushpull_topics 3\n"));
    }
    let head = ask(&service, "HEAD", "/metrics", &[]).await;
    assert!(head.status == 200 && head.body.is_empty() && head.headers.contains_key("content-length"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_in_trouble_is_told_and_counts_only_where_it_is_asked_for() {
    let source = Arc::new(Source::default());
    let service = StatusService::new(Gate::open()).with_observed(source.clone());
    let well = ask(&service, "GET", "/health?engine", &[]).await;
    assert_eq!(well.headers[CONTENT_TYPE], "application/json");
    let expected = json!({"status": "ok", "engine": {"name": "memory", "up": true}});
    assert_eq!((well.status, well.json()), (200, expected));
    source.is_down.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(2)).await;
    for (uri, status, word) in [
        ("/health", 200, "ok"),
        ("/health?engine", 503, "engine-down"),
        ("/health?engine=1", 503, "engine-down"),
        ("/health?other", 200, "ok"),
        ("/health/live", 200, "live"),
    ] {
        let told = ask(&service, "GET", uri, &[]).await;
        assert_eq!((told.status, &told.json()["status"]), (status, &json!(word)), "{uri}");
        assert_eq!(told.headers.contains_key("retry-after"), status == 503, "{uri}");
        if word != "live" {
            assert_eq!(told.json()["engine"]["up"], json!(false), "{uri}");
        }
    }
    assert_eq!(source.probes.load(Ordering::SeqCst), 2, "one probe serves all who ask within its second");
}

#[tokio::test]
async fn full_and_draining_are_503_and_life_goes_on() {
    let gate = Gate::builder().with_max_connections(1).build().unwrap();
    let service = StatusService::new(gate.clone());
    let entry = gate.enter(&poll_request(), Endpoint::Poll).await.unwrap();
    let full = ask(&service, "GET", "/health", &[]).await;
    assert_eq!((full.status, &full.json()["status"]), (503, &json!("full")));
    drop(entry);
    assert_eq!(ask(&service, "GET", "/health", &[]).await.status, 200);
    gate.drain().begin();
    let draining = ask(&service, "GET", "/health", &[]).await;
    assert_eq!((draining.status, &draining.json()["status"]), (503, &json!("draining")));
    assert_eq!(ask(&service, "GET", "/health/live", &[]).await.status, 200);
    assert_eq!(ask(&service, "GET", "/metrics", &[]).await.status, 200);
}

#[tokio::test]
async fn a_token_closes_it_and_other_paths_and_methods_are_refused() {
    let paths = Paths::under("/live");
    let service = StatusService::new(Gate::open()).with_paths(paths).with_token("s3cret");
    for (method, uri, token, status) in [
        ("GET", "/live/metrics", "Bearer s3cret", 200),
        ("GET", "/live/metrics", "bearer s3cret", 200),
        ("GET", "/live/metrics", "Bearer s3cres", 401),
        ("GET", "/live/metrics", "Bearer s3cret2", 401),
        ("GET", "/live/health", "", 401),
        ("GET", "/live/health/live", "Basic s3cret", 401),
        ("POST", "/live/metrics", "Bearer s3cret", 405),
        ("GET", "/metrics", "Bearer s3cret", 404),
        ("GET", "/live/sse", "Bearer s3cret", 404),
    ] {
        let told = ask(&service, method, uri, &[("authorization", token)]).await;
        assert_eq!(told.status, status, "{method} {uri} {token}");
        assert_eq!(told.headers.contains_key("www-authenticate"), status == 401, "{uri}");
        assert_eq!(told.headers.contains_key("allow"), status == 405, "{uri}");
    }
}
