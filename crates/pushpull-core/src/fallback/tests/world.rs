//! A source with an event a second, and ways to it that work as they feel.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{self, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::{
    Backoff, Batch, Bounds, ConsumeError, Cursor, Delivery, Dial, Dialing, ErrorKind, Fallback, Feed, Link,
    Problem, Reconnecting, Standing, Start, StartAt, Subscribe, SubscribeError, Subscription, Topics,
    testing::{event, place, shown, snapshot},
};

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What a way does with the connections made from now on.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    Works,
    /// It cannot be dialled.
    Refuses(Problem),
    /// Dialling never ends.
    Holds,
    /// It can be dialled, and brings nothing.
    Mute,
    /// It ends before its first word.
    EndsUnheard,
    /// Its first word is goodbye.
    Declines,
    /// It breaks after a while.
    Dies(Duration, Problem),
    /// It says goodbye after a while.
    Leaves(Duration),
    /// It brings nothing more after a while, and is found silent another while later.
    FallsSilent(Duration, Duration),
}

#[derive(Debug)]
struct State {
    mood: Mood,
    asked: Vec<(Instant, Subscribe)>,
    open: usize,
    /// Raised to cut what is open.
    cut: u64,
}

pub(super) struct World {
    begun: Instant,
    ways: Vec<Arc<Way>>,
}

#[derive(Debug)]
pub(super) struct Way {
    name: &'static str,
    begun: Instant,
    snapshot: Arc<Mutex<Duration>>,
    state: Arc<Mutex<State>>,
}

/// A subscription, and all it was told.
pub(super) struct Told {
    begun: Instant,
    pub(super) subscription: Subscription,
    all: Vec<(Delivery, Option<&'static str>)>,
}

impl World {
    pub(super) fn new(moods: &[Mood]) -> Self {
        let (begun, snapshot) = (Instant::now(), Arc::default());
        let way = |(name, mood): (&'static str, &Mood)| {
            let state = State { mood: mood.clone(), asked: Vec::new(), open: 0, cut: 0 };
            Arc::new(Way { name, begun, snapshot: Arc::clone(&snapshot), state: Arc::new(Mutex::new(state)) })
        };
        Self { begun, ways: ["one", "two", "three"].into_iter().zip(moods).map(way).collect() }
    }

    pub(super) fn ways(&self) -> Vec<Arc<dyn Dial + Sync>> {
        self.ways.iter().map(|way| way.clone() as Arc<dyn Dial + Sync>).collect()
    }

    pub(super) async fn start(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        Reconnecting::start(Fallback::new(self.ways()), request, Backoff::default()).await
    }

    pub(super) async fn begin(&self, request: Subscribe) -> Told {
        let subscription = self.start(request).await.unwrap();
        Told { begun: self.begun, subscription, all: Vec::new() }
    }

    pub(super) fn set(&self, way: usize, mood: Mood) {
        self.ways[way].state.lock().unwrap().mood = mood;
    }

    /// Cuts what is open of `way`.
    pub(super) fn cut(&self, way: usize) {
        self.ways[way].state.lock().unwrap().cut += 1;
    }

    /// How long a snapshot takes from its first event to its last.
    pub(super) fn take_for_a_snapshot(&self, time: Duration) {
        *self.ways[0].snapshot.lock().unwrap() = time;
    }

    pub(super) fn asked(&self, way: usize) -> Vec<(Instant, Subscribe)> {
        self.ways[way].state.lock().unwrap().asked.clone()
    }

    /// How often each way was dialled.
    pub(super) fn dialled(&self) -> Vec<usize> {
        self.ways.iter().map(|way| way.state.lock().unwrap().asked.len()).collect()
    }

    /// How many connections each way has.
    pub(super) fn open(&self) -> Vec<usize> {
        self.ways.iter().map(|way| way.state.lock().unwrap().open).collect()
    }
}

impl Told {
    /// Takes what comes within `count` seconds.
    pub(super) async fn run(&mut self, count: u64) {
        self.run_for(seconds(count)).await;
    }

    pub(super) async fn run_for(&mut self, time: Duration) {
        let taking = async {
            loop {
                let delivery = self.subscription.next().await.unwrap().unwrap();
                self.all.push((delivery, self.subscription.transport()));
            }
        };
        let _: Result<(), _> = timeout(time, taking).await;
    }

    /// The ways that were passed over, and why.
    pub(super) fn passed(&self) -> Vec<String> {
        let is_one = |delivery: &&Delivery| matches!(delivery, Delivery::Link(Link::PassedOver { .. }));
        self.all.iter().map(|(delivery, _)| delivery).filter(is_one).map(shown).collect()
    }

    /// All words on the link but those of [`Told::passed`].
    pub(super) fn links(&self) -> Vec<String> {
        let link = |(delivery, by): &(Delivery, Option<&'static str>)| match delivery {
            Delivery::Link(Link::Connected) => Some(format!("connected by {}", by.unwrap())),
            Delivery::Link(Link::PassedOver { .. }) => None,
            Delivery::Link(_) => Some(shown(delivery)),
            _ => None,
        };
        self.all.iter().filter_map(link).collect()
    }

    /// The seqs of the events that are of no snapshot.
    pub(super) fn events(&self) -> Vec<u64> {
        let events = self.all.iter().filter_map(|(delivery, _)| delivery.clone().into_event());
        events.filter(|event| !event.is_snapshot()).map(|event| event.cursor().seq()).collect()
    }

    pub(super) fn snapshots(&self) -> usize {
        let is_one = |delivery: &Delivery| matches!(delivery, Delivery::Event(event) if event.is_snapshot());
        self.all.iter().filter(|(delivery, _)| is_one(delivery)).count()
    }

    /// Each event came once, in order, and the newest has come if there is credit.
    pub(super) fn check(&self) {
        let events = self.events();
        let first = *events.first().expect("events came");
        assert_eq!(events, (first..first + events.len() as u64).collect::<Vec<_>>());
        let newest = self.begun.elapsed().as_secs();
        assert!(self.subscription.credit().is_some() || events.last().unwrap() + 1 >= newest, "{events:?}");
    }
}

impl Dial for Way {
    fn dial(&self, request: Subscribe) -> Dialing {
        let mood = {
            let mut state = self.state.lock().unwrap();
            state.asked.push((Instant::now(), request.clone()));
            state.mood.clone()
        };
        match mood {
            Mood::Refuses(problem) => Box::pin(async move { Err(problem.into()) }),
            Mood::Holds => Box::pin(pending()),
            mood => {
                let feed = WayFeed::new(self, mood, &request);
                Box::pin(async move { Ok(Box::new(feed) as Box<dyn Feed>) })
            }
        }
    }

    fn transport(&self) -> Option<&'static str> {
        Some(self.name)
    }
}

struct WayFeed {
    begun: Instant,
    opened: Instant,
    mood: Mood,
    state: Arc<Mutex<State>>,
    cut: u64,
    waiting: VecDeque<(Instant, Delivery)>,
    /// The newest that was put among what waits.
    newest: u64,
    place: Option<Cursor>,
    was_heard: bool,
    timer: Pin<Box<Sleep>>,
}

impl WayFeed {
    fn new(way: &Way, mood: Mood, request: &Subscribe) -> Self {
        let cut = {
            let mut state = way.state.lock().unwrap();
            state.open += 1;
            state.cut
        };
        let now = Instant::now();
        let head = (now - way.begun).as_secs();
        let (newest, waiting) = match request.start {
            StartAt::After(start) => (start.seq(), vec![(now, place(start.seq()))]),
            StartAt::Start(Start::Snapshot) => {
                let whole = now + *way.snapshot.lock().unwrap();
                (head, vec![(now, snapshot(1)), (whole, snapshot(2)), (whole, place(head))])
            }
            StartAt::Start(_) => (head, vec![(now, place(head))]),
        };
        Self {
            begun: way.begun,
            opened: now,
            mood,
            state: way.state.clone(),
            cut,
            waiting: waiting.into(),
            newest,
            place: None,
            was_heard: false,
            timer: Box::pin(sleep_until(now)),
        }
    }

    /// When it brings nothing more, and when it ends.
    fn ends(&self) -> (Option<Instant>, Option<Instant>) {
        match &self.mood {
            Mood::EndsUnheard | Mood::Declines => (Some(self.opened), Some(self.opened)),
            Mood::Mute => (Some(self.opened), None),
            Mood::Dies(age, _) | Mood::Leaves(age) => (None, Some(self.opened + *age)),
            Mood::FallsSilent(age, silence) => {
                (Some(self.opened + *age), Some(self.opened + *age + *silence))
            }
            _ => (None, None),
        }
    }

    fn end(&self, out: &mut Batch) -> Option<Result<(), ConsumeError>> {
        match &self.mood {
            Mood::Dies(_, problem) => Some(Err(problem.clone().into())),
            Mood::FallsSilent(..) => Some(Err(Problem::new(ErrorKind::Timeout, "silent").into())),
            Mood::Leaves(_) | Mood::Declines => {
                let ended = Link::Ended { retry: Some(Duration::ZERO), cursor: self.place };
                out.deliveries.push(Delivery::Link(ended));
                Some(Ok(()))
            }
            _ => None,
        }
    }

    fn give(&mut self, bounds: Bounds, out: &mut Batch) -> Instant {
        let now = Instant::now();
        loop {
            while self.waiting.is_empty() {
                self.newest += 1;
                self.waiting.push_back((self.begun + seconds(self.newest), event(self.newest)));
            }
            let (due, next) = &self.waiting[0];
            let has_room = out.events() < bounds.events || !matches!(next, Delivery::Event(_));
            if *due > now || !has_room {
                return if has_room { *due } else { now + seconds(3600) };
            }
            self.place = next.place().or(self.place);
            self.was_heard = true;
            out.deliveries.extend(self.waiting.pop_front().map(|(_, next)| next));
        }
    }
}

impl Feed for WayFeed {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        loop {
            let now = Instant::now();
            let (silent, end) = self.ends();
            if self.state.lock().unwrap().cut > self.cut {
                return Poll::Ready(Some(Err(Problem::new(ErrorKind::Unavailable, "cut").into())));
            }
            if end.is_some_and(|end| end <= now) && (self.was_heard || silent == end) {
                return Poll::Ready(self.end(out));
            }
            let mut next = end.unwrap_or(now + seconds(3600)).max(now);
            if silent.is_none_or(|silent| silent > now) {
                let before = out.deliveries.len();
                let due = self.give(bounds, out);
                if out.deliveries.len() > before {
                    return Poll::Ready(Some(Ok(())));
                }
                next = next.min(due);
            }
            // A cut wakes nobody: looked for every second.
            self.timer.as_mut().reset(next.min(now + seconds(1)));
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.place
    }

    fn retarget(&mut self, _: Topics) -> Result<(), SubscribeError> {
        Err(Problem::new(ErrorKind::Unsupported, "fixed").into())
    }

    fn grant(&mut self, _: u64) {}

    fn conflated(&self) -> u64 {
        0
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

impl Drop for WayFeed {
    fn drop(&mut self) {
        self.state.lock().unwrap().open -= 1;
    }
}
