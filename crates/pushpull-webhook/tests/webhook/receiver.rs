//! What the receiver takes, and what it answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use http::{Method, Request};
use pushpull_core::{
    Context, Cursor, Delivery, Epoch, ErrorKind, Event, EventParts, Gap, GapReason, Link, Message, Prev,
    Push, PushExt, PushHinted, PushedItem, Start, Subscribe, Subscription,
};
use pushpull_http::json::{event_json, gap_json};
use pushpull_webhook::{
    PUSHPULL_AFTER, PUSHPULL_GAP_BEFORE, Receiver, ReceiverConfig, Secret, WEBHOOK_ID, WEBHOOK_SIGNATURE,
    WEBHOOK_TIMESTAMP, sign,
};
use tokio::task::JoinHandle;
use tower_service::Service;

use super::within;

fn at(seq: u64) -> Cursor {
    Cursor::new(Epoch::from_random(7), seq)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn secret() -> Secret {
    Secret::from_bytes(&[5; 32]).unwrap()
}

fn receiver() -> Receiver {
    Receiver::new(secret(), ReceiverConfig::default().with_hold(Duration::from_millis(300)))
}

/// A delivery to be signed and sent.
#[derive(Clone)]
struct Sent {
    id: String,
    timestamp: u64,
    after: Option<Cursor>,
    gap_before: Option<Cursor>,
    body: Vec<u8>,
}

fn event(topic: &str, seq: u64, prev: Prev) -> Event {
    let (topic, message) = (topic.parse().unwrap(), Message::text("x"));
    Event::new(EventParts { topic, cursor: at(seq), prev, time_ms: 1, message })
}

fn sent(after: u64, seq: u64) -> Sent {
    of(after, &event("a", seq, Prev::Unknown))
}

fn of(after: u64, event: &Event) -> Sent {
    let (id, body) = (event.cursor().to_string(), event_json(event).to_vec());
    Sent { id, timestamp: now(), after: Some(at(after)), gap_before: None, body }
}

fn gap(after: u64, before: u64) -> Sent {
    let gap = Gap::new(at(after), at(before), at(after), GapReason::Evicted);
    let (id, body) = (format!("gap-{}", at(before)), gap_json(&gap).into_bytes());
    Sent { id, timestamp: now(), after: Some(at(after)), gap_before: None, body }
}

impl Sent {
    fn request(&self, secret: &Secret) -> Request<Body> {
        let mut request = Request::post("/hook").header("content-type", "application/json");
        request = request.header(WEBHOOK_ID, &self.id).header(WEBHOOK_TIMESTAMP, self.timestamp);
        request = request.header(WEBHOOK_SIGNATURE, sign([secret], &self.id, self.timestamp, &self.body));
        for (name, cursor) in [(PUSHPULL_AFTER, self.after), (PUSHPULL_GAP_BEFORE, self.gap_before)] {
            if let Some(cursor) = cursor {
                request = request.header(name, cursor.to_string());
            }
        }
        request.body(Body::from(self.body.clone())).unwrap()
    }
}

async fn call(receiver: &Receiver, request: Request<Body>) -> (u16, bool) {
    let response = within(receiver.service().call(request)).await.unwrap();
    (response.status().as_u16(), response.headers().contains_key("retry-after"))
}

/// Sends it in the background: it is answered only once it is taken.
fn send(receiver: &Receiver, sent: &Sent) -> JoinHandle<u16> {
    let (receiver, request) = (receiver.clone(), sent.request(&secret()));
    tokio::spawn(async move { call(&receiver, request).await.0 })
}

async fn next(subscription: &mut Subscription) -> String {
    match within(subscription.next()).await.unwrap().unwrap() {
        Delivery::Event(event) => format!("{} {}", event.topic(), event.cursor().seq()),
        Delivery::Place(place) => format!("place {}", place.seq()),
        Delivery::Gap(gap) => format!("{} {}..{}", gap.reason, gap.after.seq(), gap.before.seq()),
        Delivery::Link(Link::Ended { .. }) => "ended".into(),
        other => format!("{other:?}"),
    }
}

async fn consume(receiver: &Receiver) -> Subscription {
    receiver.consume(Subscribe::to("a").unwrap()).await.unwrap()
}

#[tokio::test]
async fn it_answers_once_its_consumer_has_the_event() {
    let receiver = receiver();
    let mut consumer = consume(&receiver).await;
    let answer = send(&receiver, &sent(4, 7));
    tokio::task::yield_now().await;
    assert!(!answer.is_finished());
    assert_eq!([next(&mut consumer).await, next(&mut consumer).await], ["place 4", "a 7"]);
    assert_eq!(within(answer).await.unwrap(), 204);
    assert_eq!(consumer.place(), Some(at(7)));
}

#[tokio::test]
async fn while_nobody_takes_it_is_503_and_may_come_again() {
    let receiver = receiver();
    let delivery = sent(4, 7);
    assert_eq!(call(&receiver, delivery.request(&secret())).await, (503, true), "no consumer");
    let mut consumer = consume(&receiver).await;
    assert_eq!(call(&receiver, delivery.request(&secret())).await, (503, true), "it does not take");
    let answer = send(&receiver, &delivery);
    assert_eq!([next(&mut consumer).await, next(&mut consumer).await], ["place 4", "a 7"]);
    let taking = tokio::spawn(async move { next(&mut consumer).await });
    assert_eq!(within(answer).await.unwrap(), 204, "the first copy was taken, the second is a repeat");
    taking.abort();
    let _ = taking.await;
    assert_eq!(call(&receiver, sent(7, 8).request(&secret())).await, (503, true), "the consumer is gone");
}

#[tokio::test]
async fn a_replay_is_acknowledged_and_not_taken_twice() {
    let receiver = receiver();
    let mut consumer = consume(&receiver).await;
    let answer = send(&receiver, &sent(4, 7));
    assert_eq!([next(&mut consumer).await, next(&mut consumer).await], ["place 4", "a 7"]);
    assert_eq!(within(answer).await.unwrap(), 204);
    drop(consumer);
    assert_eq!(call(&receiver, sent(4, 7).request(&secret())).await.0, 204, "nobody has to take it again");
    let mut consumer = consume_hinted(&receiver).await;
    let answer = send(&receiver, &sent(7, 8));
    assert_eq!(consumer.next_place().await, (Some(at(7)), 8), "the replay did not come");
    assert_eq!(within(answer).await.unwrap(), 204);
}

#[tokio::test]
async fn what_is_no_delivery_is_refused() {
    let receiver = receiver();
    let _consumer = consume(&receiver).await;
    let other = Secret::from_bytes(&[6; 32]).unwrap();
    let good = sent(4, 7);
    let with = |change: &dyn Fn(&mut Sent)| {
        let mut sent = good.clone();
        change(&mut sent);
        sent.request(&secret())
    };
    let bare = |change: &dyn Fn(&mut Request<Body>)| {
        let mut request = good.request(&secret());
        change(&mut request);
        request
    };
    for (name, request, status) in [
        ("another's", good.request(&other), 401),
        ("too old", with(&|sent| sent.timestamp -= 301), 401),
        ("too new", with(&|sent| sent.timestamp += 302), 401),
        ("no id", bare(&|request| drop(request.headers_mut().remove(WEBHOOK_ID))), 400),
        ("another id", with(&|sent| sent.id = at(8).to_string()), 400),
        ("no JSON", with(&|sent| sent.body = b"x".to_vec()), 400),
        ("no event", with(&|sent| sent.body = b"{}".to_vec()), 400),
        ("another type", bare(&|request| drop(request.headers_mut().remove("content-type"))), 415),
        ("another method", bare(&|request| *request.method_mut() = Method::GET), 405),
        ("too large", with(&|sent| sent.body = vec![b' '; 9 << 20]), 413),
        (
            "no cursor",
            bare(&|request| drop(request.headers_mut().insert(PUSHPULL_AFTER, "x".parse().unwrap()))),
            400,
        ),
    ] {
        assert_eq!(call(&receiver, request).await.0, status, "{name}");
    }
}

#[tokio::test]
async fn secrets_are_rotated() {
    let receiver = receiver();
    let new = Secret::from_bytes(&[6; 32]).unwrap();
    for (secrets, expected) in [(vec![secret(), new.clone()], [503, 503]), (vec![new.clone()], [401, 503])] {
        receiver.set_secrets(secrets);
        let old = call(&receiver, sent(4, 7).request(&secret())).await.0;
        assert_eq!([old, call(&receiver, sent(4, 7).request(&new)).await.0], expected);
    }
}

#[tokio::test]
async fn deliveries_at_once_are_bounded() {
    let config = ReceiverConfig::default().with_deliveries(1).with_hold(Duration::from_secs(20));
    let receiver = Receiver::new(secret(), config);
    let mut consumer = consume(&receiver).await;
    let first = send(&receiver, &sent(4, 7));
    tokio::task::yield_now().await;
    assert_eq!(call(&receiver, sent(7, 8).request(&secret())).await, (503, true));
    assert_eq!([next(&mut consumer).await, next(&mut consumer).await], ["place 4", "a 7"]);
    assert_eq!(within(first).await.unwrap(), 204);
}

#[tokio::test]
async fn as_a_plain_push_it_hides_no_loss_and_repeats_nothing() {
    let receiver = receiver();
    let mut consumer = receiver.consume(Subscribe::to("a").unwrap().from(at(4))).await.unwrap();
    for (delivery, told) in [
        (sent(4, 7), &["place 4", "a 7"][..]),
        (sent(9, 10), &["lagged 7..10", "a 10"]),
        (sent(7, 9), &[]),
        (of(10, &event("b", 11, Prev::Unknown)), &["place 11"]),
        (of(11, &event("a", 15, Prev::At(at(13)))), &["lagged 11..14", "a 15"]),
        (gap(15, 20), &["evicted 15..20"]),
        (sent(15, 20), &["a 20"]),
    ] {
        let answer = send(&receiver, &delivery);
        for told in told {
            assert_eq!(next(&mut consumer).await, *told, "{}", delivery.id);
        }
        if told.is_empty() {
            let silent = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
            assert!(silent.is_err());
        }
        assert_eq!(within(answer).await.unwrap(), 204, "{}", delivery.id);
    }
    let mut foreign = event("a", 30, Prev::Unknown);
    foreign = Event::new(EventParts {
        topic: foreign.topic().clone(),
        cursor: Cursor::new(Epoch::from_random(8), 30),
        prev: Prev::Unknown,
        time_ms: 1,
        message: foreign.message().clone(),
    });
    let mut delivery = of(0, &foreign);
    delivery.after = Some(Cursor::new(Epoch::from_random(8), 29));
    let answer = send(&receiver, &delivery);
    assert_eq!([next(&mut consumer).await, next(&mut consumer).await], ["reset 20..30", "a 30"]);
    assert_eq!(within(answer).await.unwrap(), 204);
}

#[tokio::test]
async fn it_has_one_consumer_at_a_time_and_asks_nothing_back() {
    let receiver = receiver();
    let request = || Subscribe::to("a").unwrap();
    for start in [Start::Earliest, Start::Snapshot, Start::Last] {
        let refused = receiver.consume(request().from(start)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{start:?}");
    }
    let first = consume(&receiver).await;
    let refused = receiver.subscribe(&Context::default(), request()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    drop(first);
    let mut second = consume(&receiver).await;
    drop(receiver);
    assert_eq!(next(&mut second).await, "ended");
    assert!(within(second.next()).await.is_none());
}

struct Hinted(pushpull_core::PushedStream);

impl Hinted {
    async fn next_place(&mut self) -> (Option<Cursor>, u64) {
        use futures_util::StreamExt as _;
        let pushed = within(self.0.next()).await.unwrap();
        let (item, receipt) = pushed.into_parts();
        receipt.unwrap().give();
        match item {
            PushedItem::Event { after, event } => (after, event.cursor().seq()),
            PushedItem::Gap(gap) => (None, gap.before.seq()),
            other => panic!("{other}"),
        }
    }
}

async fn consume_hinted(receiver: &Receiver) -> Hinted {
    let topics = Subscribe::to("a").unwrap().topics;
    Hinted(receiver.subscribe_hinted(&Context::default(), &topics).await.unwrap())
}

#[tokio::test]
async fn hints_are_the_places_before_and_lie_behind_a_gap_that_was_told() {
    let receiver = receiver();
    let mut hinted = consume_hinted(&receiver).await;
    let behind_gap = Sent { gap_before: Some(at(20)), ..sent(15, 25) };
    let without = Sent { after: None, ..sent(0, 26) };
    for (delivery, expected) in [
        (sent(4, 7), (Some(at(4)), 7)),
        (gap(15, 20), (None, 20)),
        (behind_gap, (Some(at(19)), 25)),
        (without, (None, 26)),
    ] {
        let answer = send(&receiver, &delivery);
        assert_eq!(hinted.next_place().await, expected);
        assert_eq!(within(answer).await.unwrap(), 204);
    }
}
