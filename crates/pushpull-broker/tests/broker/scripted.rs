//! A source whose subscriptions bring what a test says.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task,
};

use async_trait::async_trait;
use pushpull_broker::{Broker, RelayEngine, Retention};
use pushpull_core::{
    Batch, Bounds, ConsumeError, Context, Cursor, Delivery, Epoch, ErrorKind, Event, EventParts, Feed, Gap,
    GapReason, Message, Prev, Problem, Push, Standing, StartAt, Subscribe, SubscribeError, Subscription,
    Topics,
};
use tokio::sync::mpsc;

/// A source whose subscriptions the test feeds, and that keeps what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    asked: Vec<Subscribe>,
    /// What each subscription, one after the other, brings; without one, it is refused.
    feeds: VecDeque<Result<mpsc::UnboundedReceiver<Word>, Problem>>,
    /// What a probe is refused by. Probes come when they like, and are not kept.
    cut: Option<Problem>,
}

pub(crate) enum Word {
    Say(Delivery),
    Fail(Problem),
    Panic,
}

pub(crate) struct ScriptedFeed(mpsc::UnboundedReceiver<Word>, Option<Cursor>);

impl Scripted {
    pub(crate) fn feed(&self) -> mpsc::UnboundedSender<Word> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap().feeds.push_back(Ok(receiver));
        sender
    }

    pub(crate) fn refuse(&self, problem: Problem) {
        self.0.lock().unwrap().feeds.push_back(Err(problem));
    }

    /// Answers probes by `problem` from now on.
    pub(crate) fn cut_off(&self, problem: Option<Problem>) {
        self.0.lock().unwrap().cut = problem;
    }

    pub(crate) fn asked(&self) -> Vec<StartAt> {
        self.0.lock().unwrap().asked.iter().map(|request| request.start).collect()
    }
}

#[async_trait]
impl Push for Scripted {
    async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let mut script = self.0.lock().unwrap();
        if is_probe(&request) {
            return script.probed(&request);
        }
        script.asked.push(request.clone());
        match script.feeds.pop_front() {
            Some(Ok(receiver)) => Ok(Subscription::new(ScriptedFeed(receiver, None), &request)),
            Some(Err(problem)) => Err(problem.into()),
            None => Err(Problem::new(ErrorKind::Unavailable, "nobody there").into()),
        }
    }
}

impl Script {
    fn probed(&self, request: &Subscribe) -> Result<Subscription, SubscribeError> {
        if let Some(problem) = &self.cut {
            return Err(problem.clone().into());
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(nothing(cursor(1, 10))).ok().unwrap();
        Ok(Subscription::new(ScriptedFeed(receiver, None), request))
    }
}

/// Whether a relay asks by it if its upstream is cut off.
pub(crate) fn is_probe(request: &Subscribe) -> bool {
    request.start == StartAt::After(Cursor::new(Epoch::NEVER, 1))
}

impl Feed for ScriptedFeed {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        _: Bounds,
        out: &mut Batch,
    ) -> task::Poll<Option<Result<(), ConsumeError>>> {
        self.0.poll_recv(cx).map(|word| {
            word.map(|word| match word {
                Word::Say(delivery) => {
                    self.1 = delivery.place().or(self.1);
                    out.deliveries.push(delivery);
                    Ok(())
                }
                Word::Fail(problem) => Err(problem.into()),
                Word::Panic => panic!("a source fails"),
            })
        })
    }

    fn place(&self) -> Option<Cursor> {
        self.1
    }

    fn retarget(&mut self, _: Topics) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn grant(&mut self, _: u64) {}

    fn conflated(&self) -> u64 {
        0
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

pub(crate) fn cursor(epoch: u64, seq: u64) -> Cursor {
    Cursor::new(Epoch::from_random(epoch), seq)
}

pub(crate) fn event(cursor: Cursor, prev: Prev) -> Word {
    let (topic, message) = ("a".parse().unwrap(), Message::text("x"));
    Word::Say(Delivery::Event(Event::new(EventParts { topic, cursor, prev, time_ms: 7, message })))
}

pub(crate) fn gap(after: Cursor, before: Cursor, cursor: Cursor, reason: GapReason) -> Word {
    Word::Say(Delivery::Gap(Gap::new(after, before, cursor, reason)))
}

pub(crate) fn place(cursor: Cursor) -> Word {
    Word::Say(Delivery::Place(cursor))
}

/// What a source answers that retains nothing, and whose newest place is `at`.
pub(crate) fn nothing(at: Cursor) -> Word {
    gap(Cursor::UNKNOWN, cursor(at.epoch().as_u64(), at.seq() + 1), at, GapReason::Reset)
}

pub(crate) async fn scripted() -> (Broker, Scripted, mpsc::UnboundedSender<Word>) {
    let source = Scripted::default();
    let feed = source.feed();
    feed.send(nothing(cursor(1, 10))).ok().unwrap();
    let relay = Broker::open(RelayEngine::new(source.clone()), Retention::default()).await.unwrap();
    (relay, source, feed)
}
