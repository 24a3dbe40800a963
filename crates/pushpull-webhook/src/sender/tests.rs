use std::{collections::VecDeque, str::FromStr};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Cursor, Message, ProducerExt, Start, Topics};
use tokio::{sync::Notify, time::Instant};

use super::{carrier::Reply, *};
use crate::{PUSHPULL_AFTER, PUSHPULL_GAP_BEFORE, WEBHOOK_ID, WEBHOOK_TIMESTAMP, verify};

/// What an endpoint does with one request.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Status(u16),
    Asks(u16, u64),
    Breaks,
    Hangs,
}

/// One request that reached it.
#[derive(Clone, Debug)]
struct Got {
    at: Instant,
    headers: HeaderMap,
    body: Bytes,
}

/// An endpoint that takes its turns one by one, and acknowledges from then on.
#[derive(Default)]
struct Script {
    turns: Mutex<VecDeque<Turn>>,
    got: Mutex<Vec<Got>>,
    came: Notify,
}

struct ScriptCarrier(Arc<Script>);

#[async_trait]
impl Carry for ScriptCarrier {
    async fn carry(&mut self, headers: HeaderMap, body: Bytes) -> Result<Reply, String> {
        lock(&self.0.got).push(Got { at: Instant::now(), headers, body });
        self.0.came.notify_one();
        let turn = lock(&self.0.turns).pop_front().unwrap_or(Turn::Status(204));
        let reply = |code, asked: Option<u64>| {
            let status = StatusCode::from_u16(code).unwrap();
            Ok(Reply { status, retry_after: asked.map(Duration::from_secs) })
        };
        match turn {
            Turn::Status(code) => reply(code, None),
            Turn::Asks(code, seconds) => reply(code, Some(seconds)),
            Turn::Breaks => Err("it broke".into()),
            Turn::Hangs => std::future::pending().await,
        }
    }
}

impl Script {
    fn then(turns: impl IntoIterator<Item = Turn>) -> Arc<Self> {
        Arc::new(Self { turns: Mutex::new(turns.into_iter().collect()), ..Self::default() })
    }

    /// Waits for the `count`-th request.
    async fn wait(&self, count: usize) -> Vec<Got> {
        let wait = async {
            loop {
                let got = lock(&self.got).clone();
                if got.len() >= count {
                    return got;
                }
                self.came.notified().await;
            }
        };
        timeout(Duration::from_secs(7 * 24 * 3600), wait).await.unwrap()
    }

    fn count(&self) -> usize {
        lock(&self.got).len()
    }
}

impl Got {
    fn id(&self) -> &str {
        self.headers[WEBHOOK_ID].to_str().unwrap()
    }

    fn seq(&self) -> u64 {
        self.id().parse::<Cursor>().unwrap().seq()
    }

    fn after(&self) -> u64 {
        self.headers[PUSHPULL_AFTER].to_str().unwrap().parse::<Cursor>().unwrap().seq()
    }
}

struct Rig {
    broker: Broker,
    webhooks: Webhooks,
    store: Arc<MemoryStore>,
}

fn config(store: &Arc<MemoryStore>) -> WebhooksConfig {
    let range = Cidr::from_str("127.0.0.0/8").unwrap();
    WebhooksConfig::default().with_store(store.clone()).with_allowed(range).with_max_endpoints(3)
}

/// Requests to `http://127.0.0.1/<n>` go to the n-th script.
fn over(broker: &Broker, config: WebhooksConfig, scripts: Vec<Arc<Script>>) -> Webhooks {
    let carriers = move |_, target: Target| -> Box<dyn Carry> {
        let script: usize = target.path.trim_matches('/').parse().unwrap_or(0);
        Box::new(ScriptCarrier(scripts[script].clone()))
    };
    Webhooks::over(Arc::new(broker.clone()), config, Box::new(carriers))
}

fn rig(scripts: impl IntoIterator<Item = Arc<Script>>) -> Rig {
    let (broker, store) = (Broker::memory(), Arc::default());
    let webhooks = over(&broker, config(&store), scripts.into_iter().collect());
    Rig { broker, webhooks, store }
}

impl Rig {
    async fn publish(&self, topic: &str, count: usize) {
        for n in 0..count {
            self.broker.publish_one(&topic.parse().unwrap(), Message::json(&n).unwrap()).await.unwrap();
        }
    }

    async fn register(&self, topics: &str) -> Registered {
        self.webhooks.register(asks(topics)).await.unwrap()
    }

    fn status(&self, id: EndpointId) -> Status {
        self.webhooks.status(id).unwrap()
    }

    /// Waits until the endpoint's status is as `is` says.
    async fn until(&self, id: EndpointId, is: impl Fn(&Status) -> bool) -> Status {
        let wait = async {
            loop {
                let status = self.status(id);
                if is(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        timeout(Duration::from_secs(7 * 24 * 3600), wait).await.unwrap()
    }
}

fn asks(topics: &str) -> Registration {
    let topics = topics.split(',').map(|text| text.parse().unwrap());
    Registration::new("http://127.0.0.1/0", Topics::new(topics).unwrap())
}

fn seq_of(cursor: Option<Cursor>) -> Option<u64> {
    cursor.map(Cursor::seq)
}

#[tokio::test(start_paused = true)]
async fn events_come_in_order_signed_with_the_place_before() {
    let script = Script::then([]);
    let rig = rig([script.clone()]);
    rig.publish("a.x", 2).await;
    let registered = rig.register("a.*,b").await;
    assert_eq!(seq_of(registered.cursor), Some(2));
    for topic in ["a.x", "other", "b", "a.y"] {
        rig.publish(topic, 1).await;
    }
    let got = script.wait(3).await;
    assert_eq!(got.iter().map(Got::seq).collect::<Vec<_>>(), [3, 5, 6]);
    assert_eq!(got.iter().map(Got::after).collect::<Vec<_>>(), [2, 3, 5]);
    for got in &got {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let secret = [registered.secret.clone()];
        assert_eq!(verify(&secret, &got.headers, &got.body, now, Duration::from_secs(5)), Ok(got.id()));
        assert_eq!(got.headers["content-type"], "application/json");
        assert!(got.body.starts_with(br#"{"topic":""#), "{:?}", got.body);
    }
    let status = rig.until(registered.id, |status| seq_of(status.cursor) == Some(6)).await;
    assert_eq!((status.state, status.failures, status.next_attempt), (State::Active, 0, None));
    assert_eq!(seq_of(rig.store.load().await.unwrap()[0].place), Some(6));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_in_order_with_the_same_id() {
    let script = Script::then([Turn::Status(500), Turn::Breaks, Turn::Status(302), Turn::Status(204)]);
    let rig = rig([script.clone()]);
    let id = rig.register("a").await.id;
    rig.publish("a", 2).await;
    script.wait(2).await;
    let status = rig.until(id, |status| status.failures == 2).await;
    assert!(status.next_attempt.is_some());
    let got = script.wait(5).await;
    assert_eq!(got.iter().map(Got::seq).collect::<Vec<_>>(), [1, 1, 1, 1, 2]);
    assert!(
        got.iter().all(|got| got.body == got_body(got.seq(), &script)),
        "the body is the same on every attempt"
    );
    let delays: Vec<_> = got.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect();
    for (delay, expected) in delays.iter().zip([5.0, 10.0, 20.0, 0.0]) {
        assert!((expected * 0.75 - 0.01..=expected * 1.25 + 0.01).contains(delay), "{delays:?}");
    }
    assert_eq!(rig.until(id, |status| seq_of(status.cursor) == Some(2)).await.failures, 0);
}

fn got_body(seq: u64, script: &Script) -> Bytes {
    lock(&script.got).iter().find(|got| got.seq() == seq).unwrap().body.clone()
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_where_it_may_stand() {
    let turns = [Turn::Asks(429, 100), Turn::Asks(503, 200), Turn::Asks(500, 1000), Turn::Asks(503, 1)];
    let script = Script::then(turns);
    let rig = rig([script.clone()]);
    rig.register("a").await;
    rig.publish("a", 1).await;
    let got = script.wait(5).await;
    let delays: Vec<_> = got.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs()).collect();
    assert_eq!(delays[..2], [100, 200]);
    assert!(delays[2] <= 26 && (29..=51).contains(&delays[3]), "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_its_time() {
    let script = Script::then([Turn::Hangs]);
    let rig = rig([script.clone()]);
    rig.register("a").await;
    rig.publish("a", 1).await;
    let got = script.wait(2).await;
    let delay = (got[1].at - got[0].at).as_secs_f64();
    assert!((18.7..=21.3).contains(&delay), "15 s and the back-off: {delay}");
}

#[tokio::test(start_paused = true)]
async fn gone_disables_at_once_and_enabling_goes_on_from_the_place() {
    let script = Script::then([Turn::Status(200), Turn::Status(410)]);
    let rig = rig([script.clone()]);
    let id = rig.register("a").await.id;
    rig.publish("a", 3).await;
    let status = rig.until(id, |status| status.state != State::Active).await;
    assert_eq!((status.state, seq_of(status.cursor)), (State::Disabled(DisabledBecause::Gone), Some(1)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(script.count(), 2);
    assert!(rig.webhooks.enable(id).await.unwrap());
    let got = script.wait(4).await;
    assert_eq!(got.iter().map(Got::seq).collect::<Vec<_>>(), [1, 2, 2, 3]);
    assert_eq!(rig.status(id).state, State::Active);
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_schedule_disables_and_skips_nothing() {
    let script = Script::then((0..100).map(|_| Turn::Status(500)));
    let rig = rig([script.clone()]);
    let id = rig.register("a").await.id;
    rig.publish("a", 2).await;
    let status = rig.until(id, |status| status.state != State::Active).await;
    assert_eq!((status.state, seq_of(status.cursor)), (State::Disabled(DisabledBecause::Exhausted), Some(0)));
    let got = script.wait(1).await;
    let day = got.last().unwrap().at - got[0].at;
    assert_eq!(day.as_secs(), 24 * 3600, "the last attempt is at the end of the schedule");
    assert!(got.iter().all(|got| got.seq() == 1), "nothing is skipped");
    assert_eq!(rig.store.load().await.unwrap()[0].state, status.state);
}

#[tokio::test(start_paused = true)]
async fn one_dead_endpoint_delays_no_other() {
    let (dead, live) = (Script::then((0..99).map(|_| Turn::Hangs)), Script::then([]));
    let rig = rig([dead.clone(), live.clone()]);
    rig.register("a").await;
    let other = Registration::new("http://127.0.0.1/1", asks("a").topics);
    rig.webhooks.register(other).await.unwrap();
    rig.publish("a", 5).await;
    let since = Instant::now();
    assert_eq!(live.wait(5).await.len(), 5);
    assert!(since.elapsed() < Duration::from_secs(1));
    assert_eq!(dead.wait(1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_at_once_are_bounded_over_all_endpoints() {
    let scripts = [Script::then([Turn::Hangs]), Script::then([])];
    let (broker, store) = (Broker::memory(), Arc::default());
    let webhooks = over(&broker, config(&store).with_concurrency(1), scripts.to_vec());
    let rig = Rig { broker, webhooks, store };
    rig.register("a").await;
    rig.publish("a", 1).await;
    scripts[0].wait(1).await;
    let other = Registration::new("http://127.0.0.1/1", asks("b").topics);
    rig.webhooks.register(other).await.unwrap();
    let since = Instant::now();
    rig.publish("b", 1).await;
    scripts[1].wait(1).await;
    assert!((14..=15).contains(&since.elapsed().as_secs()), "not before the other's time was over");
}

#[tokio::test(start_paused = true)]
async fn gaps_are_deliveries_and_the_event_behind_one_says_so() {
    let script = Script::then([Turn::Status(500)]);
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    let store = Arc::default();
    let webhooks = over(&broker, config(&store), vec![script.clone()]);
    let rig = Rig { broker, webhooks, store };
    rig.publish("a", 1).await;
    let place = rig.broker.place();
    rig.publish("a", 5).await;
    let registered = rig.webhooks.register(asks("a").from(place)).await.unwrap();
    assert_eq!(registered.cursor, Some(place));
    let got = script.wait(4).await;
    let ids: Vec<_> = got.iter().map(Got::id).collect();
    let epoch = place.epoch();
    let gap = format!("gap-{epoch}-5");
    assert_eq!(ids, [&gap, &gap, &format!("{epoch}-5"), &format!("{epoch}-6")]);
    let body = format!(
        r#"{{"gap":{{"after":"{epoch}-1","before":"{epoch}-5","cursor":"{epoch}-1","reason":"evicted"}}}}"#
    );
    assert_eq!(got[0].body, body);
    assert_eq!(got.iter().map(Got::after).collect::<Vec<_>>(), [1, 1, 1, 5], "such a gap moves no place");
    let told: Vec<_> = got.iter().map(|got| got.headers.get(PUSHPULL_GAP_BEFORE).cloned()).collect();
    let told: Vec<_> = told.iter().map(|value| value.as_ref().map(|value| value.to_str().unwrap())).collect();
    assert_eq!(told, [None, None, Some(&*format!("{epoch}-5")), None]);
}

#[tokio::test(start_paused = true)]
async fn places_survive_with_the_store_and_so_does_the_schedule() {
    let script = Script::then([Turn::Status(204), Turn::Status(500)]);
    let rig = rig([script.clone()]);
    let id = rig.register("a").await.id;
    rig.publish("a", 2).await;
    script.wait(2).await;
    rig.until(id, |status| status.failures == 1).await;
    let Rig { broker, webhooks, store } = rig;
    webhooks.stop().await;
    assert!(webhooks.endpoints().is_empty());
    let again = over(&broker, config(&store), vec![script.clone()]);
    assert_eq!(again.resume().await.unwrap(), 1);
    assert_eq!(again.status(id).unwrap().failures, 1);
    let got = script.wait(3).await;
    assert_eq!((got[2].seq(), got[2].after()), (2, 1));
    assert_eq!(again.resume().await.unwrap(), 0, "it runs already");
    assert!(again.remove(id).await.unwrap());
    assert!(!again.remove(id).await.unwrap());
    assert!(store.load().await.unwrap().is_empty());
    assert!(again.status(id).is_none());
    broker.publish_one(&"a".parse().unwrap(), Message::text("x")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(script.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_rotated_under_way() {
    let script = Script::then([]);
    let rig = rig([script.clone()]);
    let old = rig.register("a").await;
    let new = Secret::random().unwrap();
    let verified = |got: &Got, secret: &Secret| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        verify(std::slice::from_ref(secret), &got.headers, &got.body, now, Duration::from_secs(5)).is_ok()
    };
    rig.publish("a", 1).await;
    script.wait(1).await;
    assert!(rig.webhooks.rotate(old.id, new.clone()).await.unwrap());
    rig.publish("a", 1).await;
    script.wait(2).await;
    assert!(rig.webhooks.retire_old_secrets(old.id).await.unwrap());
    rig.publish("a", 1).await;
    let got = script.wait(3).await;
    let by: Vec<_> = got.iter().map(|got| (verified(got, &old.secret), verified(got, &new))).collect();
    assert_eq!(by, [(true, false), (true, true), (false, true)]);
    let nobody = EndpointId::random().unwrap();
    assert!(!rig.webhooks.rotate(nobody, new).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn raw_bodies_are_payloads() {
    let script = Script::then([]);
    let rig = rig([script.clone()]);
    rig.webhooks.register(asks("a").raw()).await.unwrap();
    let message = Message::text("h\u{e4}").with_name("n").with_key("k \u{e4}");
    rig.broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    let got = &script.wait(1).await[0];
    let header = |name: &str| got.headers[name].to_str().unwrap();
    assert_eq!(got.body, "h\u{e4}");
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!((header("pushpull-event"), header("pushpull-key")), ("n", "k%20%C3%A4"));
}

#[tokio::test(start_paused = true)]
async fn starts_are_those_of_a_subscription() {
    let script = Script::then([]);
    let rig = rig([script.clone()]);
    for key in ["k", "l", "k"] {
        rig.broker.publish_one(&"a".parse().unwrap(), Message::text("x").with_key(key)).await.unwrap();
    }
    let registered = rig.webhooks.register(asks("a").from(Start::Snapshot)).await.unwrap();
    assert_eq!(registered.cursor, None, "a snapshot has no place until it is complete");
    let got = script.wait(2).await;
    assert_eq!(got.iter().map(Got::seq).collect::<Vec<_>>(), [2, 3]);
    assert!(got.iter().all(|got| !got.headers.contains_key(PUSHPULL_AFTER)));
    rig.until(registered.id, |status| seq_of(status.cursor) == Some(3)).await;
    rig.publish("a", 1).await;
    assert_eq!(script.wait(3).await[2].after(), 3);
    rig.webhooks.remove(registered.id).await.unwrap();
    let registered = rig.webhooks.register(asks("a").from(Start::Earliest)).await.unwrap();
    assert_eq!(seq_of(registered.cursor), Some(0));
    assert_eq!(script.wait(4).await[3].seq(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_endpoint_keeps_up_without_moving_its_place() {
    let script = Script::then([]);
    let rig = rig([script.clone()]);
    let id = rig.register("a").await.id;
    rig.publish("other", 5).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let record = rig.store.load().await.unwrap().remove(0);
    assert_eq!((seq_of(record.place), seq_of(record.scanned)), (Some(0), Some(5)));
    assert_eq!(seq_of(rig.status(id).cursor), Some(0));
    rig.publish("a", 1).await;
    assert_eq!(script.wait(1).await[0].after(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_an_endpoint_is_refused() {
    let rig = rig([Script::then([])]);
    let refused = |url: &str| {
        let registration = Registration::new(url, asks("a").topics);
        let webhooks = rig.webhooks.clone();
        async move { webhooks.register(registration).await.unwrap_err() }
    };
    for url in ["http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest", "ftp://127.0.0.1/", "x"]
    {
        let problem = refused(url).await;
        assert_eq!((problem.kind(), problem.parameter()), (ErrorKind::Invalid, Some("url")), "{url}");
    }
    for _ in 0..3 {
        rig.register("a").await;
    }
    assert_eq!(refused("http://127.0.0.1/0").await.kind(), ErrorKind::Busy);
    assert_eq!(rig.webhooks.endpoints().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn timestamps_are_those_of_the_attempt() {
    let script = Script::then([Turn::Status(500)]);
    let rig = rig([script.clone()]);
    rig.register("a").await;
    rig.publish("a", 1).await;
    let got = script.wait(2).await;
    for got in got {
        let told: u64 = got.headers[WEBHOOK_TIMESTAMP].to_str().unwrap().parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(told) <= 5);
    }
}
