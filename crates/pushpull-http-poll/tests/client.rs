//! The client half over sockets, and the server half mounted in axum.
#![cfg(all(feature = "server", feature = "client"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{extract::Request, middleware::Next, response::Response};
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Context, Cursor, Delivery, ErrorKind, Fetch, Link, Message, Overflow, ProducerExt, Pull, Push, PushExt,
    Retry, Schedule, Start, Subscribe, Subscription,
};
use pushpull_http::{Gate, TopicService};
use pushpull_http_poll::{HttpPollClient, PollService};
use tokio::{sync::oneshot, task::JoinHandle};

/// What was answered so far: the statuses and the queries.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(u16, String)>>>);

impl Seen {
    fn statuses(&self) -> Vec<u16> {
        self.0.lock().unwrap().iter().map(|(status, _)| *status).collect()
    }
}

struct Server {
    address: SocketAddr,
    gate: Gate,
    seen: Seen,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

/// The paths of a poll and of a topic, in an axum application.
async fn serve(broker: &Broker) -> Server {
    let gate = Gate::open();
    let seen = Seen::default();
    let source = Arc::new(broker.clone());
    let topics = TopicService::new(gate.clone()).with_producer(source.clone()).with_pull(source.clone());
    let noting = seen.clone();
    let note = move |request: Request, next: Next| {
        let seen = noting.clone();
        async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let response: Response = next.run(request).await;
            seen.0.lock().unwrap().push((response.status().as_u16(), query));
            response
        }
    };
    let app = axum::Router::new()
        .route_service("/poll", PollService::new(source, gate.clone()))
        .route_service("/topics/{topic}", topics)
        .layer(axum::middleware::from_fn(note));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served = tokio::spawn(axum::serve(listener, app).with_graceful_shutdown(shutdown).into_future());
    Server { address, gate, seen, stop, served }
}

impl Server {
    fn client(&self) -> HttpPollClient {
        let often = Schedule::every(Duration::from_millis(5));
        HttpPollClient::new(&format!("http://{}", self.address)).unwrap().with_schedule(often)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        within(self.served).await.unwrap().unwrap();
    }
}

async fn publish(broker: &Broker, topic: &str, count: usize) {
    for n in 0..count {
        broker.publish_one(&topic.parse().unwrap(), Message::json(&n).unwrap()).await.unwrap();
    }
}

fn at(broker: &Broker, seq: u64) -> Cursor {
    Cursor::new(broker.place().epoch(), seq)
}

fn fetch(topic: &str) -> Fetch {
    Fetch::like(&Subscribe::to(topic).unwrap())
}

fn seqs(batch: &pushpull_core::Batch) -> Vec<u64> {
    let events = batch.deliveries.iter().cloned().filter_map(Delivery::into_event);
    events.map(|event| event.cursor().seq()).collect()
}

async fn next(subscription: &mut Subscription) -> Option<Delivery> {
    within(subscription.next()).await.map(Result::unwrap)
}

async fn next_event(subscription: &mut Subscription) -> u64 {
    loop {
        match next(subscription).await.unwrap() {
            Delivery::Event(event) => return event.cursor().seq(),
            Delivery::Gap(gap) => panic!("{gap}"),
            _ => {}
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

#[tokio::test]
async fn pages_follow_one_another_and_idle_ones_are_304() {
    let broker = Broker::memory();
    publish(&broker, "a", 5).await;
    let server = serve(&broker).await;
    let (client, cx) = (server.client(), Context::default());
    let mut place = at(&broker, 0);
    let mut pages = Vec::new();
    for _ in 0..4 {
        let batch = client.fetch(&cx, fetch("a").with_limit(2).from(place)).await.unwrap();
        place = batch.place.unwrap();
        pages.push((seqs(&batch), batch.more));
    }
    assert_eq!(pages, [(vec![1, 2], true), (vec![3, 4], true), (vec![5], false), (vec![], false)]);
    assert_eq!((place, server.seen.statuses()), (at(&broker, 5), vec![200, 200, 200, 304]));
    server.stop().await;
}

#[tokio::test]
async fn a_subscription_stands_where_it_began() {
    let broker = Broker::memory();
    publish(&broker, "a", 3).await;
    let server = serve(&broker).await;
    let client: Arc<dyn Push> = Arc::new(server.client());
    let mut subscription = client.consume(Subscribe::to("a").unwrap()).await.unwrap();
    publish(&broker, "a", 2).await;
    assert!(matches!(next(&mut subscription).await, Some(Delivery::Place(place)) if place == at(&broker, 3)));
    assert_eq!(next_event(&mut subscription).await, 4);
    assert_eq!(next_event(&mut subscription).await, 5);
    let polled = server.seen.statuses().len();
    let idle = tokio::spawn(async move { next_event(&mut subscription).await });
    within(async {
        while server.seen.statuses().len() < polled + 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(
        server.seen.statuses()[polled..].iter().all(|status| *status == 304),
        "{:?}",
        server.seen.statuses()
    );
    publish(&broker, "a", 1).await;
    assert_eq!(within(idle).await.unwrap(), 6);
    server.stop().await;
}

#[tokio::test]
async fn gaps_and_the_end_are_told() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", 5).await;
    let server = serve(&broker).await;
    let (client, cx) = (server.client(), Context::default());
    let batch = client.fetch(&cx, fetch("a").from(at(&broker, 1))).await.unwrap();
    assert!(matches!(batch.deliveries[0], Delivery::Gap(gap) if gap.before == at(&broker, 4)));
    assert_eq!((seqs(&batch), batch.closed), (vec![4, 5], false));
    let mut close = fetch("a").from(at(&broker, 1));
    close.overflow = Overflow::Close;
    let batch = client.fetch(&cx, close).await.unwrap();
    assert!(matches!(batch.deliveries[..], [Delivery::Gap(gap)] if gap.before == at(&broker, 4)));
    assert_eq!((batch.place, batch.closed), (Some(at(&broker, 1)), true));
    let request = Subscribe::to("a").unwrap().from(at(&broker, 1)).on_overflow(Overflow::Close);
    let mut closed = client.consume(request).await.unwrap();
    next(&mut closed).await;
    assert!(matches!(next(&mut closed).await, Some(Delivery::Gap(_))));
    assert!(matches!(next(&mut closed).await, Some(Delivery::Link(Link::Ended { retry: None, .. }))));
    assert!(next(&mut closed).await.is_none());
    server.stop().await;
}

#[tokio::test]
async fn snapshots_last_and_earliest_come_as_asked() {
    let broker = Broker::memory();
    for key in ["k1", "k2", "k1"] {
        broker.publish_one(&"a".parse().unwrap(), Message::text(key).with_key(key)).await.unwrap();
    }
    let server = serve(&broker).await;
    let (client, cx) = (server.client(), Context::default());
    for (start, expected) in
        [(Start::Earliest, vec![1, 2, 3]), (Start::Snapshot, vec![2, 3]), (Start::Last, vec![3])]
    {
        let batch = client.fetch(&cx, fetch("a").from(start)).await.unwrap();
        let events = batch.deliveries.into_iter().filter_map(Delivery::into_event);
        let events: Vec<_> = events.map(|event| (event.cursor().seq(), event.is_snapshot())).collect();
        let is_snapshot = start != Start::Earliest;
        assert_eq!(
            events,
            expected.into_iter().map(|seq| (seq, is_snapshot)).collect::<Vec<_>>(),
            "{start:?}"
        );
        assert_eq!(batch.place, Some(at(&broker, 3)));
    }
    server.stop().await;
}

#[tokio::test]
async fn it_publishes_and_is_refused_with_a_reason_and_a_delay() {
    let broker = Broker::memory();
    let server = serve(&broker).await;
    let (client, cx) = (server.client(), Context::default());
    let cursor = client.publish_one(&"a".parse().unwrap(), Message::text("x")).await.unwrap();
    assert_eq!(cursor, at(&broker, 1));
    let mut latest = fetch("a");
    latest.overflow = Overflow::Latest;
    let refused = client.fetch(&cx, latest).await.unwrap_err();
    assert_eq!((refused.kind(), refused.problem().parameter()), (ErrorKind::Invalid, Some("overflow")));
    server.gate.drain().begin();
    let refused = client.fetch(&cx, fetch("a")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(matches!(refused.retry(), Retry::After(delay) if delay >= Duration::from_secs(1)));
    let mut patient = client.consume(Subscribe::to("a").unwrap()).await.unwrap();
    let told = next(&mut patient).await.unwrap();
    assert!(
        matches!(told, Delivery::Link(Link::Reconnecting { delay, .. }) if delay >= Duration::from_secs(1)),
        "what may pass is no refusal: {told:?}"
    );
    server.stop().await;
    let gone = client.fetch(&cx, fetch("a")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn answers_of_others_are_no_pages() {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let answers = || async {
        let json = [(http::header::CONTENT_TYPE, "application/json")];
        let html = [(http::header::CONTENT_TYPE, "text/html")];
        let status = |code| http::StatusCode::from_u16(code).unwrap();
        match TURN.fetch_add(1, Ordering::SeqCst) {
            0 => (status(200), html, "<h1>sign in</h1>".to_owned()),
            1 => (status(200), json, "{\"events\":".to_owned()),
            2 => (status(302), html, String::new()),
            3 => (status(410), html, "gone".to_owned()),
            _ => (status(200), json, "x".repeat(2000)),
        }
    };
    let app = axum::Router::new().fallback(answers);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(axum::serve(listener, app).into_future());
    let client = HttpPollClient::new(&url).unwrap().with_max_answer(1000);
    for kind in [
        ErrorKind::Protocol,
        ErrorKind::Protocol,
        ErrorKind::Protocol,
        ErrorKind::NotFound,
        ErrorKind::TooLarge,
    ] {
        let error = client.fetch(&Context::default(), fetch("a")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    served.abort();
}
