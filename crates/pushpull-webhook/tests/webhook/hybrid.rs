//! Webhook and http-poll as one consumer, while everything that can go wrong with a webhook does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Context, Cursor, Delivery, Event, Fetch, FetchError, Hybrid, Link, Message, Prev, Producer, Pull,
    PushExt, Schedule, Start, StartAt, Subscribe,
};
use pushpull_http::Gate;
use pushpull_http_poll::{HttpPollClient, PollService};
use pushpull_webhook::{
    Receiver, ReceiverConfig, Registration, RetryPolicy, Secret, Webhooks, WebhooksConfig,
};
use tokio::sync::watch;
use tower_service::Service;

use super::{Served, publish, serve, within};

const TOPICS: [&str; 6] = ["a.1", "a.2", "a.3", "b", "c.x", "c.y"];
const ASKED: [&str; 2] = ["a.*", "b"];
/// How far the producer goes ahead.
const AHEAD: usize = 2;

fn asked() -> Subscribe {
    Subscribe::to(ASKED[0]).unwrap().and(ASKED[1]).unwrap()
}

/// The receiver of the consumer's present life, and how many lives it had.
type Life = watch::Sender<(usize, Receiver)>;

/// Brings one request to the receiver, unless that is killed meanwhile.
async fn forward(life: &Life, parts: &http::request::Parts, body: &Bytes) -> StatusCode {
    let mut seen = life.subscribe();
    let (_, receiver) = seen.borrow_and_update().clone();
    let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
    tokio::select! {
        response = receiver.service().call(request) => response.unwrap().status(),
        _ = seen.changed() => StatusCode::BAD_GATEWAY,
    }
}

/// What lies between sender and receiver.
async fn weather(life: Arc<Life>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    match fastrand::u8(0..100) {
        0..6 => StatusCode::INTERNAL_SERVER_ERROR,
        6..11 => StatusCode::NO_CONTENT,
        11..16 => {
            let twice = join_all([forward(&life, &parts, &body), forward(&life, &parts, &body)]).await;
            twice[0].max(twice[1])
        }
        16..19 => {
            forward(&life, &parts, &body).await;
            StatusCode::BAD_GATEWAY
        }
        19..24 => {
            let delay = Duration::from_millis(fastrand::u64(0..30));
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                forward(&life, &parts, &body).await;
            });
            StatusCode::OK
        }
        _ => forward(&life, &parts, &body).await,
    }
}

/// Counts the events that came by poll.
struct Counting(HttpPollClient, Arc<AtomicUsize>);

#[async_trait::async_trait]
impl Pull for Counting {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let batch = self.0.fetch(cx, request).await?;
        self.1.fetch_add(batch.events(), SeqCst);
        Ok(batch)
    }
}

async fn serve_polls(broker: &Broker) -> Served {
    let service = PollService::new(Arc::new(broker.clone()), Gate::open());
    serve(Router::new().route_service("/poll", service)).await
}

/// What the consumer has on disk: its events, and its place, kept together with them.
#[derive(Default)]
struct Disk {
    events: Vec<Event>,
    place: Option<Cursor>,
}

/// One life of the consumer: takes up to `span` deliveries, then is killed, in half the cases before the last one is on
/// disk.
async fn live(
    life: &Life,
    secret: &Secret,
    pull: &Arc<Counting>,
    disk: &Mutex<Disk>,
    span: usize,
    all: usize,
) {
    let receiver = Receiver::new(secret.clone(), ReceiverConfig::default());
    let hybrid = Hybrid::new(Arc::new(receiver.clone()), pull.clone())
        .with_schedule(Schedule::every(Duration::from_millis(200)));
    let start = disk.lock().unwrap().place.map_or(StartAt::Start(Start::Earliest), StartAt::After);
    let mut consumer = hybrid.consume(asked().from(start)).await.unwrap();
    life.send_modify(|present| *present = (present.0 + 1, receiver));
    for taken in 0..span {
        let delivery = consumer.next().await.unwrap().unwrap();
        if taken + 1 == span && fastrand::bool() {
            return;
        }
        let mut disk = disk.lock().unwrap();
        disk.place = delivery.place().or(disk.place);
        match delivery {
            Delivery::Event(event) => disk.events.push(event),
            Delivery::Gap(gap) => panic!("nothing is gone: {gap}"),
            Delivery::Link(Link::Ended { .. }) => panic!("nothing ends"),
            _ => {}
        }
        if disk.events.len() == all {
            return;
        }
    }
}

/// Publishes `count` events that are asked for, and some that are not, no further ahead than [`AHEAD`].
async fn produce(broker: &Broker, disk: &Mutex<Disk>, count: usize) -> Vec<Cursor> {
    let (mut published, topics) = (Vec::new(), asked().topics);
    while published.len() < count {
        while published.len() > disk.lock().unwrap().events.len() + AHEAD {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let topic = fastrand::choice(TOPICS).unwrap().parse().unwrap();
        let message = Message::json(&published.len()).unwrap();
        let cursor = broker.publish(&Context::default(), &topic, &[message]).await.unwrap().last;
        if topics.matches(&topic) {
            published.push(cursor);
        }
    }
    published
}

fn check_chains(events: &[Event]) {
    let mut last = std::collections::HashMap::new();
    for event in events {
        let before = last.insert(event.topic().clone(), event.cursor());
        assert_eq!(event.prev(), before.map_or(Prev::First, Prev::At), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_once_in_order_whatever_the_webhooks_do() {
    let count = std::env::var("PUSHPULL_HYBRID_EVENTS").map_or(4_000, |text| text.parse().unwrap());
    let broker = Broker::memory_with(Retention::default().with_messages(1_000_000));
    let secret = Secret::random().unwrap();
    let nobody = Receiver::new(secret.clone(), ReceiverConfig::default());
    let life: Arc<Life> = Arc::new(watch::Sender::new((0, nobody)));
    let present = life.clone();
    let hook = move |request: Request| {
        let life = present.clone();
        async move { Response::builder().status(weather(life, request).await).body(Body::empty()).unwrap() }
    };
    let hooks = serve(Router::new().route("/hook", axum::routing::post(hook))).await;
    let policy =
        RetryPolicy::default().with_first(Duration::from_millis(1)).with_longest(Duration::from_millis(5));
    let config = WebhooksConfig::default().with_policy(policy).with_allowed("127.0.0.1".parse().unwrap());
    let webhooks = Webhooks::new(Arc::new(broker.clone()), config);
    let registration = Registration::new(hooks.url("/hook"), asked().topics).with_secret(secret.clone());
    webhooks.register(registration).await.unwrap();
    let polls = serve_polls(&broker).await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let pull = Arc::new(Counting(HttpPollClient::new(&polls.url("")).unwrap(), pulled.clone()));
    let disk = Mutex::new(Disk::default());
    let consumed = async {
        while disk.lock().unwrap().events.len() < count {
            live(&life, &secret, &pull, &disk, fastrand::usize(1..400), count).await;
        }
    };
    let (published, ()) = tokio::time::timeout(Duration::from_secs(600), async {
        tokio::join!(produce(&broker, &disk, count), consumed)
    })
    .await
    .expect("it comes to its end");
    let events = std::mem::take(&mut disk.lock().unwrap().events);
    assert_eq!(events.iter().map(Event::cursor).collect::<Vec<_>>(), published, "each once, in order");
    check_chains(&events);
    let (lives, pulled) = (life.borrow().0, pulled.load(SeqCst));
    eprintln!("{count} events, {pulled} of them also or only by poll, {lives} lives");
    assert!(lives >= count / 400, "it was killed all the time");
    assert!(pulled < count * 9 / 10, "many events came by webhook: {pulled} of {count} by poll");
    assert!(pulled > count / 100, "some webhooks were lost: {pulled} of {count} by poll");
}

/// What the way does to deliveries.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Open,
    Down,
    /// Acknowledges gaps, and loses them.
    LosesGaps,
}

/// The chain of no topic shows this loss: without `Pushpull-Gap-Before` the consumer would go on in silence.
#[tokio::test]
async fn a_gap_that_was_acknowledged_and_lost_is_told_all_the_same() {
    let broker = Broker::memory_with(Retention::default().with_messages(1));
    let secret = Secret::random().unwrap();
    let receiver = Receiver::new(secret.clone(), ReceiverConfig::default());
    let way = Arc::new(Mutex::new(Way::Open));
    let (present, target) = (way.clone(), receiver.clone());
    let hook = move |request: Request| {
        let (way, receiver) = (*present.lock().unwrap(), target.clone());
        async move {
            let is_gap = request.headers()["webhook-id"].to_str().unwrap().starts_with("gap-");
            match way {
                Way::Down => StatusCode::INTERNAL_SERVER_ERROR,
                Way::LosesGaps if is_gap => StatusCode::NO_CONTENT,
                _ => receiver.service().call(request).await.unwrap().status(),
            }
        }
    };
    let hooks = serve(Router::new().route("/hook", axum::routing::post(hook))).await;
    let policy =
        RetryPolicy::default().with_first(Duration::from_millis(10)).with_longest(Duration::from_millis(10));
    let config = WebhooksConfig::default().with_policy(policy).with_allowed("127.0.0.1".parse().unwrap());
    let webhooks = Webhooks::new(Arc::new(broker.clone()), config);
    let registration = Registration::new(hooks.url("/hook"), asked().topics).with_secret(secret);
    let id = webhooks.register(registration).await.unwrap().id;
    let polls = serve_polls(&broker).await;
    let pull = Arc::new(HttpPollClient::new(&polls.url("")).unwrap());
    let hybrid =
        Hybrid::new(Arc::new(receiver), pull).with_schedule(Schedule::every(Duration::from_secs(3600)));
    let mut consumer = hybrid.consume(asked()).await.unwrap();
    let mut next = async || match within(consumer.next()).await.unwrap().unwrap() {
        Delivery::Event(event) => format!("{} {}", event.topic(), event.cursor().seq()),
        Delivery::Gap(gap) => format!("{} {}..{}", gap.reason, gap.after.seq(), gap.before.seq()),
        Delivery::Place(place) => format!("place {}", place.seq()),
        other => format!("{other:?}"),
    };
    assert_eq!(next().await, "place 0");
    publish(&broker, "a.1", "x").await;
    assert_eq!(next().await, "a.1 1");
    *way.lock().unwrap() = Way::Down;
    publish(&broker, "a.1", "in hand").await;
    within(async {
        while webhooks.status(id).unwrap().failures == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    for topic in ["a.1", "b", "a.1"] {
        publish(&broker, topic, "x").await;
    }
    *way.lock().unwrap() = Way::LosesGaps;
    let told = [next().await, next().await, next().await, next().await];
    assert_eq!(told, ["a.1 2", "evicted 2..4", "b 4", "a.1 5"]);
}
