//! From the subscription to the outbox.

use std::{
    cell::Cell,
    task::{Context, Poll},
    time::Duration,
};

use pushpull_core::{Batch, Bounds, ConsumeError, Cursor, Delivery, Link, Retry, silent_waker};
use pushpull_http::Transport;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, Stage};
use crate::{
    close::{self, Closing},
    codec::server::{Said, event_frame},
    handshake::Mode,
};

/// Taken at once. A peer that stalls costs at most this much beside its place: the rest of what was being written.
const BOUNDS: Bounds = Bounds::new(256, 64 * 1024);

thread_local! {
    // Lent to the connection that is being polled, so that an idle one holds no room for deliveries.
    static BATCH: Cell<Batch> = Cell::default();
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    /// Takes what is ready once all before it is written: who does not read owns no queue.
    pub(super) fn poll_deliveries(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stage != Stage::Running || self.inbox.has_last() || !self.pump.outbox.is_empty() {
            return false;
        }
        let is_swept = self.stand();
        let Some(subscription) = &mut self.subscription else { return false };
        let mut batch = BATCH.take();
        batch.clear();
        // Whom the sweep serves, no signal wakes.
        let mut silent = Context::from_waker(silent_waker());
        let by = if is_swept { &mut silent } else { &mut *cx };
        let polled = subscription.poll_batch(by, BOUNDS, &mut batch);
        let moved = polled.is_ready();
        if is_swept && !moved && batch.more {
            // A search that goes on would have woken the silent waker.
            cx.waker().wake_by_ref();
        }
        if let Poll::Ready(polled) = polled {
            self.write(&batch.deliveries, polled);
        }
        batch.clear();
        BATCH.set(batch);
        moved
    }

    pub(super) fn write(&mut self, deliveries: &[Delivery], polled: Option<Result<(), ConsumeError>>) {
        let metrics = self.shared.gate.metrics().clone();
        let events = deliveries.iter().filter(|delivery| matches!(delivery, Delivery::Event(_))).count();
        metrics.delivered(Transport::Ws, events as u64);
        for delivery in deliveries {
            if let Delivery::Gap(gap) = delivery {
                metrics.gap(gap.reason);
            }
            self.write_one(delivery);
            if self.stage != Stage::Running {
                return;
            }
        }
        if let Some(subscription) = &self.subscription {
            let conflated = subscription.conflated();
            metrics.conflated(conflated.saturating_sub(self.conflated));
            self.conflated = conflated;
        }
        match polled {
            Some(Ok(())) => {}
            Some(Err(error)) => self.fail(&error),
            None => self.end(None, self.place()),
        }
    }

    fn write_one(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Event(event) => {
                self.is_gap_last = false;
                self.pump.outbox.push(event_frame(event, self.shape));
            }
            Delivery::Gap(gap) => {
                self.is_gap_last = true;
                match self.shape.mode {
                    Mode::Raw => self.close_lagged(Some(gap.cursor)),
                    Mode::Framed(_) => self.say(&Said::Gap(gap)),
                }
            }
            Delivery::Place(place) => {
                self.is_in_snapshot = false;
                self.tell_place(*place);
            }
            Delivery::Link(Link::Ended { retry, cursor }) => {
                let cursor = cursor.or_else(|| self.place());
                self.end(*retry, cursor);
            }
            _ => {}
        }
    }

    /// The source ended the subscription.
    fn end(&mut self, retry: Option<Duration>, cursor: Option<Cursor>) {
        match retry {
            Some(retry) => self.leave(retry, cursor),
            None if self.is_gap_last => self.close_lagged(cursor),
            None => self.close(&Closing::new(close::NORMAL, "")),
        }
    }

    fn close_lagged(&mut self, cursor: Option<Cursor>) {
        self.close(&Closing::new(close::LAGGED, "lagged").resuming(None, cursor));
    }

    fn fail(&mut self, error: &ConsumeError) {
        tracing::debug!(%error, "a subscription failed");
        let retry = match error.retry() {
            Retry::After(delay) => Some(delay),
            _ => None,
        };
        let place = self.place();
        self.close(&Closing::over(error.kind()).resuming(retry, place));
    }
}
