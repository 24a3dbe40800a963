//! Publishing over a real port, by clients that send first and listen later.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pushpull_broker::Broker;
use pushpull_core::{Delivery, Fetch, Pull, Start, Subscribe};
use pushpull_http::{Gate, Listener, TopicService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

async fn serve(broker: &Broker) -> SocketAddr {
    let gate = Gate::open();
    let drain = gate.drain().clone();
    let topics = TopicService::new(gate).with_producer(Arc::new(broker.clone()));
    let topics = topics.with_pull(Arc::new(broker.clone()));
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(topics, drain, std::future::pending(), Duration::ZERO));
    address
}

/// Sends head and body whole, and then looks for the answer.
async fn ask(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{head}Host: x\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let talk = async {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream.read_to_end(&mut answer).await.unwrap();
    };
    timeout(Duration::from_secs(20), talk).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_sends_all_of_a_refused_body_still_gets_the_answer() {
    let address = serve(&Broker::memory()).await;
    let large = vec![b'x'; 20 << 20];
    for (path, more, status) in [
        ("/topics/a", "", "413"),
        ("/topics/a..b", "", "400"),
        ("/topics/a", "Origin: http://evil\r\n", "403"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n{more}", large.len());
        let answer = ask(address, &head, &large).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains(r#""outcome":"not-applied""#), "{answer}");
    }
}

#[tokio::test]
async fn who_expects_to_be_asked_is_refused_at_once() {
    let address = serve(&Broker::memory()).await;
    let head = "POST /topics/a HTTP/1.1\r\nContent-Length: 20000000\r\nExpect: 100-continue\r\n";
    let answer = ask(address, head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn the_lines_of_a_batch_are_carried_byte_for_byte() {
    let broker = Broker::memory();
    let address = serve(&broker).await;
    let body = b" {\"a\" : 1} \r\n\r\n \t\n2\r\n3";
    let head = format!(
        "POST /topics/a?batch=ndjson HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n",
        body.len()
    );
    let answer = ask(address, &head, body).await;
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with(r#""count":3}"#), "{answer}");
    let asked = Fetch::like(&Subscribe::to("a").unwrap().from(Start::Earliest));
    let batch = broker.fetch(&pushpull_core::Context::default(), asked).await.unwrap();
    let events = batch.deliveries.into_iter().filter_map(Delivery::into_event);
    let payloads: Vec<_> = events.map(|event| event.payload().clone()).collect();
    assert_eq!(payloads, [&b" {\"a\" : 1} "[..], b"2", b"3"]);
}

#[tokio::test]
async fn what_is_at_fault_is_named_as_the_request_names_it() {
    let address = serve(&Broker::memory()).await;
    for (header, value) in [
        ("Pushpull-Key", "%FF"),
        ("Pushpull-Key", "a%0Ab"),
        ("Pushpull-Event", "open"),
        ("Idempotency-Key", "\t"),
    ] {
        let head = format!("POST /topics/a HTTP/1.1\r\nContent-Length: 1\r\n{header}: {value}\r\n");
        let answer = ask(address, &head, b"x").await;
        match value.trim() {
            "" => assert!(answer.starts_with("HTTP/1.1 201 "), "an empty one is none: {answer}"),
            _ => assert!(answer.contains(&format!(r#""parameter":"{header}""#)), "{answer}"),
        }
    }
}

#[tokio::test]
async fn a_bare_pattern_in_a_target_reaches_the_parser() {
    let address = serve(&Broker::memory()).await;
    let answer = ask(address, "GET /topics/a.> HTTP/1.1\r\n", b"").await;
    assert!(answer.contains(r#""parameter":"topic""#), "{answer}");
}
