//! Drains, mounting, and many frames at once.

use std::time::Duration;

use pushpull_broker::Broker;
use pushpull_http::{Gate, Transport};

use crate::peer::{Peer, Server, publish, service, within};

#[tokio::test]
async fn a_drain_ends_every_connection_cleanly() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_retry_spread(Duration::from_millis(100)).build().unwrap();
    let server = Server::start(&broker, gate.clone()).await;
    let mut raw = Peer::raw(&server, "topic=a").await;
    let mut json = Peer::json(&server, "topic=a").await;
    let mut idle = Peer::json(&server, "").await;
    json.value().await;
    let place = publish(&broker, "a", &["1"]).await;
    assert_eq!(raw.text().await, "1");
    json.value().await;
    assert_eq!(gate.metrics().connections(Transport::Ws), 3);
    let stopped = tokio::spawn(server.stop());
    let away = json.value().await;
    assert_eq!(away["goaway"]["cursor"], place.to_string());
    let retry = away["goaway"]["retry"].as_u64().unwrap();
    assert!((10..=100).contains(&retry));
    assert_eq!(json.closed().await, (1001, format!("unavailable retry={retry} cursor={place}")));
    let (code, reason) = raw.closed().await;
    assert!(
        code == 1001
            && reason.starts_with("unavailable retry=")
            && reason.ends_with(&format!(" cursor={place}"))
    );
    assert!(idle.value().await["goaway"].get("cursor").is_none(), "it has no place");
    assert_eq!(idle.closed().await.0, 1001);
    drop((raw, json, idle));
    assert!(within(stopped).await.unwrap(), "all ended by themselves");
    assert_eq!(gate.metrics().connections(Transport::Ws), 0);
}

#[tokio::test]
async fn it_mounts_into_an_axum_application() {
    let broker = Broker::memory();
    let gate = Gate::open();
    let app = axum::Router::new().nest_service("/live", service(&broker, &gate));
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let served = tokio::spawn(async move { axum::serve(tcp, app).await });
    let head = crate::peer::head("topic=a", &[]).replace("/ws?", "/live/ws?");
    let (answer, mut peer) = Peer::ask(address, head).await;
    assert_eq!(answer.status, 101);
    publish(&broker, "a", &["x"]).await;
    assert_eq!(peer.text().await, "x");
    peer.say("y").await;
    assert_eq!(peer.text().await, "y");
    gate.drain().begin();
    assert_eq!(peer.closed().await.0, 1001);
    drop(peer);
    within(gate.drain().idle()).await;
    served.abort();
}

#[tokio::test]
async fn a_long_history_comes_whole_and_in_order() {
    let broker = Broker::memory();
    let texts: Vec<String> = (0..5000).map(|n| format!("{n} {}", "x".repeat(n % 300))).collect();
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    publish(&broker, "a", &borrowed).await;
    let gate = Gate::open();
    let server = Server::start(&broker, gate.clone()).await;
    let mut peer = Peer::raw(&server, "topic=a&start=earliest").await;
    for text in &texts {
        assert_eq!(peer.text().await, *text);
    }
}
