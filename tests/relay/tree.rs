//! A tree of brokers over different transports: a root, a relay, a relay of the relay.

use std::time::Duration;

use async_trait::async_trait;
use pushpull_broker::{Broker, RelayEngine, Retention};
use pushpull_core::{
    Batch, Context, Cursor, Delivery, Epochs, ErrorKind, Fetch, FetchError, GapReason, Message, Outcome,
    Producer, ProducerExt, PublishError, Published, Pull, Push, PushExt, Start, Subscribe, SubscribeError,
    Subscription, Topic,
};
use pushpull_testkit::{
    Capabilities, Failure, Harness, Reader, Trial,
    history::{History, Publish, Seen, Session, Source},
    proxy::{Door, Faults, Flow, Proxy},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::support::{Client, Half, Node};

const PATIENCE: Duration = Duration::from_secs(20);

/// Three levels; between the root and the first relay lies a fault proxy.
pub(crate) struct Tree {
    pub(crate) root: Broker,
    relay: Broker,
    leaf: Broker,
    pub(crate) proxy: Proxy,
    pub(crate) nodes: [Node; 3],
    /// Events of a topic that the root retains.
    retains: usize,
}

async fn relay_over(client: Client, retention: Retention) -> Broker {
    let engine = RelayEngine::new(client.clone()).with_producer(client);
    Broker::open(engine, retention).await.unwrap()
}

impl Tree {
    /// Its relays follow by `first` and `second`.
    async fn grow(first: Half, second: Half) -> Self {
        Self::grow_from(Retention::default().with_messages(100_000), first, second).await
    }

    /// Every level retains as `retention` says.
    pub(crate) async fn grow_from(retention: Retention, first: Half, second: Half) -> Self {
        let retains = retention.messages;
        let root = Broker::memory_with(retention.clone());
        let root_node = Node::serve(root.clone(), false).await;
        let proxy = Proxy::start(root_node.address, 7).await.unwrap();
        let relay = relay_over(first.client(&proxy.url()), retention.clone()).await;
        let relay_node = Node::serve(relay.clone(), false).await;
        let leaf = relay_over(second.client(&relay_node.url()), retention).await;
        let leaf_node = Node::serve(leaf.clone(), false).await;
        Self { root, relay, leaf, proxy, nodes: [root_node, relay_node, leaf_node], retains }
    }

    /// The way to a level, past the proxy.
    fn way(&self, level: usize, half: Half) -> Way {
        let name = format!("level {level} by {half:?}");
        let client = half.client(&self.nodes[level].url());
        Way { name, client, root: self.root.clone(), retains: self.retains }
    }

    async fn settle(&self) {
        for node in [&self.relay, &self.leaf] {
            reach(node, self.root.place()).await;
        }
    }

    /// Lets the first relay reach nobody, until it is [let in](Self::let_in).
    async fn cut_off(&self) {
        self.proxy.set(Faults::none().with_door(Door::Refused));
        self.proxy.cut();
        let is_down = async {
            while self.relay.stats().engine_up {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, is_down).await.expect("the relay sees that it is cut off");
    }

    fn let_in(&self) {
        self.proxy.set(Faults::none());
    }

    /// Puts an empty root, of another epoch, in the place of the old one, at the address that the relay knows.
    async fn restart(&mut self) {
        self.root = Broker::memory();
        let node = Node::serve(self.root.clone(), false).await;
        self.proxy.lead_to(node.address);
        self.nodes[0] = node;
        self.proxy.cut();
    }
}

async fn reach(broker: &Broker, place: Cursor) {
    let standing = async {
        while broker.place() != place {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, standing).await.unwrap_or_else(|_| panic!("{} is not {place}", broker.place()));
}

/// A client half of one of the nodes; what the source holds is read at the root.
#[derive(Clone)]
struct Way {
    name: String,
    client: Client,
    root: Broker,
    retains: usize,
}

#[async_trait]
impl Harness for Way {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    fn retains(&self) -> usize {
        self.retains
    }

    async fn publish(&self, topic: &Topic, messages: &[Message]) -> Result<Published, PublishError> {
        self.client.publish(&Context::default(), topic, messages).await
    }

    async fn consume(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.client.subscribe(&Context::default(), request).await
    }

    async fn read(&self, request: Fetch) -> Result<Batch, FetchError> {
        self.root.fetch(&Context::default(), request).await
    }

    async fn cut(&self) {}
}

/// How a consumer comes to each level.
const WAYS: [(usize, Half); 6] = [
    (0, Half::Sse),
    (1, Half::Ws),
    (1, Half::Longpoll),
    (2, Half::Grpc),
    (2, Half::HttpPoll),
    (2, Half::Sse),
];

/// Publishes at the root and at the leaf while the root is cut off now and then.
async fn publish(trial: &Trial<'_>, tree: &Tree, leaf: &Way) -> Result<Cursor, Failure> {
    let mut beat = interval(Duration::from_millis(5));
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0..100 {
        beat.tick().await;
        trial.publish_many(&["a", "b.x", "b.y"], 6).await?;
        if n % 20 == 7 {
            tree.proxy.cut();
        }
        if n % 20 == 15 {
            let answered = trial.publish_over(leaf, "a", &[trial.message()]).await;
            assert!(answered.is_ok(), "{answered:?}");
        }
    }
    trial.publish("a").await
}

async fn carries(first: Half, second: Half) -> Result<(), Failure> {
    let tree = Tree::grow(first, second).await;
    let (source, leaf) = (tree.way(0, Half::Ws), tree.way(2, Half::Ws));
    let trial = Trial::new(&source, "tree");
    let (goal, told) = watch::channel(None);
    let mut following = JoinSet::new();
    for (level, half) in WAYS {
        for name in ["a", "b.*", ">"] {
            let way = tree.way(level, half);
            let reader =
                trial.reader_over(&way, &format!("{name} at {}", way.name), trial.asking(name)?).await?;
            following.spawn(reader.follow(told.clone()));
        }
    }
    let last = publish(&trial, &tree, &leaf).await?;
    goal.send_replace(Some(last));
    while let Some(reader) = following.join_next().await {
        let reader = reader.expect("no panic")?;
        assert_eq!(reader.session().gaps().count(), 0, "{}", reader.session().name);
        trial.keep(reader);
    }
    assert!(tree.proxy.cut_count() >= 5);
    trial.judge().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_by_websocket_and_grpc_carries_everything_once() {
    carries(Half::Ws, Half::Grpc).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_by_long_polling_and_sse_carries_everything_once() {
    carries(Half::Longpoll, Half::Sse).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_any_level_is_one_of_every_level() {
    let tree = Tree::grow(Half::Sse, Half::Ws).await;
    // So that the relays are behind it.
    tree.proxy.set_flow(Flow::Delay(Duration::from_millis(30)));
    let source = tree.way(0, Half::Ws);
    let trial = Trial::new(&source, "levels");
    let mut reader: Reader = trial.reader("wanderer", trial.asking(">").unwrap()).await.unwrap();
    reader.first_word().await.unwrap();
    for level in [1, 2, 0, 2, 1, 0] {
        let last = trial.publish_many(&["a", "b"], 3).await.unwrap();
        reader.reach(last).await.unwrap();
        reader = trial.resume(reader, &tree.way(level, WAYS[level].1)).await.unwrap();
        let events = trial.publish_many(&["a", "b"], 3).await.unwrap();
        reader.reach(events).await.unwrap();
    }
    assert_eq!((reader.session().gaps().count(), reader.session().events()), (0, 36));
    trial.keep(reader);
    trial.judge().await.unwrap();
}

/// A consumer on record by hand, since the source that it ends with is not the one it began with.
struct Recorded {
    subscription: Subscription,
    session: Session,
}

impl Recorded {
    async fn start(way: Way, topic: &Topic) -> Self {
        let request = Subscribe::to(topic.as_str()).unwrap().from(Start::Earliest);
        let session = Session::new(way.name.clone(), &request);
        Self { subscription: way.client.consume(request).await.unwrap(), session }
    }

    async fn reach(&mut self, place: Cursor) {
        loop {
            let next = timeout(PATIENCE, self.subscription.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{}: {:?}", self.session.name, self.session.records));
            let delivery = next.unwrap().unwrap();
            self.session.take(&delivery);
            if matches!(&delivery, Delivery::Event(event) if event.cursor() == place) {
                return;
            }
        }
    }
}

async fn append(producer: &impl Producer, topic: &Topic, text: &str, history: &mut History) -> Cursor {
    let messages = [Message::text(text.to_owned())];
    let answer = timeout(PATIENCE, producer.publish(&Context::default(), topic, &messages)).await.unwrap();
    history.publishes.extend(Publish::all(topic, &messages, &answer));
    answer.unwrap().last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_of_another_epoch_is_told_once_at_every_level() {
    let mut tree = Tree::grow(Half::Ws, Half::Sse).await;
    let (topic, mut history): (Topic, _) = ("a".parse().unwrap(), History::default());
    let mut last = tree.root.place();
    for n in 0..5 {
        last = append(&tree.leaf, &topic, &format!("old {n}"), &mut history).await;
    }
    tree.settle().await;
    let mut consumers = Vec::new();
    for (level, half) in WAYS.into_iter().filter(|(level, _)| *level > 0) {
        let mut consumer = Recorded::start(tree.way(level, half), &topic).await;
        consumer.reach(last).await;
        consumers.push(consumer);
    }
    tree.restart().await;
    let mut newest = append(&tree.root, &topic, "new 0", &mut history).await;
    tree.settle().await;
    assert_eq!(tree.leaf.place(), newest);
    newest = append(&tree.leaf, &topic, "new 1", &mut history).await;
    for mut consumer in consumers {
        consumer.reach(newest).await;
        let told: Vec<_> = consumer.session.gaps().map(|gap| gap.reason).collect();
        assert_eq!(told, [GapReason::Reset], "{}", consumer.session.name);
        consumer.session.caught_up = true;
        history.sessions.push(consumer.session);
    }
    let all = Fetch::new(Subscribe::to(">").unwrap().topics).from(Start::Earliest);
    let page = tree.root.fetch(&Context::default(), all).await.unwrap();
    let retained = page.deliveries.into_iter().filter_map(Delivery::into_event);
    history.source = Some(Source {
        head: tree.root.place(),
        epochs: Some(Epochs::new(newest.epoch(), 0)),
        retained: retained.map(|event| Seen::from(&event)).collect(),
        evicts: false,
    });
    history.verify().unwrap();
    // The void cursor is judged alike everywhere.
    for level in 0..3 {
        let way = tree.way(level, Half::Ws);
        let request = Subscribe::to("a").unwrap().from(last);
        let mut back = Recorded {
            session: Session::new("back", &request),
            subscription: way.client.consume(request).await.unwrap(),
        };
        back.reach(newest).await;
        let told: Vec<_> = back.session.gaps().map(|gap| (gap.reason, gap.after)).collect();
        assert_eq!((told, back.session.events()), (vec![(GapReason::Reset, last)], 2), "level {level}");
    }
}

/// How long a refusal may take: a request or two, far less than the time after which anybody gives up.
const AT_ONCE: Duration = Duration::from_millis(1500);

async fn turned(broker: &Broker, up: bool) {
    let turning = async {
        while broker.stats().engine_up != up {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, turning).await.unwrap_or_else(|_| panic!("not {up}"));
}

/// The leaf follows by `second`.
async fn refuses_while_the_root_is_away(second: Half) {
    let tree = Tree::grow(Half::Ws, second).await;
    let topic: Topic = "a".parse().unwrap();
    let first = tree.leaf.publish_one(&topic, Message::text("1")).await.unwrap();
    let mut live =
        tree.way(2, Half::Ws).client.consume(Subscribe::to("a").unwrap().from(first)).await.unwrap();
    tree.cut_off().await;
    for node in [&tree.relay, &tree.leaf] {
        let refused = timeout(AT_ONCE, node.publish_one(&topic, Message::text("2"))).await.unwrap();
        let refused = refused.unwrap_err();
        assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        assert!(refused.is_retryable() && node.probe().await.is_err());
        turned(node, false).await;
    }
    tree.root.publish_one(&topic, Message::text("3")).await.unwrap();
    tree.let_in();
    tree.settle().await;
    turned(&tree.leaf, true).await;
    let last = tree.leaf.publish_one(&topic, Message::text("4")).await.unwrap();
    tree.relay.probe().await.unwrap();
    tree.leaf.probe().await.unwrap();
    let mut seqs = Vec::new();
    while seqs.last() != Some(&last.seq()) {
        match timeout(PATIENCE, live.next()).await.unwrap().unwrap().unwrap() {
            Delivery::Event(event) => seqs.push(event.cursor().seq()),
            Delivery::Gap(gap) => panic!("{gap}"),
            _ => {}
        }
    }
    assert_eq!(seqs, [2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_away_makes_publishing_fail_fast_at_every_level_and_comes_back() {
    refuses_while_the_root_is_away(Half::Grpc).await;
    refuses_while_the_root_is_away(Half::Sse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_root_drops_while_a_relay_is_away_is_told_at_every_level() {
    let tree = Tree::grow_from(Retention::default().with_messages(4), Half::Sse, Half::Grpc).await;
    let source = tree.way(0, Half::Ws);
    let trial = Trial::new(&source, "away");
    let mut readers = Vec::new();
    for (level, half) in WAYS.into_iter().filter(|(level, _)| *level > 0) {
        for name in ["a", "*", "quiet"] {
            let way = tree.way(level, half);
            let mut reader = trial
                .reader_over(&way, &format!("{name} at {}", way.name), trial.asking(name).unwrap())
                .await
                .unwrap();
            reader.first_word().await.unwrap();
            readers.push((name, reader));
        }
    }
    let before = trial.publish_many(&["a", "quiet"], 4).await.unwrap();
    for (name, reader) in &mut readers {
        let events = reader.take(if *name == "*" { 4 } else { 2 }).await.unwrap();
        assert!(events.last().unwrap().cursor().seq() <= before.seq());
    }
    tree.cut_off().await;
    trial.publish_many(&["a"], 10).await.unwrap();
    tree.let_in();
    tree.settle().await;
    let last = trial.publish_many(&["a", "quiet"], 2).await.unwrap();
    for (name, mut reader) in readers {
        reader.reach(Cursor::new(last.epoch(), last.seq() - u64::from(name == "a"))).await.unwrap();
        let told: Vec<_> = reader.session().gaps().map(|gap| gap.reason).collect();
        let is_loss = |reason: &GapReason| matches!(reason, GapReason::Evicted | GapReason::Lagged);
        assert!(told.iter().all(is_loss) && told.len() <= 1, "{}: {told:?}", reader.session().name);
        assert!(name == "quiet" || told.len() == 1, "{}: {told:?}", reader.session().name);
        // The gap that the relay was told names no topic: those of `quiet`, which lost nothing, may hear of it too.
        if name != "quiet" {
            trial.keep(reader);
        }
    }
    // What follows in a topic shows that it lost nothing: who comes back to it is told none.
    let quiet = trial.asking("quiet").unwrap().from(before);
    let mut back = trial.reader_over(&tree.way(2, Half::Ws), "back", quiet).await.unwrap();
    back.reach(last).await.unwrap();
    assert_eq!((back.session().gaps().count(), back.session().events()), (0, 1));
    trial.judge().await.unwrap();
}
