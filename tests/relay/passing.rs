//! Every server half over every client half: what comes through is what the source says.

use std::{sync::Arc, time::Duration};

use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Cursor, Delivery, ErrorKind, Fetch, Link, Message, Prev, ProducerExt, Pull, PushExt, Start, StartAt,
    Subscribe, Subscription, Topic,
};
use pushpull_testkit::proxy::{Cuts, Proxy};
use tokio::{task::JoinSet, time::timeout};

use crate::support::{Client, HALVES, Half, Node};

const PATIENCE: Duration = Duration::from_secs(20);

/// Events of a topic that the source retains.
const RETAINS: usize = 4;

/// One server half over one client half, over a broker.
struct Pair {
    name: String,
    root: Broker,
    through: Client,
    direct: Client,
    /// A topic of its own.
    topic: Topic,
}

impl Pair {
    fn new(root: &Broker, source: &Node, node: &Node, server: Half, client: Half) -> Self {
        let topic = format!("t.{server:?}-over-{client:?}").parse().unwrap();
        let name = format!("{server:?} over {client:?}");
        let (through, direct) = (server.client(&node.url()), server.client(&source.url()));
        Self { name, root: root.clone(), through, direct, topic }
    }

    fn asking(&self, start: impl Into<StartAt>) -> Subscribe {
        Subscribe::to(self.topic.as_str()).unwrap().from(start)
    }

    async fn consume(&self, by: &Client, start: impl Into<StartAt>) -> Subscription {
        let consumed = timeout(PATIENCE, by.consume(self.asking(start))).await;
        consumed.unwrap_or_else(|_| panic!("{}: no subscription", self.name)).unwrap()
    }

    /// The next delivery that is no word on the link.
    async fn next(&self, subscription: &mut Subscription) -> Delivery {
        loop {
            let next = timeout(PATIENCE, subscription.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{}: nothing comes", self.name));
            match next.unwrap_or_else(|| panic!("{}: it ended", self.name)).unwrap() {
                Delivery::Link(_) => {}
                delivery => return delivery,
            }
        }
    }

    /// What comes up to the event at `last`, in few words; places but that of a snapshot aside.
    async fn told(&self, subscription: &mut Subscription, last: Cursor) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            match self.next(subscription).await {
                Delivery::Event(event) => {
                    told.push(format!(
                        "{} {:?} {:?} {:?}",
                        event.cursor(),
                        event.prev(),
                        event.payload(),
                        event.view()
                    ));
                    if event.cursor() == last {
                        return told;
                    }
                }
                Delivery::Gap(gap) => told.push(gap.to_string()),
                _ => {}
            }
        }
    }

    async fn publish(&self, text: &str) -> Cursor {
        let message = Message::text(text.to_owned()).with_key("k");
        let published = timeout(PATIENCE, self.through.publish_one(&self.topic, message)).await;
        published.unwrap_or_else(|_| panic!("{}: no acknowledgement", self.name)).unwrap()
    }

    /// What is published through is the source's, and comes through as the source says it.
    async fn delivers(&self) -> Cursor {
        let mut live = self.consume(&self.through, Start::Latest).await;
        let Delivery::Place(begun) = self.next(&mut live).await else {
            panic!("{}: the first word is a place", self.name)
        };
        let first = self.publish("1").await;
        let second = self.publish("2").await;
        let read = Fetch::new(self.asking(Start::Latest).topics).from(begun);
        let at_source = self.root.fetch(&pushpull_core::Context::default(), read).await.unwrap();
        let events: Vec<_> = at_source.deliveries.into_iter().filter_map(Delivery::into_event).collect();
        let cursors: Vec<_> = events.iter().map(|event| (event.cursor(), event.prev())).collect();
        assert_eq!(cursors, [(first, Prev::First), (second, Prev::At(first))], "{}", self.name);
        let told = self.told(&mut live, second).await;
        let expected = [format!("{first} First b\"1\" Plain"), format!("{second} At({first}) b\"2\" Plain")];
        assert_eq!(told, expected, "{}", self.name);
        for by in [&self.through, &self.direct] {
            let mut again = self.consume(by, begun).await;
            assert_eq!(self.told(&mut again, second).await, expected, "{}", self.name);
            let mut rest = self.consume(by, first).await;
            assert_eq!(self.told(&mut rest, second).await, expected[1..], "{}", self.name);
        }
        self.tells_places(live).await;
        begun
    }

    /// The place of an idle topic moves on, through a subscription and through polls.
    async fn tells_places(&self, mut live: Subscription) {
        let elsewhere = "elsewhere".parse().unwrap();
        let place = self.root.publish_one(&elsewhere, Message::text("x")).await.unwrap();
        while live.place().is_none_or(|at| at.seq() < place.seq()) {
            match self.next(&mut live).await {
                Delivery::Place(_) => {}
                other => panic!("{}: {other:?}", self.name),
            }
        }
    }

    async fn tells_gaps(&self, begun: Cursor) {
        let mut last = begun;
        for n in 0..=RETAINS {
            last = self.publish(&format!("more {n}")).await;
        }
        let mut told = Vec::new();
        for by in [&self.direct, &self.through] {
            let mut back = self.consume(by, begun).await;
            told.push(self.told(&mut back, last).await);
        }
        assert!(told[0][0].starts_with("evicted"), "{}: {:?}", self.name, told[0]);
        assert_eq!((told[0].len(), &told[0]), (RETAINS + 1, &told[1]), "{}", self.name);
        let mut void = self.consume(&self.through, Cursor::UNKNOWN).await;
        let reset = self.told(&mut void, last).await;
        assert!(reset[0].starts_with("reset after 0-0"), "{}: {reset:?}", self.name);
        let mut snapshot = self.consume(&self.through, Start::Snapshot).await;
        let newest = format!("{last} Unknown b\"more {RETAINS}\" Snapshot");
        assert_eq!(self.told(&mut snapshot, last).await, [newest], "{}", self.name);
    }

    async fn refuses(&self) {
        let secret = Subscribe::to("secret.plan").unwrap();
        let refused = timeout(PATIENCE, self.through.consume(secret)).await.unwrap();
        assert_eq!(
            refused.map(drop).map_err(|error| error.kind()),
            Err(ErrorKind::Forbidden),
            "{}",
            self.name
        );
        let topic = "secret.plan".parse().unwrap();
        let refused = self.through.publish_one(&topic, Message::text("x")).await;
        assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::Forbidden), "{}", self.name);
    }

    async fn run(self) {
        let begun = self.delivers().await;
        self.tells_gaps(begun).await;
        self.refuses().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_server_half_serves_any_client_half() {
    let root = Broker::memory_with(Retention::default().with_messages(RETAINS));
    let source = Node::serve(root.clone(), true).await;
    let (mut nodes, mut pairs) = (Vec::new(), JoinSet::new());
    for client in HALVES {
        let node = Arc::new(Node::serve(client.client(&source.url()), false).await);
        for server in HALVES {
            pairs.spawn(Pair::new(&root, &source, &node, server, client).run());
        }
        nodes.push(node);
    }
    while let Some(pair) = pairs.join_next().await {
        pair.unwrap();
    }
}

/// Keys of the topic of which a snapshot is taken while the way to it is cut.
const KEYS: usize = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_breaks_off_upstream_is_never_joined_to_another() {
    let root = Broker::memory();
    let topic: Topic = "a".parse().unwrap();
    for n in 0..KEYS {
        let message = Message::text(format!("{n:0>100}")).with_key(n.to_string());
        root.publish_one(&topic, message).await.unwrap();
    }
    let source = Node::serve(root.clone(), false).await;
    let proxy = Proxy::start(source.address, 3).await.unwrap();
    for (server, client) in [(Half::Ws, Half::Sse), (Half::Sse, Half::Ws), (Half::Grpc, Half::Grpc)] {
        proxy.cut_after(Cuts::within(20_000..=200_000));
        let node = Node::serve(client.client(&proxy.url()), false).await;
        let request = Subscribe::to("a").unwrap().from(Start::Snapshot);
        let mut reader = server.client(&node.url()).consume(request).await.unwrap();
        let (mut events, mut breaks) = (0, 0);
        loop {
            match timeout(PATIENCE, reader.next()).await.unwrap().unwrap().unwrap() {
                Delivery::Event(event) => {
                    assert!(event.is_snapshot());
                    events += 1;
                    assert!(events <= KEYS, "{server:?} over {client:?}: of two snapshots");
                }
                Delivery::Link(Link::Reconnecting { .. }) => {
                    (events, breaks) = (0, breaks + u32::from(events > 0))
                }
                Delivery::Place(place) => {
                    assert_eq!((events, place), (KEYS, root.place()), "{server:?} over {client:?}");
                    break;
                }
                _ => {}
            }
            if breaks == 2 {
                proxy.cut_after(Cuts::Never);
            }
        }
        assert_eq!(breaks, 2, "{server:?} over {client:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_a_backend_of_all_three_roles() {
    let root = Broker::memory();
    let source = Node::serve(root.clone(), true).await;
    for scheme in ["ws", "sse+http", "longpoll+http", "poll+http", "grpc"] {
        let upstream = pushpull::connect(&format!("{scheme}://{}", source.address)).await.unwrap();
        let node = Node::serve(upstream, false).await;
        let (topic, polling) =
            (Topic::new(scheme.split('+').next().unwrap()).unwrap(), Half::HttpPoll.client(&node.url()));
        let cursor = polling.publish_one(&topic, Message::text(scheme)).await.unwrap();
        let newest = Fetch::new(pushpull_core::Topics::only(&topic)).from(Start::Last);
        let page = polling.pull.fetch(&pushpull_core::Context::default(), newest).await.unwrap();
        assert_eq!((page.events(), page.place), (1, Some(root.place())), "{scheme}");
        let streaming = Half::Ws.client(&node.url());
        let earliest = Subscribe::to(topic.as_str()).unwrap().from(Start::Earliest);
        let mut pushed = timeout(PATIENCE, streaming.consume(earliest)).await.unwrap().unwrap();
        let came = loop {
            if let Delivery::Event(event) = timeout(PATIENCE, pushed.next()).await.unwrap().unwrap().unwrap()
            {
                break event.cursor();
            }
        };
        assert_eq!(came, cursor, "{scheme}");
        let secret = Fetch::new(Subscribe::to("secret.plan").unwrap().topics);
        let refused = polling.pull.fetch(&pushpull_core::Context::default(), secret).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{scheme}");
    }
}
