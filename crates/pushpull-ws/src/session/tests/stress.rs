//! Many connections over pipes that block all the time, whose peers change what they ask for while others publish.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value;
use tokio::{
    io::{ReadHalf, WriteHalf, split},
    sync::mpsc,
    task::yield_now,
};

use super::*;

const SESSIONS: usize = 50;
const EVENTS: u64 = 1500;
/// The topic that each peer asks for from first to last, and those that it asks for at times.
const ALWAYS: &str = "a";
const AT_TIMES: [&str; 3] = ["b", "c", "d"];
/// How many events the mean peer may be behind: who is far behind is served by no sweep.
const AHEAD_OF_MEAN: u64 = 4;
/// The credit of those that have one.
const WINDOW: u64 = 8;

/// Numbers of little use to guess.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What a peer is owed and what it got, each as places on a topic.
#[derive(Default)]
struct Account {
    /// From behind which place on, and up to which.
    owed: BTreeMap<&'static str, Vec<(u64, u64)>>,
    got: Vec<(String, u64)>,
}

/// A peer that has one command under way at a time.
struct Fickle {
    read: ReadHalf<DuplexStream>,
    decoder: Decoder,
    commands: mpsc::UnboundedSender<String>,
    dice: Dice,
    /// The topic that is being added or given up.
    asked: Option<(u64, Option<&'static str>)>,
    /// Of those, the ones that this peer takes and gives up: who asks for more than one stands with nobody.
    at_times: &'static [&'static str],
    has_window: bool,
    granted: u64,
    heard: Arc<AtomicU64>,
    account: Account,
}

async fn write(mut io: WriteHalf<DuplexStream>, mut commands: mpsc::UnboundedReceiver<String>) {
    while let Some(command) = commands.recv().await {
        if io.write_all(&frame::encode(TEXT, command.as_bytes(), KEY)).await.is_err() {
            return;
        }
    }
}

impl Fickle {
    async fn new(broker: &Broker, gate: &Gate, at: usize, heard: Arc<AtomicU64>) -> Self {
        let mut dice = Dice(at as u64 + 1);
        let has_window = at.is_multiple_of(5);
        let mut wanted = Subscribe::to(ALWAYS).unwrap();
        if has_window {
            wanted = wanted.with_window(u32::try_from(WINDOW).unwrap().try_into().unwrap());
        }
        let (io, theirs) = duplex(40 + usize::try_from(dice.below(400)).unwrap());
        let subscription = broker.consume(wanted.clone()).await.unwrap();
        let subscribed = Some((subscription, wanted.topics.clone(), Unit::None));
        let mode = Mode::Framed(Subprotocol::Json);
        let opening = Opening { subscribed, ..opening(broker, gate, Call::default(), mode) };
        tokio::spawn(Serving::new(theirs, b"", opening));
        let (read, io) = split(io);
        let (commands, asked) = mpsc::unbounded_channel();
        tokio::spawn(write(io, asked));
        let mut account = Account::default();
        account.owed.insert(ALWAYS, vec![(0, u64::MAX)]);
        let decoder = Decoder::new(Side::Client, 1 << 20);
        let at_times = [&AT_TIMES[..0], &AT_TIMES[..1], &AT_TIMES[..]][at % 3];
        Self { read, decoder, commands, dice, asked: None, at_times, has_window, granted: 0, heard, account }
    }

    /// Reads to the last event.
    async fn run(mut self) -> Account {
        let mut bytes = Vec::new();
        loop {
            let mut rest = &bytes[..];
            let message = self.decoder.decode(&mut rest).unwrap();
            bytes = rest.to_vec();
            match message {
                Some(Message::Text(text)) => {
                    let said: Value = serde_json::from_slice(&text).unwrap();
                    if self.hear(&said) {
                        return self.account;
                    }
                    self.ask();
                }
                Some(other) => panic!("{other:?}"),
                None => assert_ne!(self.read.read_buf(&mut bytes).await.unwrap(), 0, "it goes on"),
            }
            for _ in 0..self.dice.below(4) {
                yield_now().await;
            }
        }
    }

    /// Whether that was the last.
    fn hear(&mut self, said: &Value) -> bool {
        let seq = |cursor: &Value| cursor.as_str()?.rsplit_once('-')?.1.parse::<u64>().ok();
        if let Some(topic) = said["topic"].as_str() {
            self.account.got.push((topic.to_owned(), seq(&said["cursor"]).unwrap()));
            self.heard.fetch_add(u64::from(topic == ALWAYS), Ordering::Relaxed);
            return said["data"] == "end";
        }
        assert!(said.get("heartbeat").is_some() || said.get("ok").is_some(), "{said}");
        if let Some(place) = said["ok"].get("cursor").and_then(seq) {
            let (id, topic) = self.asked.take().expect("it asked");
            assert_eq!(said["ok"]["id"], id);
            let Some(topic) = topic else { return false };
            let owed = self.account.owed.entry(topic).or_default();
            match owed.last_mut() {
                Some((_, until)) if *until == u64::MAX => *until = place,
                _ => owed.push((place, u64::MAX)),
            }
        }
        false
    }

    fn ask(&mut self) {
        let id = self.account.got.len() as u64;
        if self.asked.is_some() {
            return;
        }
        let command = if self.has_window && self.granted < id {
            self.granted += WINDOW / 2;
            self.asked = Some((id, None));
            format!(r#"{{"credit":{{"id":{id},"events":{}}}}}"#, WINDOW / 2)
        } else if !self.at_times.is_empty() && self.dice.below(20) == 0 {
            let topic = self.at_times[usize::try_from(self.dice.below(self.at_times.len() as u64)).unwrap()];
            let has = self.account.owed.get(topic).and_then(|owed| owed.last());
            let verb =
                if has.is_some_and(|(_, until)| *until == u64::MAX) { "unsubscribe" } else { "subscribe" };
            self.asked = Some((id, Some(topic)));
            format!(r#"{{"{verb}":{{"id":{id},"topics":["{topic}"]}}}}"#)
        } else {
            return;
        };
        self.commands.send(command).unwrap();
    }
}

impl Account {
    /// What it was owed of all that was `published`, of which it heard the last.
    fn expected(&self, published: &[(String, u64)]) -> Vec<(String, u64)> {
        let is_owed = |(topic, seq): &(String, u64)| {
            let owed = self.owed.get(topic.as_str());
            owed.is_some_and(|owed| owed.iter().any(|(after, until)| after < seq && seq <= until))
        };
        published.iter().filter(|event| is_owed(event)).cloned().collect()
    }
}

async fn publish_to(broker: &Broker, topic: &str, text: &str) -> (String, u64) {
    let message = Published::json(&text).unwrap();
    let cursor = broker.publish_one(&topic.parse().unwrap(), message).await.unwrap();
    (topic.to_owned(), cursor.seq())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gets_what_it_asked_for_once_and_in_order() {
    let (broker, gate) = (Broker::memory(), Gate::open());
    let (mut running, heard) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    for at in 0..SESSIONS {
        running.push(tokio::spawn(Fickle::new(&broker, &gate, at, heard.clone()).await.run()));
    }
    let mut dice = Dice(0);
    let (mut published, mut owed) = (Vec::new(), 0);
    for _ in 0..EVENTS {
        let topic = match dice.below(6) {
            at @ 0..3 => AT_TIMES[usize::try_from(at).unwrap()],
            _ => ALWAYS,
        };
        published.push(publish_to(&broker, topic, "news").await);
        owed += u64::from(topic == ALWAYS);
        while heard.load(Ordering::Relaxed) / SESSIONS as u64 + AHEAD_OF_MEAN < owed
            && !running.iter().any(JoinHandle::is_finished)
        {
            yield_now().await;
        }
    }
    published.push(publish_to(&broker, ALWAYS, "end").await);
    let mut at_times = 0;
    for (at, running) in running.into_iter().enumerate() {
        let account =
            tokio::time::timeout(Duration::from_secs(60), running).await.expect("the last came").unwrap();
        assert_eq!(account.got, account.expected(&published), "the {at}. peer");
        at_times += account.got.iter().filter(|(topic, _)| topic != ALWAYS).count();
    }
    assert!(at_times > SESSIONS, "topics were added and given up all the time: {at_times}");
}
