//! Registering endpoints over HTTP.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request};
use pushpull_broker::Broker;
use pushpull_core::{Context, ErrorKind, Identity, Problem};
use pushpull_http::{Action, Authorizer, Gate, Paths};
use pushpull_webhook::{Receiver, ReceiverConfig, Secret, WebhookService, Webhooks, WebhooksConfig};
use serde_json::{Value, json};
use tower_service::Service;

use super::{publish, serve, within};

/// Knows everybody by their token, and lets them subscribe to what begins with their name.
struct ByName;

#[async_trait]
impl Authorizer for ByName {
    async fn identify(&self, token: Option<&str>, cx: Context) -> Result<Context, Problem> {
        let token = token.ok_or_else(|| Problem::new(ErrorKind::Unauthenticated, "who are you?"))?;
        Ok(cx.with_identity(Identity::new(token)))
    }

    async fn authorize(&self, cx: &Context, action: Action<'_>) -> Result<(), Problem> {
        let name = cx.identity.as_ref().map(|identity| identity.subject.clone()).unwrap_or_default();
        match action {
            Action::Subscribe(pattern) if pattern.as_str().split('.').next() == Some(&name) => Ok(()),
            _ => Err(Problem::new(ErrorKind::Forbidden, "not yours")),
        }
    }
}

struct Answer {
    status: u16,
    json: Value,
    location: Option<String>,
}

async fn call(service: &WebhookService, method: Method, path: &str, token: &str, body: Value) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response = within(service.clone().call(request.body(body).unwrap())).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(Body::new(body), 1 << 20).await.unwrap();
    let location = parts.headers.get("location").map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: parts.status.as_u16(),
        json: serde_json::from_slice(&bytes).unwrap_or_default(),
        location,
    }
}

fn webhooks(broker: &Broker) -> Webhooks {
    let config = WebhooksConfig::default().with_allowed("127.0.0.0/8".parse().unwrap()).with_max_endpoints(2);
    Webhooks::new(Arc::new(broker.clone()), config)
}

#[tokio::test]
async fn an_endpoint_is_registered_seen_and_removed() {
    let broker = Broker::memory();
    publish(&broker, "a", "before").await;
    let secret = Secret::random().unwrap();
    let receiver = Receiver::new(secret.clone(), ReceiverConfig::default());
    let hooks = serve(axum::Router::new().route_service("/hook", receiver.service())).await;
    let mut hinted =
        pushpull_core::PushExt::consume(&receiver, pushpull_core::Subscribe::to("a").unwrap()).await.unwrap();
    let service = WebhookService::new(webhooks(&broker), Gate::open()).with_paths(Paths::under("/live"));
    let body = json!({"url": hooks.url("/hook"), "topics": ["a", "b.>"], "secret": secret.reveal()});
    let made = call(&service, Method::POST, "/live/webhooks", "", body).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let epoch = broker.place().epoch();
    assert_eq!(
        (made.json["secret"].as_str(), made.json["cursor"].as_str()),
        (Some(&*secret.reveal()), Some(&*format!("{epoch}-1")))
    );
    let path = format!("/live/webhooks/{}", made.json["id"].as_str().unwrap());
    assert_eq!(made.location.as_deref(), Some(&*path));
    publish(&broker, "a", "x").await;
    within(async { while !matches!(hinted.next().await, Some(Ok(pushpull_core::Delivery::Event(_)))) {} })
        .await;
    let seen = within(async {
        loop {
            let seen = call(&service, Method::GET, &path, "", Value::Null).await;
            if seen.json["cursor"] == format!("{epoch}-2") {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let id = &made.json["id"];
    let expected = json!({
        "id": id, "url": hooks.url("/hook"), "topics": ["a", "b.>"], "state": "active", "reason": null,
        "cursor": format!("{epoch}-2"), "failures": 0, "next_attempt": null,
    });
    assert_eq!((seen.status, seen.json), (200, expected), "and no secret");
    assert_eq!(call(&service, Method::HEAD, &path, "", Value::Null).await.status, 200);
    assert_eq!(call(&service, Method::DELETE, &path, "", Value::Null).await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(call(&service, method, &path, "", Value::Null).await.status, 404);
    }
}

#[tokio::test]
async fn secrets_are_made_and_places_kept() {
    let broker = Broker::memory();
    let service = WebhookService::new(webhooks(&broker), Gate::open());
    let place = publish(&broker, "a", "x").await;
    let url = "http://127.0.0.1:1/";
    let body = json!({"url": url, "topics": ["a"], "after": place.to_string(), "format": "raw"});
    let made = call(&service, Method::POST, "/webhooks", "", body).await;
    assert_eq!((made.status, made.json["cursor"].as_str()), (201, Some(&*place.to_string())));
    assert!(made.json["secret"].as_str().unwrap().parse::<Secret>().is_ok());
    let body = json!({"url": url, "topics": ["a"], "start": "earliest"});
    let made = call(&service, Method::POST, "/webhooks/", "", body.clone()).await;
    let epoch = place.epoch();
    assert_eq!((made.status, made.json["cursor"].as_str()), (201, Some(&*format!("{epoch}-0"))));
    let path = format!("/webhooks/{}", made.json["id"].as_str().unwrap());
    let failing = within(async {
        loop {
            let seen = call(&service, Method::GET, &path, "", Value::Null).await.json;
            if seen["failures"] == 1 {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(failing["next_attempt"].as_u64().unwrap() > 1_700_000_000_000, "{failing}");
    let full = call(&service, Method::POST, "/webhooks", "", body).await;
    assert_eq!(full.status, 503, "there are two already");
}

#[tokio::test]
async fn what_is_no_registration_names_what_is_at_fault() {
    let service = WebhookService::new(webhooks(&Broker::memory()), Gate::open());
    let good = json!({"url": "http://127.0.0.1/", "topics": ["a"]});
    for (name, value, parameter) in [
        ("url", Value::Null, "url"),
        ("url", json!(1), "url"),
        ("url", json!("ftp://127.0.0.1/"), "url"),
        ("url", json!("http://10.0.0.1/"), "url"),
        ("url", json!("http://[::1]:80/"), "url"),
        ("topics", json!("a"), "topics"),
        ("topics", json!([]), "topics"),
        ("topics", json!(["a b"]), "topics"),
        ("topics", json!([1]), "topics"),
        ("secret", json!("whsec_short"), "secret"),
        ("after", json!("x"), "after"),
        ("start", json!("now"), "start"),
        ("format", json!("xml"), "format"),
        ("colour", json!("red"), "colour"),
    ] {
        let mut body = good.clone();
        body[name] = value.clone();
        let refused = call(&service, Method::POST, "/webhooks", "", body).await;
        assert_eq!(
            (refused.status, refused.json["parameter"].as_str()),
            (400, Some(parameter)),
            "{name} {value}"
        );
    }
    let mut both = good.clone();
    (both["after"], both["start"]) = (json!("e-1"), json!("latest"));
    assert_eq!(call(&service, Method::POST, "/webhooks", "", both).await.json["parameter"], "start");
    assert_eq!(call(&service, Method::POST, "/webhooks", "", json!([1])).await.status, 400);
    let large = json!({"url": "x".repeat(70_000)});
    assert_eq!(call(&service, Method::POST, "/webhooks", "", large).await.status, 413);
    assert_eq!(
        call(&service, Method::POST, "/webhooks?topic=a", "", good.clone()).await.json["parameter"],
        "topic"
    );
    for (method, path, status) in [
        (Method::PUT, "/webhooks", 405),
        (Method::GET, "/webhooks", 405),
        (Method::POST, "/webhooks/x", 405),
        (Method::GET, "/webhooks/x", 404),
    ] {
        assert_eq!(
            call(&service, method.clone(), path, "", Value::Null).await.status,
            status,
            "{method} {path}"
        );
    }
    let request = Request::post("/webhooks").body(Body::from(good.to_string())).unwrap();
    let untyped = service.clone().call(request).await.unwrap();
    assert_eq!(untyped.status(), 415);
}

#[tokio::test]
async fn who_may_not_subscribe_may_not_register_and_endpoints_are_their_owners() {
    let gate = Gate::builder().with_authorizer(ByName).build().unwrap();
    let service = WebhookService::new(webhooks(&Broker::memory()), gate);
    let body = json!({"url": "http://127.0.0.1:1/", "topics": ["alice.x"]});
    assert_eq!(call(&service, Method::POST, "/webhooks", "", body.clone()).await.status, 401);
    assert_eq!(call(&service, Method::POST, "/webhooks", "bob", body.clone()).await.status, 403);
    let both = json!({"url": "http://127.0.0.1:1/", "topics": ["alice.x", "bob.x"]});
    assert_eq!(call(&service, Method::POST, "/webhooks", "alice", both).await.status, 403);
    let made = call(&service, Method::POST, "/webhooks", "alice", body).await;
    assert_eq!(made.status, 201);
    let path = format!("/webhooks/{}", made.json["id"].as_str().unwrap());
    for (token, status) in [("", 401), ("bob", 404), ("alice", 200)] {
        assert_eq!(call(&service, Method::GET, &path, token, Value::Null).await.status, status, "{token}");
    }
    assert_eq!(call(&service, Method::DELETE, &path, "bob", Value::Null).await.status, 404);
    assert_eq!(call(&service, Method::DELETE, &path, "alice", Value::Null).await.status, 204);
}
