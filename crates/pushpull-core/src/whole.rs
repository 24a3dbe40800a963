//! Snapshots that are passed on: whole, or not at all.

use std::{
    task::{self, Poll},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    Batch, Bounds, ConsumeError, Context, Cursor, Delivery, Feed, Link, Push, Standing, Start, StartAt,
    Stride, Subscribe, SubscribeError, Subscription, Topics,
};

/// How long a consumer is asked to wait after its snapshot broke off.
const RETRY: Duration = Duration::from_secs(1);

/// A [`Push`] that is passed on to other consumers: what a server half is given over a client half.
///
/// A source that connects anew in the middle of a snapshot takes another one. A consumer behind it would see half of the
/// first and then the second as one, so here its subscription ends at the break ([`Link::Ended`] with a delay and
/// without a place), and when it comes back it asks for a snapshot of its own.
///
/// Other topics, asked for before a snapshot is complete, are asked for right behind it, from its place on. If the source
/// does not deliver them, the subscription ends there, with a delay and at that place. All else passes as it is.
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
        Ok(Subscription::new(Unit { subscription, stage: Stage::Before, targets: None }, &outer))
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
    /// The topics to be asked for once it is complete.
    targets: Option<Topics>,
}

impl Unit {
    /// Looks through what was taken; at a break it cuts the rest off and ends.
    fn look(&mut self, out: &mut Batch, before: usize) {
        let break_at = (before..out.deliveries.len()).find(|at| self.is_break(&out.deliveries[*at]));
        if let Some(at) = break_at {
            out.deliveries.truncate(at);
            self.break_off(out, None);
        }
    }

    fn break_off(&mut self, out: &mut Batch, cursor: Option<Cursor>) {
        self.stage = Stage::Broken;
        out.deliveries.push(Delivery::Link(Link::Ended { retry: Some(RETRY), cursor }));
        out.more = false;
    }

    /// Asks for other topics as soon as there is a place to do so from.
    fn aim(&mut self, out: &mut Batch) {
        if self.stage == Stage::Complete
            && let Some(topics) = self.targets.take()
        {
            let place = self.subscription.place();
            if self.subscription.retarget(topics).is_err() {
                self.break_off(out, place);
            }
        }
    }

    /// Polls the source; with topics to ask for by steps so small that the snapshot's place is the last of one, and no
    /// event of the topics before stands behind it.
    fn poll_source(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        if self.targets.is_none() {
            return self.subscription.poll_batch(cx, bounds, out);
        }
        let polled = self.subscription.poll_batch(cx, Bounds::new(0, bounds.bytes), out);
        if polled.is_ready() {
            return polled;
        }
        self.subscription.poll_batch(cx, bounds.at_most(1), out)
    }

    fn is_break(&mut self, delivery: &Delivery) -> bool {
        match (self.stage, delivery) {
            (Stage::Before | Stage::Within, Delivery::Event(event)) if event.is_snapshot() => {
                self.stage = Stage::Within;
            }
            (Stage::Before, Delivery::Gap(_)) => self.stage = Stage::Within,
            (Stage::Before | Stage::Within, Delivery::Place(_)) => self.stage = Stage::Complete,
            (Stage::Within, Delivery::Link(Link::Reconnecting { .. } | Link::Connecting)) => return true,
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
        let polled = self.poll_source(cx, bounds, out);
        self.look(out, before);
        self.aim(out);
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
        match self.stage {
            Stage::Before | Stage::Within => self.targets = Some(topics),
            Stage::Complete => return self.subscription.retarget(topics),
            Stage::Broken => {}
        }
        Ok(())
    }

    fn grant(&mut self, events: u64) {
        self.subscription.grant(events);
    }

    fn conflated(&self) -> u64 {
        self.subscription.conflated()
    }

    fn standing(&self) -> Option<Standing> {
        self.subscription.standing().filter(|_| self.stage == Stage::Complete)
    }

    fn follow(&mut self, stride: &Stride) -> bool {
        self.stage == Stage::Complete && self.subscription.follow(stride)
    }

    fn transport(&self) -> Option<&'static str> {
        self.subscription.transport()
    }
}

#[cfg(test)]
mod tests;
