//! Falling back, and coming back up, over real servers behind proxies that spoil one transport after another.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use pushpull::{
    Backend, Batch, Broker, ConnectOptions, Delivery, ErrorKind, Fetch, FetchError, Gate, Link, Message,
    Overflow, Producer, PublishError, Published, Pull, Push, PushExt, Retention, Server, Source, Start,
    Subscribe, SubscribeError, Subscription, Topic, Transport, async_trait,
};
use pushpull_testkit::{
    Capabilities, Capability, Failure, Harness, PROMISES, Reader, Trial,
    proxy::{Buffering, Cuts, Door, Faults, Proxy, Upgrade},
};
use tokio::time::{sleep, timeout};

use crate::{Running, next_event, page, topic};

/// How long a step may take: two openings that fail late, and then some.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time between two events: long enough for a waiting poll to be cut first.
const PERIOD: Duration = Duration::from_millis(150);
/// Events of a topic that are retained.
const RETAINS: usize = 256;
/// How often a server tells a quiet consumer its place.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

fn stripped() -> Faults {
    Faults::none().with_upgrade(Upgrade::Stripped)
}

fn buffered() -> Faults {
    stripped().with_buffering(Buffering::Whole)
}

fn impatient() -> Faults {
    buffered().with_patience(Duration::from_millis(70))
}

fn quick() -> ConnectOptions {
    ConnectOptions::new()
        .with_interval(Duration::from_millis(40))
        .with_patience(Duration::from_millis(1500))
        .with_probe_interval(Duration::from_millis(150))
}

/// A broker behind a server behind a proxy, and a source that goes through them all.
struct Stage {
    broker: Broker,
    running: Running,
    proxy: Proxy,
    source: Source,
}

impl Stage {
    async fn start() -> Self {
        Self::start_with(quick()).await
    }

    async fn start_with(options: ConnectOptions) -> Self {
        let broker = Broker::memory_with(Retention::default().with_messages(RETAINS));
        let gate = Gate::builder().with_keep_alive(KEEP_ALIVE).build().unwrap();
        let running = Running::start(Server::new(broker.clone()).with_gate(gate)).await;
        let proxy = Proxy::start(running.address(), 1).await.unwrap();
        let source = options.connect(&proxy.url()).await.unwrap();
        Self { broker, running, proxy, source }
    }

    /// Does `faults` to what is there and what comes.
    fn spoil(&self, faults: Faults) {
        self.proxy.set(faults);
        self.proxy.cut();
    }
}

#[async_trait]
impl Harness for Stage {
    fn name(&self) -> &str {
        "fallback"
    }

    fn capabilities(&self) -> Capabilities {
        use Capability::{Credit, Cut, Heartbeat, Publish, Snapshot};
        [Credit, Cut, Heartbeat, Publish, Snapshot].into_iter().fold(Capabilities::NONE, Capabilities::with)
    }

    fn retains(&self) -> usize {
        RETAINS
    }

    async fn publish(&self, topic: &Topic, messages: &[Message]) -> Result<Published, PublishError> {
        self.broker.publish(&pushpull::Context::default(), topic, messages).await
    }

    async fn consume(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.source.consume(request).await
    }

    async fn read(&self, request: Fetch) -> Result<Batch, FetchError> {
        self.broker.fetch(&pushpull::Context::default(), request).await
    }

    async fn cut(&self) {
        self.proxy.cut();
    }
}

/// Reads until an event has come by `transport`.
async fn until(reader: &mut Reader, transport: &str) -> Result<(), Failure> {
    let reached = async {
        loop {
            let is_event = matches!(reader.next().await?, Some(Delivery::Event(_)));
            if is_event && reader.subscription().transport() == Some(transport) {
                return Ok(());
            }
        }
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("never by {transport}"))
}

/// Publishes on and on beside `steps`, and judges what `reader` was told.
async fn hold(stage: &Stage, steps: impl AsyncFnOnce(&mut Reader) -> Result<(), Failure>) {
    let trial = Trial::new(stage, "steps");
    let mut reader = trial.reader("*", trial.asking("*").unwrap()).await.unwrap();
    let publishing = async {
        loop {
            trial.publish_many(&["a", "b"], 2).await.unwrap();
            sleep(PERIOD).await;
        }
    };
    tokio::select! {
        stepped = steps(&mut reader) => stepped.unwrap(),
        () = publishing => {}
    }
    let last = trial.publish("a").await.unwrap();
    reader.reach(last).await.unwrap();
    trial.keep(reader);
    trial.judge().await.unwrap();
}

#[tokio::test]
async fn it_goes_down_and_up_every_step_with_each_event_once() {
    let stage = Stage::start().await;
    hold(&stage, async |reader| {
        until(reader, "ws").await?;
        stage.spoil(stripped());
        until(reader, "sse").await?;
        stage.spoil(buffered());
        until(reader, "longpoll").await?;
        stage.spoil(impatient());
        until(reader, "poll").await?;
        for (faults, transport) in [(buffered(), "longpoll"), (stripped(), "sse"), (Faults::none(), "ws")] {
            stage.proxy.set(faults);
            until(reader, transport).await?;
        }
        Ok(())
    })
    .await;
    assert!(stage.running.stop().await);
}

#[tokio::test]
async fn it_goes_down_all_steps_at_once_and_up_again() {
    let stage = Stage::start().await;
    stage.proxy.set(impatient());
    hold(&stage, async |reader| {
        until(reader, "poll").await?;
        stage.proxy.set(Faults::none());
        until(reader, "ws").await?;
        stage.spoil(buffered().with_buffering(Buffering::Body));
        until(reader, "longpoll").await?;
        stage.proxy.set(Faults::none());
        until(reader, "ws").await
    })
    .await;
    assert!(stage.running.stop().await);
}

/// Notes by which transports events come to one more consumer, on and on.
async fn watch(stage: &Stage, seen: &Mutex<BTreeSet<&'static str>>) {
    let mut watching = stage.source.consume(Subscribe::to(">").unwrap()).await.unwrap();
    while let Some(delivery) = watching.next().await {
        if let (Delivery::Event(_), Some(transport)) = (delivery.unwrap(), watching.transport()) {
            seen.lock().unwrap().insert(transport);
        }
    }
}

/// Holds a source to every promise while `spoil` has its way with the proxy, and until events have come by all of
/// `transports`; says by which they came.
async fn keeps_every_promise(
    transports: &[&'static str],
    spoil: impl AsyncFn(&Proxy),
) -> BTreeSet<&'static str> {
    // Every subscription meets what holds the best transports back.
    let stage = Stage::start_with(quick().with_patience(Duration::from_millis(250))).await;
    let seen = Mutex::new(BTreeSet::new());
    let promises = async {
        for promise in PROMISES {
            promise.verify(&stage).await.settle(&["fallback", promise.name]);
        }
        while !transports.iter().all(|transport| seen.lock().unwrap().contains(transport)) {
            stage.broker.publish_text("on and on").await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        // Before anybody connects.
        biased;
        () = spoil(&stage.proxy) => panic!("it goes on until the promises are kept"),
        () = watch(&stage, &seen) => panic!("the watch was ended"),
        () = promises => {}
    }
    seen.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_by_the_best_transport() {
    // Not by it alone: a promise of which connections are cut takes a step down.
    keeps_every_promise(&["ws"], async |_| std::future::pending().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_by_the_last_transport() {
    let spoil = async |proxy: &Proxy| {
        proxy.set(impatient());
        std::future::pending().await
    };
    let seen = keeps_every_promise(&["poll"], spoil).await;
    assert!(!seen.contains("ws") && !seen.contains("sse"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_while_the_proxy_changes_its_mind() {
    let spoil = async |proxy: &Proxy| {
        let mut random = fastrand::Rng::with_seed(7);
        loop {
            let torn = Faults::none().with_cuts(Cuts::within(1..=4096));
            let closed = Faults::none().with_door(Door::Refused);
            let faults = [Faults::none(), stripped(), buffered(), impatient(), torn, closed];
            let mind = random.usize(..faults.len());
            proxy.set(faults[mind].clone());
            if random.bool() {
                proxy.cut();
            }
            // The way down to the last takes two lost connections of the one before.
            let longest = if faults[mind] == impatient() { 4000 } else { 600 };
            sleep(Duration::from_millis(random.u64(50..longest))).await;
        }
    };
    let every = ["ws", "sse", "longpoll", "poll"];
    let seen = timeout(Duration::from_secs(120), keeps_every_promise(&every, spoil)).await;
    assert_eq!(seen.expect("every step is taken"), BTreeSet::from(every));
}

#[tokio::test]
async fn a_server_that_is_down_is_met_again_at_the_top() {
    let stage = Stage::start().await;
    let mut news = stage.source.consume(Subscribe::to("news.*").unwrap()).await.unwrap();
    stage.broker.publish_text("before").await;
    assert_eq!(next_event(&mut news).await.1, "before");
    stage.spoil(Faults::none().with_door(Door::Refused));
    let mut causes = Vec::new();
    while causes.len() < 4 {
        if let Delivery::Link(Link::Reconnecting { cause, .. }) = news.next().await.unwrap().unwrap() {
            causes.push(cause.expect("a cause").kind());
        }
    }
    assert_eq!(causes, [ErrorKind::Unavailable; 4]);
    stage.broker.publish_text("meanwhile").await;
    stage.proxy.set(Faults::none());
    assert_eq!(next_event(&mut news).await.1, "meanwhile");
    assert_eq!(news.transport(), Some("ws"));
    drop(news);
    assert!(stage.running.stop().await);
}

#[tokio::test]
async fn a_server_that_says_goodbye_is_left_by_the_same_transport() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_retry_spread(Duration::from_millis(100)).build().unwrap();
    let old = Running::start(Server::new(broker.clone()).with_gate(gate)).await;
    let new = Running::start(Server::new(broker.clone())).await;
    let proxy = Proxy::start(old.address(), 1).await.unwrap();
    let never = Duration::from_secs(3600);
    let source = quick().with_probe_interval(never).connect(&proxy.url()).await.unwrap();
    let mut news = source.consume(Subscribe::to("news.*").unwrap().from(Start::Earliest)).await.unwrap();
    broker.publish_text("before").await;
    assert_eq!(next_event(&mut news).await.1, "before");
    proxy.lead_to(new.address());
    let goodbye = async {
        while !matches!(news.next().await, Some(Ok(Delivery::Link(Link::Reconnecting { cause: None, .. })))) {
        }
    };
    assert!(tokio::join!(old.stop(), goodbye).0);
    broker.publish_text("after").await;
    assert_eq!(next_event(&mut news).await.1, "after");
    assert_eq!(news.transport(), Some("ws"));
    drop(news);
    assert!(new.stop().await);
}

trait PublishText {
    async fn publish_text(&self, text: &str);
}

impl PublishText for Broker {
    async fn publish_text(&self, text: &str) {
        pushpull::ProducerExt::publish_one(self, &topic(), Message::text(text)).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_server_does_not_serve_is_passed_over() {
    let broker = Broker::memory();
    broker.publish_text("pulled").await;
    let running = Running::start(Server::new(Backend::new().with_pull(broker))).await;
    let source = quick().connect(&running.url).await.unwrap();
    assert_eq!(source.transport(), Transport::Ws);
    let every = [Transport::Ws, Transport::Sse, Transport::Longpoll, Transport::Poll];
    assert_eq!(source.transports(), every);
    // What polls do not know is asked for as what loses nothing.
    let wanted = Subscribe::to("news.*").unwrap().from(Start::Earliest).on_overflow(Overflow::Latest);
    let mut news = source.consume(wanted).await.unwrap();
    assert_eq!(next_event(&mut news).await.1, "pulled");
    assert_eq!(news.transport(), Some("longpoll"));
    drop(news);
    assert!(running.stop().await);
}

#[tokio::test]
async fn what_every_transport_is_told_alike_is_told() {
    let running = Running::start(page()).await;
    for (path, kind, questions) in [
        ("/secret", ErrorKind::Unauthenticated, 4),
        ("/forbidden", ErrorKind::Forbidden, 4),
        ("/nowhere", ErrorKind::NotFound, 4),
        ("", ErrorKind::Protocol, 4),
    ] {
        let proxy = Proxy::start(running.address(), 1).await.unwrap();
        let source = quick().connect(&format!("{}{path}", proxy.url())).await.unwrap();
        let refused = source.subscribe(&Default::default(), Subscribe::to("a").unwrap()).await.unwrap_err();
        assert_eq!((refused.kind(), proxy.accepted()), (kind, questions), "{path}: {refused}");
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_pinned_transport_falls_nowhere() {
    let stage = Stage::start().await;
    stage.proxy.set(impatient());
    let at = |scheme| stage.proxy.url().replace("http", scheme);
    let ws = quick().connect(&at("ws")).await.unwrap();
    assert_eq!(ws.transports(), [Transport::Ws]);
    let refused = ws.consume(Subscribe::to("a").unwrap()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let longpoll = quick().connect(&at("longpoll+http")).await.unwrap();
    let mut news = longpoll.consume(Subscribe::to("news.*").unwrap()).await.unwrap();
    for _ in 0..3 {
        while !matches!(news.next().await, Some(Ok(Delivery::Link(Link::Reconnecting { .. })))) {}
        assert_eq!(news.transport(), Some("longpoll"));
    }
    drop(news);
    assert!(stage.running.stop().await);
}
