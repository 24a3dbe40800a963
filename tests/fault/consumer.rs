//! One consumer, with everything that it was told on record.

use std::{sync::Arc, time::Duration};

use pushpull_core::{
    ConsumeError, Context, Cursor, Delivery, Link, Push, Subscribe, SubscribeError, Subscription, View,
};
use pushpull_testkit::{
    Failure,
    history::{Record, Session},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{board::Board, way::Way};

/// How long nothing may come: faults end long before, and a heartbeat comes all the time.
const PATIENCE: Duration = Duration::from_secs(30);

/// By how many places a consumer that resumes behind its place misses it.
const BEHIND: u64 = 20;

/// A consumer and what became of it.
pub(super) struct Consumer {
    way: Way,
    push: Arc<dyn Push>,
    /// None while it is away.
    subscription: Option<Subscription>,
    session: Session,
    habits: Habits,
    board: Option<(Arc<Board>, usize)>,
    events: usize,
    returns: usize,
}

/// What it does beyond reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Habits {
    /// It lets go of its subscription from time to time, and comes back to its place.
    pub(super) leaves: Option<Leaves>,
    /// What is wrong with it.
    pub(super) flaw: Option<Flaw>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Leaves {
    /// After so long.
    pub(super) after: Duration,
    /// For so long.
    pub(super) away: Duration,
}

/// What a broken consumer does, for the judge to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It loses one event.
    Loses,
    /// It takes one event twice.
    Repeats,
    /// It comes back behind its place, and says that it came back to it.
    ResumesBehind,
    /// It never gets to the end, and says that it did.
    StopsEarly,
}

/// What is left of a consumer at the end.
pub(super) struct Told {
    pub(super) way: Way,
    pub(super) session: Session,
    /// How often it came back after it had let go.
    pub(super) returns: usize,
}

impl Consumer {
    pub(super) async fn start(
        name: String,
        way: Way,
        push: Arc<dyn Push>,
        request: Subscribe,
        habits: Habits,
    ) -> Result<Self, Failure> {
        let session = Session::new(name, &request);
        let subscription = Some(push.subscribe(&Context::default(), request).await?);
        Ok(Self { way, push, subscription, session, habits, board: None, events: 0, returns: 0 })
    }

    /// Shows on `board`, as `number`, by which transport it comes.
    pub(super) fn shown_on(mut self, board: Arc<Board>, number: usize) -> Self {
        self.board = Some((board, number));
        self
    }

    /// Reads until a goal is told and reached.
    pub(super) async fn follow(mut self, mut goal: watch::Receiver<Option<Cursor>>) -> Result<Told, Failure> {
        let mut leaves_at = self.leaves_at();
        loop {
            let target = *goal.borrow_and_update();
            if target.is_some_and(|target| self.has_reached(target)) {
                break;
            }
            tokio::select! {
                next = timeout(PATIENCE, next(&mut self.subscription)) => self.take(next)?,
                // Its end would mean that the run failed elsewhere.
                _ = goal.changed() => {}
                () = until(leaves_at), if target.is_none() => {
                    self.leave_and_return().await?;
                    leaves_at = self.leaves_at();
                }
            }
        }
        self.session.caught_up = true;
        Ok(Told { way: self.way, session: self.session, returns: self.returns })
    }

    fn leaves_at(&self) -> Option<Instant> {
        self.habits.leaves.map(|leaves| Instant::now() + leaves.after)
    }

    fn take(
        &mut self,
        next: Result<Option<Result<Delivery, ConsumeError>>, tokio::time::error::Elapsed>,
    ) -> Result<(), Failure> {
        let name = self.session.name.clone();
        let fails = |what: &dyn std::fmt::Display| Failure::Unexpected(format!("{name}: {what}"));
        let next = next.map_err(|_| fails(&format!("nothing came for {} s", PATIENCE.as_secs())))?;
        let delivery = next.ok_or_else(|| fails(&"it ended"))?.map_err(|error| fails(&error))?;
        match &delivery {
            Delivery::Link(Link::Ended { retry: None, .. }) => return Err(fails(&"it was ended")),
            Delivery::Link(Link::Connected) => self.show(),
            _ => {}
        }
        self.record(&delivery);
        Ok(())
    }

    fn show(&self) {
        let transport = self.subscription.as_ref().and_then(Subscription::transport);
        if let (Some((board, number)), Some(transport)) = (&self.board, transport) {
            board.show(*number, transport);
        }
    }

    fn record(&mut self, delivery: &Delivery) {
        self.events += usize::from(matches!(delivery, Delivery::Event(_)));
        let is_tenth = matches!(delivery, Delivery::Event(_)) && self.events == 10;
        match self.habits.flaw {
            Some(Flaw::Loses) if is_tenth => {}
            Some(Flaw::StopsEarly) if self.events > 10 => {}
            Some(Flaw::Repeats) if is_tenth => (0..2).for_each(|_| self.session.take(delivery)),
            _ => self.session.take(delivery),
        }
    }

    fn has_reached(&self, target: Cursor) -> bool {
        let stands = self.session.records.iter().rev().find_map(place);
        stands.is_some_and(|at| at.seq() >= target.seq())
            || self.habits.flaw == Some(Flaw::StopsEarly) && self.events > 10
    }

    async fn leave_and_return(&mut self) -> Result<(), Failure> {
        let place = self.subscription.as_ref().and_then(Subscription::place);
        let (Some(leaves), Some(place)) = (self.habits.leaves, place) else { return Ok(()) };
        self.subscription = None;
        self.session.resume(place);
        sleep(leaves.away).await;
        let returns_to = match self.habits.flaw {
            Some(Flaw::ResumesBehind) => Cursor::new(place.epoch(), place.seq() + BEHIND),
            _ => place,
        };
        self.subscription = Some(self.subscribe(returns_to).await?);
        self.returns += 1;
        Ok(())
    }

    /// Subscribes from `place`, as often as faults make necessary.
    async fn subscribe(&mut self, place: Cursor) -> Result<Subscription, SubscribeError> {
        let begun = Instant::now();
        loop {
            let request = self.session.request.clone().from(place);
            match self.push.subscribe(&Context::default(), request).await {
                Err(_) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(20)).await,
                subscribed => return subscribed,
            }
        }
    }
}

async fn next(subscription: &mut Option<Subscription>) -> Option<Result<Delivery, ConsumeError>> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => None,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn place(record: &Record) -> Option<Cursor> {
    match record {
        Record::Event(seen) if seen.view != View::Snapshot => Some(seen.cursor),
        Record::Place(place) => Some(*place),
        Record::Gap(gap) => Some(gap.cursor),
        _ => None,
    }
}
