//! From the subscription to what is to be written.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use pushpull_core::{Batch, Bounds, ConsumeError, Delivery, ErrorKind, Link, Problem, silent_waker};
use pushpull_http::{Nudged, Transport, proto};

use super::{Session, Stage};
use crate::{
    codec::{self, MAX_FRAME},
    status,
};

/// Taken at once: what a peer that stalls costs beside its place.
const BOUNDS: Bounds = Bounds::new(256, 64 * 1024);
/// Taken before it is written, though more is ready: a few full frames of HTTP/2.
const ENOUGH: usize = 16 * 1024;

thread_local! {
    // Lent to the stream that is being polled, so that an idle one holds no room for deliveries.
    static BATCH: Cell<Batch> = Cell::default();
}

impl Session {
    /// Takes what is ready, until there is enough for a DATA frame or nothing more.
    pub(super) fn poll_deliveries(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while matches!(self.stage, Stage::Running) && self.flush.len() < ENOUGH {
            let Some(subscription) = &mut self.subscription else {
                self.nudged = Nudged::default();
                break;
            };
            let standing = subscription.standing();
            let mut silent = Context::from_waker(silent_waker());
            let is_swept = self.nudged.stand(&self.shared.gate, standing.as_ref(), cx);
            let by = if is_swept { &mut silent } else { &mut *cx };
            let mut batch = BATCH.take();
            let polled = subscription.poll_batch(by, BOUNDS, &mut batch);
            let is_ready = polled.is_ready();
            if is_swept && !is_ready && batch.more {
                // A search that goes on would have woken the silent waker.
                cx.waker().wake_by_ref();
            }
            if let Poll::Ready(polled) = polled {
                self.write(&batch.deliveries, polled);
            }
            batch.clear();
            BATCH.set(batch);
            if !is_ready {
                break;
            }
            moved = true;
        }
        moved
    }

    fn write(&mut self, deliveries: &[Delivery], polled: Option<Result<(), ConsumeError>>) {
        let metrics = self.shared.gate.metrics().clone();
        for delivery in deliveries {
            match delivery {
                Delivery::Event(_) => metrics.delivered(Transport::Grpc, 1),
                Delivery::Gap(gap) => metrics.gap(gap.reason),
                _ => {}
            }
            self.write_one(delivery);
            if !matches!(self.stage, Stage::Running) {
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
            Some(Err(error)) => self.fail(&error.into()),
            None => self.part(status::ended_at(self.place())),
        }
    }

    fn write_one(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Event(event) => {
                let frame = codec::event_frame(event);
                if frame.len() > MAX_FRAME {
                    let detail = format!("the event {} would make a frame of 4 MiB or more", event.cursor());
                    return self.fail(&Problem::new(ErrorKind::TooLarge, detail));
                }
                self.flush.push(frame);
            }
            Delivery::Gap(gap) => self.flush.push(codec::gap_frame(gap)),
            Delivery::Place(place) => {
                self.is_in_snapshot = false;
                self.flush.say(&proto::heartbeat(Some(*place), self.conflated));
                // The starting place comes first (wire contract, section 5), and then the answer to who asked.
                if let Some(id) = self.first_word.take().flatten() {
                    self.flush.say(&proto::ok(Some(id), Some(*place)));
                }
            }
            Delivery::Link(Link::Ended { retry, cursor }) => {
                let place = cursor.or_else(|| self.place());
                match retry {
                    Some(retry) => self.leave(*retry, place),
                    None => self.part(status::ended_at(place)),
                }
            }
            _ => {}
        }
    }
}
