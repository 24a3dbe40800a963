//! Streams over sockets, as the listener's sweep writes them.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod same;

use std::time::Duration;

use async_trait::async_trait;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Context, Identity, Problem};
use pushpull_http::{Action, Authorizer, Gate, GateBuilder};
use tokio::{task::yield_now, time::Instant};

use client::{Client, Served};

/// With [`LARGE`] more than the sockets of a connection hold.
const COUNT: u64 = 160;
const LARGE: usize = 64 * 1024;

/// What the ids of the body say, in order.
fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[tokio::test]
async fn who_does_not_read_loses_nothing_and_holds_back_nobody() {
    let served = Served::start(Broker::memory(), Gate::builder()).await;
    let mut slow = Client::follow(served.address, "", "").await;
    let mut quick =
        [Client::follow(served.address, "", "").await, Client::follow(served.address, "", "").await];
    for seq in 1..=COUNT {
        served.publish(format!("{seq} {}", "x".repeat(LARGE))).await;
        for client in &mut quick {
            client.text.clear();
            client.take_to(&format!("data: {seq} ")).await;
        }
    }
    slow.take_to(&format!("data: {COUNT} ")).await;
    let all: Vec<String> = (0..=COUNT).map(|seq| served.id(seq)).collect();
    assert_eq!(ids(&slow.text), all, "each once, and in order");
    assert!(!slow.text.contains("pushpull-gap"));
    // It is swept again, like the others.
    served.publish("the next").await;
    for client in quick.iter_mut().chain([&mut slow]) {
        client.take_to("data: the next\n").await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_nothing_happens() {
    let served = Served::start(Broker::memory(), Gate::builder().with_max_connections(2)).await;
    let stays = Client::follow(served.address, "", "").await;
    let leaves = Client::follow(served.address, "", "").await;
    assert!(served.gate.is_full());
    drop(leaves);
    served.is_left().await;
    drop(stays);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_it_takes_nothing() {
    let served = Served::start(Broker::memory(), Gate::builder().with_max_connections(2)).await;
    let mut stays = Client::follow(served.address, "", "").await;
    let leaves = Client::follow(served.address, "", "").await;
    for seq in 1..=COUNT {
        served.publish(format!("{seq} {}", "x".repeat(LARGE))).await;
        stays.text.clear();
        stays.take_to(&format!("data: {seq} ")).await;
    }
    assert!(served.gate.is_full());
    drop(leaves);
    served.is_left().await;
}

#[tokio::test]
async fn a_drain_tells_those_who_are_swept_where_to_go_on() {
    let served = Served::start(Broker::memory(), Gate::builder()).await;
    let mut clients = [
        Client::follow(served.address, "", "").await,
        Client::follow(served.address, "", "Connection: close\r\n").await,
    ];
    served.publish("one").await;
    for client in &mut clients {
        client.take_to("data: one\n\n").await;
        client.text.clear();
    }
    let id = served.id(1);
    let stopped = served.stop();
    for client in &mut clients {
        client.take_all().await;
        let wait = client.text.strip_prefix(":\nretry: ").unwrap();
        assert!(wait.ends_with(&format!("\nid: {id}\n\n")), "{wait}");
        assert!(client.is_closed().await);
    }
    assert!(stopped.await.unwrap(), "all ended by themselves");
}

#[tokio::test]
async fn a_drain_waits_for_who_reads_late() {
    let served = Served::start(Broker::memory(), Gate::builder()).await;
    let mut slow = Client::follow(served.address, "", "").await;
    let mut quick = Client::follow(served.address, "", "").await;
    for seq in 1..=COUNT {
        served.publish(format!("{seq} {}", "x".repeat(LARGE))).await;
        quick.text.clear();
        quick.take_to(&format!("data: {seq} ")).await;
    }
    let (first, epoch) = (served.id(0), served.broker.place().epoch());
    let stopped = served.stop();
    slow.take_all().await;
    let told = ids(&slow.text);
    let last = told.len() - 2;
    let in_order: Vec<String> = (1..=last).map(|seq| format!("{epoch}-{seq}")).collect();
    assert_eq!(told[0], first);
    assert_eq!(told[1..=last], in_order, "what was begun is finished");
    assert_eq!(told[last + 1], format!("{epoch}-{last}"), "and the rest is behind the place that is told");
    assert!(slow.is_closed().await);
    quick.take_all().await;
    assert!(stopped.await.unwrap());
}

/// Lets everybody in for 20 s.
struct Brief;

#[async_trait]
impl Authorizer for Brief {
    async fn identify(&self, _: Option<&str>, cx: Context) -> Result<Context, Problem> {
        Ok(cx.with_identity(Identity::new("me").until(Instant::now() + Duration::from_secs(20))))
    }

    async fn authorize(&self, _: &Context, _: Action<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

#[tokio::test]
async fn who_is_swept_is_let_go_when_the_identity_expires() {
    let served = Served::start(Broker::memory(), Gate::builder().with_authorizer(Brief)).await;
    let mut client = Client::follow(served.address, "", "").await;
    let mut closing = Client::follow(served.address, "", "Connection: close\r\n").await;
    served.publish("one").await;
    for client in [&mut client, &mut closing] {
        client.take_to("data: one\n\n").await;
        client.text.clear();
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(21)).await;
    tokio::time::resume();
    for client in [&mut client, &mut closing] {
        client.take_all().await;
        assert_eq!(client.text, "");
    }
    assert!(!client.head.contains("connection: close"));
    assert!(closing.head.contains("connection: close"));
    assert!(closing.is_closed().await);
    client.ask("", "").await;
    served.publish("two").await;
    client.take_to("data: two\n\n").await;
}

#[tokio::test]
async fn a_keep_alive_comes_to_who_is_swept() {
    let served = Served::start(Broker::memory(), Gate::builder()).await;
    let mut client = Client::follow(served.address, "", "").await;
    client.text.clear();
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(15_100)).await;
    tokio::time::resume();
    assert!(client.chunk().await);
    assert_eq!(client.text, ":\n\n");
    served.publish("one").await;
    client.take_to("data: one\n\n").await;
}

/// No keep-alive makes up for what a sweep forgets.
fn sweep_alone() -> GateBuilder {
    Gate::builder().with_keep_alive(Duration::MAX)
}

#[tokio::test]
async fn a_gap_is_told_in_a_sweep() {
    let broker = Broker::memory_with(Retention::default().with_messages(3));
    let served = Served::start(broker, sweep_alone()).await;
    let mut clients = [
        Client::follow(served.address, "", "").await,
        Client::follow(served.address, "", "").await,
        Client::follow(served.address, "&overflow=latest", "").await,
        Client::follow(served.address, "&overflow=close", "").await,
    ];
    // So that all are at rest, and the sweep is the first that hears of what is published at once.
    for _ in 0..100 {
        yield_now().await;
    }
    for seq in 1..=10 {
        served.publish(format!("{seq}")).await;
    }
    let [first, second, latest, close] = &mut clients;
    let (start, seven, eight) = (served.id(0), served.id(7), served.id(8));
    for client in [first, second] {
        client.take_to("data: 10\n\n").await;
        let told = [&start, &start, &eight, &served.id(9), &served.id(10)];
        assert_eq!(ids(&client.text), told, "seven are gone: {seven}");
        assert!(client.text.contains(&format!("\"before\":\"{eight}\"")), "{}", client.text);
    }
    latest.take_to("event: pushpull-gap\n").await;
    assert_eq!(ids(&latest.text), [&start, &served.id(10)]);
    close.take_all().await;
    assert_eq!(ids(&close.text), [&start, &start]);
    assert!(close.text.contains("event: pushpull-gap\n"));
    // The connection is as good as before, and so are those who went on.
    close.ask("", "").await;
    served.publish("11").await;
    for client in &mut clients {
        client.take_to("data: 11\n\n").await;
    }
}

#[tokio::test]
async fn a_long_search_for_an_event_ends_in_a_sweep() {
    let served = Served::start(Broker::memory(), Gate::builder()).await;
    let mut clients =
        [Client::follow(served.address, ".*", "").await, Client::follow(served.address, ".*", "").await];
    for _ in 0..100 {
        yield_now().await;
    }
    for number in 0..10_000 {
        served.publish(format!("{number}")).await;
    }
    served.publish_to("a.b", "wanted").await;
    for client in &mut clients {
        client.take_to("\"data\":\"wanted\"").await;
        assert_eq!(ids(&client.text), [served.id(0), served.id(10_001)]);
    }
}

#[tokio::test]
async fn who_is_swept_is_told_that_the_broker_is_closed() {
    let served = Served::start(Broker::memory(), Gate::builder()).await;
    let mut clients =
        [Client::follow(served.address, "", "").await, Client::follow(served.address, "", "").await];
    served.publish("one").await;
    for client in &mut clients {
        client.take_to("data: one\n\n").await;
        client.text.clear();
    }
    served.broker.close();
    for client in &mut clients {
        client.take_all().await;
        assert_eq!(client.text, format!(":\nretry: 1000\nid: {}\n\n", served.id(1)));
        client.ask("", "").await;
        assert!(client.head.starts_with("HTTP/1.1 503 "), "{}", client.head);
    }
}
