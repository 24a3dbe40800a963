//! Scraping a server that does as it is told.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, time::Duration};

use pushpull_broker::Broker;
use pushpull_core::{Context, Delivery, ErrorKind, Fetch, Pull, Start, Subscribe};
use pushpull_http_poll::{Scrape, Scraped};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// Answers one request with each of `answers`, in order, and gives back the heads that it got.
async fn target(answers: &[&'static str]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = answers.to_vec();
    let served = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.push(String::from_utf8(head).unwrap().to_ascii_lowercase());
            let (start, body) = answer.split_once("\n\n").unwrap();
            let length = match start.contains(" 304 ") {
                true => String::new(),
                false => format!("Content-Length: {}\r\n", body.len()),
            };
            let start = start.replace('\n', "\r\n");
            let text = format!("HTTP/1.1 {start}\r\n{length}Connection: close\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        heads
    });
    (url, served)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

fn often(url: &str) -> Scrape {
    Scrape::new(url).unwrap().every(Duration::from_millis(500)).with_jitter(1.0)
}

fn shown(scraped: &Scraped) -> String {
    match scraped {
        Scraped::Changed(message) => {
            format!("{} {}", message.content_type(), String::from_utf8_lossy(message.payload()))
        }
        Scraped::Unchanged => "unchanged".into(),
        Scraped::Failed(problem) => format!("{:?}", problem.kind()),
        _ => unreachable!(),
    }
}

#[tokio::test]
async fn each_changed_body_comes_once_and_failures_are_told() {
    let (url, served) = target(&[
        "200 OK\nContent-Type: text/plain; version=0.0.4\nETag: \"1\"\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\nDate: Thu, 01 Jan 2026 00:00:01 GMT\n\nup 1\n",
        "304 Not Modified\n\n",
        "200 OK\nContent-Type: text/plain; version=0.0.4\nETag: \"2\"\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\nDate: Thu, 01 Jan 2026 00:00:00 GMT\n\nup 1\n",
        "503 Service Unavailable\n\nbusy",
        "302 Found\nLocation: http://elsewhere.example/\n\n",
        "200 OK\nContent-Type: text/plain; version=0.0.4\n\nup 0\n",
        "200 OK\nContent-Encoding: gzip\n\nxx",
        "200 OK\nContent-Type: application/json\n\nno json",
        "200 OK\n\nup 0\n",
    ])
    .await;
    let mut scrape = often(&format!("{url}/metrics?module=a"));
    let mut found = Vec::new();
    for _ in 0..9 {
        found.push(shown(&within(scrape.next()).await));
    }
    assert_eq!(
        found,
        [
            "text/plain; version=0.0.4 up 1\n",
            "unchanged",
            "unchanged",
            "Unavailable",
            "Protocol",
            "text/plain; version=0.0.4 up 0\n",
            "Protocol",
            "Invalid",
            "application/octet-stream up 0\n",
        ]
    );
    let heads = within(served).await.unwrap();
    assert!(heads[0].starts_with("get /metrics?module=a http/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("\r\naccept: application/openmetrics-text;version=1.0.0;q=0.5,"));
    assert!(heads[0].contains("\r\nx-prometheus-scrape-timeout-seconds: 0.5\r\n"));
    assert!(!heads[0].contains("if-none-match"));
    assert!(heads[1].contains("\r\nif-none-match: \"1\"\r\n"));
    assert!(heads[1].contains("\r\nif-modified-since: thu, 01 jan 2026 00:00:00 gmt\r\n"));
    assert!(heads[3].contains("\r\nif-none-match: \"2\"\r\n") && !heads[3].contains("if-modified-since"));
}

#[tokio::test]
async fn a_body_too_large_and_a_target_too_slow_fail() {
    let (url, served) = target(&["200 OK\n\n0123456789", "200 OK\n\n012345678"]).await;
    let mut scrape = often(&url).with_limit(9);
    assert_eq!(shown(&within(scrape.next()).await), "TooLarge");
    assert_eq!(shown(&within(scrape.next()).await), "application/octet-stream 012345678");
    within(served).await.unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut scrape = often(&url).with_deadline(Duration::from_millis(50));
    assert_eq!(shown(&within(scrape.next()).await), "Timeout");
    drop(silent);
    assert_eq!(shown(&within(scrape.next()).await), "Unavailable");
}

#[tokio::test]
async fn what_is_scraped_is_published() {
    let (url, served) = target(&[
        "200 OK\nContent-Type: text/plain\n\nup 1\n",
        "200 OK\nContent-Type: text/plain\n\nup 1\n",
        "500 Oops\n\n",
        "200 OK\nContent-Type: text/plain\n\nup 2\n",
    ])
    .await;
    let broker = Broker::memory();
    let source = broker.clone();
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let scraping = tokio::spawn(async move {
        let mut scrape = often(&url).with_accept("text/plain").unwrap();
        let report = |scraped: &Scraped| report.send(shown(scraped)).unwrap();
        scrape.run(&source, &"metrics".parse().unwrap(), report).await
    });
    let mut told = Vec::new();
    while told.len() < 4 {
        told.extend(within(reports.recv()).await);
    }
    assert_eq!(told, ["text/plain up 1\n", "unchanged", "Unavailable", "text/plain up 2\n"]);
    let asked = Fetch::like(&Subscribe::to("metrics").unwrap().from(Start::Earliest));
    let asked = asked.with_wait(Duration::from_secs(5));
    let mut published = Vec::new();
    while published.len() < 2 {
        let batch = within(broker.fetch(&Context::default(), asked.clone())).await.unwrap();
        let events = batch.deliveries.into_iter().filter_map(Delivery::into_event);
        published = events.map(|event| event.payload().clone()).collect();
        tokio::task::yield_now().await;
    }
    assert_eq!(published, ["up 1\n", "up 2\n"]);
    let heads = within(served).await.unwrap();
    assert!(heads[0].contains("\r\naccept: text/plain\r\n"));
    scraping.abort();
}

#[tokio::test]
async fn a_publish_that_is_refused_for_good_ends_the_run() {
    let (url, _served) = target(&["200 OK\n\nabcdef"]).await;
    let broker = Broker::memory_with(pushpull_broker::Retention::default().with_payload(3));
    let error = within(often(&url).run(&broker, &"m".parse().unwrap(), |_| {})).await;
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn urls() {
    for bad in ["", "/metrics", "host:80/x", "ftp://h/x", "http://u@h/", "http://h/#f"] {
        let refused = Scrape::new(bad).unwrap_err();
        assert_eq!((refused.kind(), refused.parameter()), (ErrorKind::Invalid, Some("url")), "{bad:?}");
    }
    assert!(Scrape::new("http://h").is_ok());
    assert!(Scrape::new("http://h").unwrap().with_accept("a\nb").is_err());
}
