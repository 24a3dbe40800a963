//! The client half against the server half.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Backoff, Context, Delivery, ErrorKind, Event, Fetch, GapReason, Link, Message, Outcome, Overflow, Prev,
    Producer, ProducerExt, Pull, Push, PushExt, Start, Subscribe, Subscription, Topics,
};
use pushpull_grpc_stream::GrpcClient;
use pushpull_http::{Gate, Transport};
use pushpull_testkit::proxy::Proxy;

use crate::support::{Node, guarded, publish, soon, until};

fn client(url: &str) -> GrpcClient {
    let quick = Backoff::new(Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(20));
    GrpcClient::new(url).unwrap().with_backoff(quick).with_silence(Duration::from_secs(5))
}

async fn next(consumer: &mut Subscription) -> Delivery {
    use pushpull_core::ConsumerExt;
    soon(ConsumerExt::next(consumer)).await.expect("it goes on").expect("no error")
}

async fn next_event(consumer: &mut Subscription) -> Event {
    loop {
        match next(consumer).await {
            Delivery::Event(event) => return event,
            Delivery::Gap(gap) => panic!("{gap}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn everything_of_an_event_arrives() {
    let node = Node::open().await;
    let client = client(&node.url());
    let mut consumer = client.consume(Subscribe::to("a.*").unwrap()).await.unwrap();
    assert!(matches!(next(&mut consumer).await, Delivery::Link(Link::Connected)));
    assert!(matches!(next(&mut consumer).await, Delivery::Place(place) if place == node.broker.place()));
    let message = Message::json(&[1]).unwrap().with_name("trade").with_key("K");
    let topic = "a.b".parse().unwrap();
    let first = client.publish_one(&topic, message.clone()).await.unwrap();
    let second = client.publish_one(&topic, message).await.unwrap();
    let event = next_event(&mut consumer).await;
    assert_eq!((event.cursor(), event.prev(), event.topic()), (first, Prev::First, &topic));
    assert_eq!(
        (event.name(), event.key(), event.content_type()),
        (Some("trade"), Some("K"), "application/json")
    );
    assert_eq!(&event.payload()[..], b"[1]");
    assert!(event.time_ms() > 0);
    let event = next_event(&mut consumer).await;
    assert_eq!((event.cursor(), event.prev()), (second, Prev::At(first)));
    let mut snapshot = client.consume(Subscribe::to("a.b").unwrap().from(Start::Snapshot)).await.unwrap();
    let event = next_event(&mut snapshot).await;
    assert_eq!((event.is_snapshot(), event.prev()), (true, Prev::Unknown));
    assert!(matches!(next(&mut snapshot).await, Delivery::Place(place) if place == second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_reconnects_and_resumes_and_loses_nothing() {
    let broker = Broker::memory();
    let node = Node::start(&broker, Gate::open()).await;
    let proxy = Proxy::start(node.address, 1).await.unwrap();
    let mut consumer = client(&proxy.url()).consume(Subscribe::to("a").unwrap()).await.unwrap();
    let publishing = tokio::spawn(async move {
        for n in 0..200 {
            publish(&broker, "a", 10).await;
            if n % 20 == 10 {
                proxy.cut();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        proxy
    });
    let mut links = 0;
    for seq in 1..=2000 {
        let event = loop {
            match next(&mut consumer).await {
                Delivery::Event(event) => break event,
                Delivery::Link(Link::Reconnecting { .. }) => links += 1,
                Delivery::Gap(gap) => panic!("{gap}"),
                _ => {}
            }
        };
        assert_eq!(event.cursor().seq(), seq, "each once, in order");
    }
    let proxy = soon(publishing).await.unwrap();
    assert!(links > 0 && proxy.cut_count() > 0);
}

#[tokio::test]
async fn it_goes_to_the_next_node_when_one_drains() {
    let broker = Broker::memory();
    let gate = || Gate::builder().with_retry_spread(Duration::from_millis(50)).build().unwrap();
    let old = Node::start(&broker, gate()).await;
    let proxy = Proxy::start(old.address, 1).await.unwrap();
    let mut consumer = client(&proxy.url()).consume(Subscribe::to("a").unwrap()).await.unwrap();
    while !matches!(next(&mut consumer).await, Delivery::Place(_)) {}
    let new = Node::start(&broker, gate()).await;
    proxy.lead_to(new.address);
    let drained = tokio::spawn(old.drain());
    match next(&mut consumer).await {
        Delivery::Link(Link::Reconnecting { delay, cause: None }) => {
            assert!(delay <= Duration::from_millis(400))
        }
        other => panic!("{other:?}"),
    }
    assert!(soon(drained).await.unwrap());
    let missed = publish(&broker, "a", 1).await;
    assert_eq!(next_event(&mut consumer).await.cursor(), missed);
}

#[tokio::test]
async fn credit_goes_to_the_server() {
    let node = Node::open().await;
    let window = NonZeroU32::new(3).unwrap();
    let asked = Subscribe::to("a").unwrap().with_window(window);
    let mut consumer = client(&node.url()).consume(asked).await.unwrap();
    publish(&node.broker, "a", 10).await;
    for seq in 1..=3 {
        assert_eq!(next_event(&mut consumer).await.cursor().seq(), seq);
    }
    assert_eq!(consumer.credit(), Some(0));
    consumer.grant(7);
    for seq in 4..=10 {
        assert_eq!(next_event(&mut consumer).await.cursor().seq(), seq);
    }
}

#[tokio::test]
async fn a_gap_and_a_close_are_told() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    let node = Node::start(&broker, Gate::open()).await;
    let start = broker.place();
    let client = client(&node.url());
    publish(&broker, "a", 5).await;
    let mut consumer = client.consume(Subscribe::to("a").unwrap().from(start)).await.unwrap();
    let gap = loop {
        match next(&mut consumer).await {
            Delivery::Gap(gap) => break gap,
            Delivery::Event(event) => panic!("{event:?}"),
            _ => {}
        }
    };
    assert_eq!((gap.after, gap.before.seq(), gap.reason), (start, 4, GapReason::Evicted));
    assert_eq!(next_event(&mut consumer).await.cursor().seq(), 4);
    let asked = Subscribe::to("a").unwrap().from(start).on_overflow(Overflow::Close);
    let mut consumer = client.consume(asked).await.unwrap();
    let ended = loop {
        match next(&mut consumer).await {
            Delivery::Link(Link::Ended { retry, .. }) => break retry,
            Delivery::Link(Link::Reconnecting { .. }) => panic!("it came back"),
            _ => {}
        }
    };
    assert_eq!(ended, None);
    let batch = client.fetch(&Context::default(), fetch("a").from(start)).await.unwrap();
    assert!(matches!(&batch.deliveries[..], [Delivery::Gap(told), ..] if *told == gap));
    assert!(!batch.closed);
    let mut asked = fetch("a").from(start);
    asked.overflow = Overflow::Close;
    let batch = client.fetch(&Context::default(), asked).await.unwrap();
    assert!(batch.closed && matches!(&batch.deliveries[..], [Delivery::Gap(_)]));
}

fn fetch(topic: &str) -> Fetch {
    Fetch::new(Topics::only(&topic.parse().unwrap()))
}

#[tokio::test]
async fn it_pulls_and_publishes_batches() {
    let node = Node::open().await;
    let client = client(&node.url());
    let messages: Vec<_> = ["x", "y", "z"].map(Message::text).into();
    let topic = "a".parse().unwrap();
    let published = client.publish(&Context::default(), &topic, &messages).await.unwrap();
    assert_eq!((published.first.seq(), published.last.seq(), published.count), (1, 3, 3));
    let asked = fetch("a").from(Start::Earliest).with_limit(2);
    let batch = client.fetch(&Context::default(), asked).await.unwrap();
    let payloads: Vec<_> = batch
        .deliveries
        .into_iter()
        .map(|delivery| delivery.into_event().unwrap().payload().clone())
        .collect();
    assert_eq!((payloads, batch.place.unwrap().seq(), batch.more), (vec!["x".into(), "y".into()], 2, true));
    let waiting = Arc::new(client.clone());
    let asked = fetch("a").from(published.last).with_wait(Duration::from_secs(30));
    let waiting = tokio::spawn(async move { waiting.fetch(&Context::default(), asked).await });
    until(|| node.gate.metrics().connections(Transport::Grpc) == 1).await;
    publish(&node.broker, "a", 1).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap().place.unwrap().seq(), 4);
}

#[tokio::test]
async fn what_cannot_be_mended_fails_at_once() {
    let node = Node::start(&Broker::memory(), guarded()).await;
    let client = client(&node.url());
    let (cx, topic) = (Context::default(), "a".parse().unwrap());
    let refused = client.subscribe(&cx, Subscribe::to("a").unwrap()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    let stranger = client.clone().with_token("stranger").unwrap();
    for window in [None, NonZeroU32::new(1)] {
        let mut asked = Subscribe::to("a").unwrap();
        asked.window = window;
        assert_eq!(stranger.subscribe(&cx, asked).await.unwrap_err().kind(), ErrorKind::Forbidden);
    }
    assert_eq!(stranger.fetch(&cx, fetch("a")).await.unwrap_err().kind(), ErrorKind::Forbidden);
    let error = stranger.publish(&cx, &topic, &[Message::text("x")]).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Forbidden, Outcome::NotApplied));
    let friend = client.with_token("friend").unwrap();
    let published = friend.publish(&cx, &topic, &[Message::text("x")]).await.unwrap();
    assert_eq!((published.first, published.last.seq(), published.count), (published.last, 1, 1));
    assert_eq!(node.broker.place(), published.last, "and nothing of the stranger's");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let node = Node::open().await;
    let url = node.url();
    assert!(node.drain().await);
    let client = client(&url);
    let mut consumer = client.consume(Subscribe::to("a").unwrap()).await.unwrap();
    match next(&mut consumer).await {
        Delivery::Link(Link::Reconnecting { cause: Some(cause), .. }) => {
            assert_eq!(cause.kind(), ErrorKind::Unavailable);
        }
        other => panic!("{other:?}"),
    }
    let cx = Context::default().with_deadline(tokio::time::Instant::now() + Duration::from_millis(300));
    let error = client.publish(&cx, &"a".parse().unwrap(), &[Message::text("x")]).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}
