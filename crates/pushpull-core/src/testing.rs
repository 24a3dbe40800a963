//! What the tests of the combinators share: short names, and sources that do as they are told.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
    task::{self, Poll},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Batch, Bounds, ConsumeError, Context, Cursor, Delivery, Epoch, ErrorKind, Event, EventParts, Feed, Fetch,
    FetchError, Gap, GapReason, Link, Message, Prev, Problem, Pull, Standing, SubscribeError, Subscription,
    Topics, View,
};

pub(crate) fn at(seq: u64) -> Cursor {
    Cursor::new(Epoch::from_random(7), seq)
}

pub(crate) fn event_of(topic: &str, seq: u64) -> Event {
    Event::new(EventParts {
        topic: topic.parse().unwrap(),
        cursor: at(seq),
        prev: Prev::Unknown,
        time_ms: 0,
        message: Message::text("0123456789"),
    })
}

pub(crate) fn event(seq: u64) -> Delivery {
    Delivery::Event(event_of("a", seq))
}

pub(crate) fn snapshot(seq: u64) -> Delivery {
    Delivery::Event(event_of("a", seq).shown(View::Snapshot))
}

pub(crate) fn place(seq: u64) -> Delivery {
    Delivery::Place(at(seq))
}

pub(crate) fn gap(after: u64, before: u64, cursor: u64, reason: GapReason) -> Delivery {
    Delivery::Gap(Gap::new(at(after), at(before), at(cursor), reason))
}

pub(crate) fn batch(deliveries: impl IntoIterator<Item = Delivery>, place: impl Into<Option<u64>>) -> Batch {
    let deliveries = deliveries.into_iter().collect();
    Batch { deliveries, place: place.into().map(at), ..Batch::default() }
}

pub(crate) fn down() -> Problem {
    Problem::new(ErrorKind::Unavailable, "down")
}

pub(crate) fn refused() -> Problem {
    Problem::new(ErrorKind::Forbidden, "no")
}

/// A delivery in few words.
pub(crate) fn shown(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Event(event) if event.is_snapshot() => format!("snapshot {}", event.cursor().seq()),
        Delivery::Event(event) => format!("{} {}", event.topic(), event.cursor().seq()),
        Delivery::Gap(Gap { after, before, cursor, reason }) => {
            format!("{reason} {}..{} @{}", after.seq(), before.seq(), cursor.seq())
        }
        Delivery::Place(cursor) => format!("place {}", cursor.seq()),
        Delivery::Link(Link::Connecting) => "connecting".into(),
        Delivery::Link(Link::Connected) => "connected".into(),
        Delivery::Link(Link::PassedOver { transport, cause }) => {
            format!("{} passed over ({})", transport.unwrap_or("-"), cause.detail())
        }
        Delivery::Link(Link::Reconnecting { cause, .. }) => {
            format!("reconnecting ({})", cause.as_ref().map_or("-", Problem::detail))
        }
        Delivery::Link(Link::Ended { .. }) => "ended".into(),
    }
}

/// The next `count` deliveries in few words. Errors, the end and an hour of silence are told as such.
pub(crate) async fn take(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let last = match timeout(Duration::from_secs(3600), subscription.next()).await {
            Ok(Some(Ok(delivery))) => {
                taken.push(shown(&delivery));
                continue;
            }
            Ok(Some(Err(error))) => {
                taken.push(format!("error ({})", error.problem().detail()));
                continue;
            }
            Ok(None) => "none",
            Err(_) => "silence",
        };
        taken.push(last.into());
        break;
    }
    taken
}

/// What a [`FakePull`] does when it is asked.
pub(crate) enum Step {
    Answer(Batch),
    After(Duration, Batch),
    Fail(Problem),
    Hang,
}

/// Takes its steps one by one, hangs after the last, and keeps what it was asked and when.
#[derive(Default)]
pub(crate) struct FakePull {
    steps: Mutex<VecDeque<Step>>,
    asked: Mutex<Vec<(Instant, Fetch)>>,
}

impl FakePull {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps.into_iter().collect()), asked: Mutex::default() })
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Fetch> {
        self.asked.lock().unwrap().iter().map(|(_, fetch)| fetch.clone()).collect()
    }

    /// The times between one question and the next.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.asked.lock().unwrap().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

#[async_trait]
impl Pull for FakePull {
    async fn fetch(&self, _cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        self.asked.lock().unwrap().push((Instant::now(), request));
        let step = self.steps.lock().unwrap().pop_front();
        match step.unwrap_or(Step::Hang) {
            Step::Answer(batch) => Ok(batch),
            Step::After(delay, batch) => {
                sleep(delay).await;
                Ok(batch)
            }
            Step::Fail(problem) => Err(problem.into()),
            Step::Hang => pending().await,
        }
    }
}

/// What a [`FakeFeed`] does when it is polled.
pub(crate) enum Turn {
    Give(Vec<Delivery>),
    GiveAndFail(Vec<Delivery>, Problem),
    End,
}

/// Takes its turns one by one, as far as the bounds let it, and waits for ever after the last.
#[derive(Default)]
pub(crate) struct FakeFeed {
    pub(crate) turns: VecDeque<Turn>,
    pub(crate) place: Option<Cursor>,
    pub(crate) conflated: u64,
    /// What [`Feed::retarget`] says: whether it can.
    pub(crate) is_fixed: bool,
    /// The bounds of every poll.
    pub(crate) bounds: Arc<Mutex<Vec<Bounds>>>,
    pub(crate) targets: Arc<Mutex<Vec<Topics>>>,
    pub(crate) grants: Arc<Mutex<Vec<u64>>>,
}

impl FakeFeed {
    pub(crate) fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self { turns: turns.into_iter().collect(), ..Self::default() }
    }

    fn give(&mut self, mut deliveries: Vec<Delivery>, bounds: Bounds, out: &mut Batch) -> bool {
        let is_event = |delivery: &Delivery| matches!(delivery, Delivery::Event(_));
        let positions = deliveries.iter().enumerate().filter(|(_, delivery)| is_event(delivery));
        let cut = positions.map(|(at, _)| at).nth(bounds.events).unwrap_or(deliveries.len());
        let rest = deliveries.split_off(cut);
        self.place = deliveries.iter().rev().find_map(Delivery::place).or(self.place);
        let gave = !deliveries.is_empty();
        out.deliveries.extend(deliveries);
        out.more = !rest.is_empty();
        if out.more {
            self.turns.push_front(Turn::Give(rest));
        }
        gave
    }
}

impl Feed for FakeFeed {
    fn poll_batch(
        &mut self,
        _cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        self.bounds.lock().unwrap().push(bounds);
        match self.turns.pop_front() {
            None => Poll::Pending,
            Some(Turn::End) => Poll::Ready(None),
            Some(Turn::Give(deliveries)) => match self.give(deliveries, bounds, out) {
                true => Poll::Ready(Some(Ok(()))),
                false => Poll::Pending,
            },
            Some(Turn::GiveAndFail(deliveries, problem)) => {
                self.give(deliveries, bounds, out);
                Poll::Ready(Some(Err(problem.into())))
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.place
    }

    fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError> {
        if self.is_fixed {
            return Err(refused().into());
        }
        self.targets.lock().unwrap().push(topics);
        Ok(())
    }

    fn grant(&mut self, events: u64) {
        self.grants.lock().unwrap().push(events);
    }

    fn conflated(&self) -> u64 {
        self.conflated
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}
