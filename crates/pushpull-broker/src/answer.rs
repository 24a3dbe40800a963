//! The answer to a fetch, being gathered.

use std::task::{self, Poll};

use pushpull_core::{Batch, Bounds, Conflate, Delivery, Feed, Fetch, Link, Start, StartAt};

use crate::feed::BrokerFeed;

/// The answer to a fetch, being gathered.
pub(crate) struct Answer {
    feed: BrokerFeed,
    whole: bool,
    conflate: Conflate,
    bounds: Bounds,
    batch: Batch,
    cut: bool,
    /// Whether nothing more can come: waiting would be in vain.
    ended: bool,
}

impl Answer {
    pub(crate) fn new(feed: BrokerFeed, request: &Fetch) -> Self {
        let whole = matches!(request.start, StartAt::Start(Start::Snapshot | Start::Last));
        let bounds = match whole {
            true => Bounds::new(usize::MAX, usize::MAX),
            false => Bounds::new(request.limit.clamp(1, Fetch::MAX_LIMIT), request.max_bytes),
        };
        let (conflate, batch) = (request.conflate, Batch::default());
        Self { feed, whole, conflate, bounds, batch, cut: false, ended: false }
    }

    /// Takes all there is, within the bounds.
    pub(crate) fn gather(&mut self, cx: &mut task::Context<'_>) {
        loop {
            let before = self.batch.deliveries.len();
            let polled = self.feed.poll_batch(cx, self.bounds, &mut self.batch);
            self.spend(before);
            self.cut = self.batch.more;
            self.ended = matches!(polled, Poll::Ready(None));
            let is_full = self.bounds.events == 0 || self.bounds.bytes == 0;
            let done = self.whole || self.batch.closed || is_full || self.is_conflated();
            if done || !matches!(polled, Poll::Ready(Some(_))) || (self.batch.more && self.is_worth_sending())
            {
                return;
            }
        }
    }

    /// Whether taking more could bring a key twice: what came since was not weighed against what was taken.
    fn is_conflated(&self) -> bool {
        let mut taken = self.batch.deliveries.iter();
        self.conflate == Conflate::Key && taken.any(|delivery| matches!(delivery, Delivery::Event(_)))
    }

    fn spend(&mut self, before: usize) {
        for delivery in &self.batch.deliveries[before..] {
            match delivery {
                Delivery::Event(event) => {
                    self.bounds.events = self.bounds.events.saturating_sub(1);
                    self.bounds.bytes = self.bounds.bytes.saturating_sub(event.payload().len());
                }
                Delivery::Link(Link::Ended { retry: None, .. }) => self.batch.closed = true,
                _ => {}
            }
        }
        self.batch.deliveries.retain(|delivery| matches!(delivery, Delivery::Event(_) | Delivery::Gap(_)));
        if self.batch.deliveries.is_empty() {
            // Who waits holds no room for what may come.
            self.batch.deliveries = Vec::new();
        }
    }

    pub(crate) fn is_worth_sending(&self) -> bool {
        !self.batch.deliveries.is_empty() || self.whole
    }

    pub(crate) fn poll_worth_sending(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        self.gather(cx);
        match self.is_worth_sending() || self.batch.closed || self.ended {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub(crate) fn finish(self, stale: bool) -> Batch {
        let mut batch = self.batch;
        batch.place = self.feed.place();
        batch.more = self.cut && !batch.closed;
        batch.stale = stale;
        batch.conflated = self.feed.conflated();
        batch
    }
}
