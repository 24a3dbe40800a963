//! Snapshots that are passed on: whole, or not at all.

use std::{
    task::{self, Poll},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    Batch, Bounds, ConsumeError, Context, Cursor, Delivery, Feed, Link, Push, Standing, Start, StartAt,
    Subscribe, SubscribeError, Subscription, Topics,
};

/// How long a consumer is asked to wait after its snapshot broke off.
const RETRY: Duration = Duration::from_secs(1);

/// A [`Push`] that is passed on to other consumers: what a server half is given over a client half.
///
/// A source that reconnects in the middle of a snapshot takes another one. A consumer behind it would see half of the
/// first and then the second as one, so here its subscription ends at the break ([`Link::Ended`] with a delay and
/// without a place), and when it comes back it asks for a snapshot of its own. All else passes as it is.
#[derive(Clone, Debug)]
pub struct Whole<P>(P);

impl<P> Whole<P> {
    /// Passes `push` on.
    pub fn new(push: P) -> Self {
        Self(push)
    }
}

#[async_trait]
impl<P: Push> Push for Whole<P> {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let is_unit = matches!(request.start, StartAt::Start(Start::Snapshot | Start::Last));
        let subscription = self.0.subscribe(cx, request.clone()).await?;
        if !is_unit {
            return Ok(subscription);
        }
        // The rate is kept by the subscription within; the credit is counted by both alike.
        let mut outer = request;
        outer.rate = None;
        Ok(Subscription::new(Unit { subscription, stage: Stage::Before }, &outer))
    }
}

/// Where the snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    /// Some of it was handed over.
    Within,
    Complete,
    Broken,
}

struct Unit {
    subscription: Subscription,
    stage: Stage,
}

impl Unit {
    /// Looks through what was taken; at a break it cuts the rest off and ends.
    fn look(&mut self, out: &mut Batch, before: usize) {
        let break_at = (before..out.deliveries.len()).find(|at| self.is_break(&out.deliveries[*at]));
        if let Some(at) = break_at {
            self.stage = Stage::Broken;
            out.deliveries.truncate(at);
            out.deliveries.push(Delivery::Link(Link::Ended { retry: Some(RETRY), cursor: None }));
            out.more = false;
        }
    }

    fn is_break(&mut self, delivery: &Delivery) -> bool {
        match (self.stage, delivery) {
            (Stage::Before | Stage::Within, Delivery::Event(event)) if event.is_snapshot() => {
                self.stage = Stage::Within;
            }
            (Stage::Before, Delivery::Gap(_)) => self.stage = Stage::Within,
            (Stage::Before | Stage::Within, Delivery::Place(_)) => self.stage = Stage::Complete,
            (Stage::Within, Delivery::Link(Link::Reconnecting { .. })) => return true,
            _ => {}
        }
        false
    }
}

#[deny(clippy::missing_trait_methods, reason = "what a feed can do must not get lost here")]
impl Feed for Unit {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        if self.stage == Stage::Broken {
            return Poll::Ready(None);
        }
        let before = out.deliveries.len();
        let polled = self.subscription.poll_batch(cx, bounds, out);
        self.look(out, before);
        match self.stage {
            // What ended the source, if anything did, is no concern of who comes back anyway.
            Stage::Broken => Poll::Ready(Some(Ok(()))),
            _ => polled,
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.subscription.place().filter(|_| self.stage == Stage::Complete)
    }

    fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError> {
        self.subscription.retarget(topics)
    }

    fn grant(&mut self, events: u64) {
        self.subscription.grant(events);
    }

    fn conflated(&self) -> u64 {
        self.subscription.conflated()
    }

    fn standing(&self) -> Option<Standing> {
        self.subscription.standing()
    }

    fn transport(&self) -> Option<&'static str> {
        self.subscription.transport()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        ErrorKind, PushExt,
        testing::{FakeFeed, Turn, event, gap, place, snapshot, take},
    };

    struct Source(Mutex<Option<FakeFeed>>);

    #[async_trait]
    impl Push for Source {
        async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
            Ok(Subscription::new(self.0.lock().unwrap().take().unwrap(), &request))
        }
    }

    fn broken() -> Delivery {
        let cause = Some(crate::Problem::new(ErrorKind::Unavailable, "cut"));
        Delivery::Link(Link::Reconnecting { delay: RETRY, cause })
    }

    async fn told(start: Start, deliveries: Vec<Delivery>) -> Vec<String> {
        let feed = FakeFeed::new([Turn::Give(deliveries), Turn::End]);
        let whole = Whole::new(Source(Mutex::new(Some(feed))));
        let request = Subscribe::to("a").unwrap().from(start);
        take(&mut whole.consume(request).await.unwrap(), 9).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_breaks_off_ends_the_subscription() {
        let halves = vec![snapshot(1), broken(), snapshot(1), snapshot(2), place(2)];
        for start in [Start::Snapshot, Start::Last] {
            assert_eq!(told(start, halves.clone()).await, ["snapshot 1", "ended", "none"]);
        }
        let lossy = vec![gap(0, 3, 0, crate::GapReason::Evicted), broken(), place(2)];
        assert_eq!(told(Start::Snapshot, lossy).await, ["evicted 0..3 @0", "ended", "none"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_break_before_or_after_it_is_none_of_its_own() {
        let whole = vec![broken(), snapshot(1), place(2), broken(), event(3)];
        let expected = ["reconnecting (cut)", "snapshot 1", "place 2", "reconnecting (cut)", "a 3", "none"];
        assert_eq!(told(Start::Snapshot, whole.clone()).await, expected);
        let live = vec![snapshot(1), broken(), event(3)];
        assert_eq!(told(Start::Latest, live).await, ["snapshot 1", "reconnecting (cut)", "a 3", "none"]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_has_no_place_before_it_is_complete() {
        let mut feed = FakeFeed::new([Turn::Give(vec![snapshot(1)]), Turn::Give(vec![place(2)])]);
        feed.place = Some(crate::testing::at(9));
        let whole = Whole::new(Source(Mutex::new(Some(feed))));
        let mut unit = whole.consume(Subscribe::to("a").unwrap().from(Start::Snapshot)).await.unwrap();
        assert_eq!((take(&mut unit, 1).await, unit.place()), (vec!["snapshot 1".to_owned()], None));
        assert_eq!(take(&mut unit, 1).await, ["place 2"]);
        assert_eq!(unit.place(), Some(crate::testing::at(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn credit_passes_through() {
        let feed = FakeFeed::new([Turn::Give(vec![snapshot(1), snapshot(2), place(2)])]);
        let grants = feed.grants.clone();
        let whole = Whole::new(Source(Mutex::new(Some(feed))));
        let request =
            Subscribe::to("a").unwrap().from(Start::Snapshot).with_window(std::num::NonZeroU32::MIN);
        let mut unit = whole.consume(request).await.unwrap();
        assert_eq!(take(&mut unit, 2).await, ["snapshot 1", "silence"]);
        unit.grant(1);
        assert_eq!(*grants.lock().unwrap(), [1]);
        assert_eq!(take(&mut unit, 2).await, ["snapshot 2", "place 2"]);
    }
}
