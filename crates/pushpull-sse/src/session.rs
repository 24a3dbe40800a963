//! One stream: a response body over a subscription.

use std::{
    cell::Cell,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pushpull_core::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, Gap, Link, Overflow, Standing, Start, StartAt,
    Subscription, silent_waker,
};
use pushpull_http::{Alarm, Entry, Format, Gate, Given, KeepAlive, Live, Round, Taken, Transport};
use tokio::time::Instant;

use crate::codec;

thread_local! {
    // Lent to the stream that is being polled, so that an idle one holds no room for deliveries.
    static BATCH: Cell<Batch> = Cell::default();
}

/// The body of an SSE response: takes all that is ready, and writes it.
///
/// Dropping it, as a server does once the client is gone, ends the subscription. A client that does not read
/// costs its place and what the server holds of the last frames, nothing else.
pub(crate) struct SseBody {
    subscription: Subscription,
    gate: Gate,
    format: Format,
    keep_alive: KeepAlive,
    overflow: Overflow,
    /// For the next keep-alive, the end of an identity, and a drain.
    alarm: Alarm,
    /// What the alarm wakes.
    waker: Option<Waker>,
    beat_at: Instant,
    expires: Option<Instant>,
    /// The place that was last written as an id.
    told: Option<Cursor>,
    conflated: u64,
    /// Whether a snapshot is under way: until it is complete there is no place.
    is_in_snapshot: bool,
    stage: Stage,
    _guard: Option<pushpull_http::ConnectionGuard>,
}

enum Stage {
    /// With what was taken already.
    Beginning(Box<Batch>),
    Running,
    Ended,
}

impl SseBody {
    /// A stream of `subscription`, which began at `start` and of which `batch` was taken already.
    pub(crate) fn new(
        subscription: Subscription,
        start: StartAt,
        batch: Batch,
        gate: Gate,
        mut entry: Entry,
    ) -> Self {
        let beat_at = Instant::now() + gate.keep_alive();
        let expires = entry.cx.identity.as_ref().and_then(|identity| identity.expires);
        Self {
            subscription,
            format: entry.query.format(),
            keep_alive: entry.query.keepalive,
            overflow: entry.query.overflow,
            alarm: gate.alarm(),
            waker: None,
            beat_at,
            expires,
            gate,
            told: None,
            conflated: 0,
            is_in_snapshot: matches!(start, StartAt::Start(Start::Snapshot | Start::Last)),
            stage: Stage::Beginning(Box::new(batch)),
            _guard: entry.guard.take(),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, is_swept: bool) -> Poll<Option<Bytes>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Running) {
                Stage::Ended => {
                    self.stage = Stage::Ended;
                    return Poll::Ready(None);
                }
                Stage::Beginning(batch) => return Poll::Ready(Some(self.begin(&batch))),
                Stage::Running => {}
            }
            if self.gate.drain().is_draining() {
                return Poll::Ready(Some(self.leave()));
            }
            if self.expires.is_some_and(|at| at <= Instant::now()) {
                self.stage = Stage::Ended;
                return Poll::Ready(None);
            }
            match self.poll_deliveries(cx, is_swept) {
                Poll::Ready(bytes) if !bytes.is_empty() => return Poll::Ready(Some(bytes)),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    let is_due = self.poll_alarm(cx).is_ready();
                    if is_due && self.beat_at <= Instant::now() {
                        return Poll::Ready(Some(self.keep_alive()));
                    }
                    // A drain that began before the alarm was set woke nobody.
                    if !is_due && !self.gate.drain().is_draining() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn poll_deliveries(&mut self, cx: &mut Context<'_>, is_swept: bool) -> Poll<Bytes> {
        let mut silent = Context::from_waker(silent_waker());
        let mut batch = BATCH.take();
        batch.clear();
        let by = if is_swept { &mut silent } else { &mut *cx };
        let polled = self.subscription.poll_batch(by, Bounds::default(), &mut batch);
        if is_swept && polled.is_pending() && batch.more {
            // A search that goes on would have woken the silent waker.
            cx.waker().wake_by_ref();
        }
        let written = polled.map(|polled| self.write(&batch.deliveries, polled));
        batch.clear();
        BATCH.set(batch);
        written
    }

    /// Ready when a keep-alive is due, or the identity has ceased to hold.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.alarm.unset();
        }
        let next = self.expires.map_or(self.beat_at, |expires| expires.min(self.beat_at));
        self.alarm.poll_at(next, cx)
    }

    /// The first block tells how long to wait before coming back and, where it is known, the starting place.
    fn begin(&mut self, first: &Batch) -> Bytes {
        let (place, rest) = match &first.deliveries[..] {
            [Delivery::Place(place), rest @ ..] => (Some(*place), rest),
            rest => (None, rest),
        };
        self.told = place;
        let mut bytes = BytesMut::from(codec::retry(first_retry(), place).as_bytes());
        bytes.extend_from_slice(&self.write(rest, Some(Ok(()))));
        bytes.freeze()
    }

    fn write(&mut self, deliveries: &[Delivery], polled: Option<Result<(), ConsumeError>>) -> Bytes {
        if !matches!(polled, Some(Ok(()))) {
            self.stage = Stage::Ended;
        }
        if let Some(Err(error)) = polled {
            tracing::debug!(%error, "a subscription failed");
        }
        let bytes = match deliveries {
            [one] => self.block(one),
            several => {
                let mut joined = BytesMut::new();
                several.iter().for_each(|delivery| joined.extend_from_slice(&self.block(delivery)));
                joined.freeze()
            }
        };
        self.count(deliveries);
        bytes
    }

    fn block(&mut self, delivery: &Delivery) -> Bytes {
        let was_told = self.told;
        if !(self.is_in_snapshot && matches!(delivery, Delivery::Gap(_))) {
            self.told = delivery.place().or(self.told);
        }
        match delivery {
            Delivery::Event(event) => codec::event(event, self.format),
            Delivery::Gap(gap) => codec::gap(gap, self.gap_id(gap)).into(),
            Delivery::Place(place) => {
                self.is_in_snapshot = false;
                if was_told == Some(*place) { Bytes::new() } else { codec::place(*place).into() }
            }
            Delivery::Link(Link::Ended { retry, cursor }) => {
                self.stage = Stage::Ended;
                retry.map_or_else(Bytes::new, |delay| codec::retry(delay, cursor.or(was_told)).into())
            }
            _ => Bytes::new(),
        }
    }

    /// Where a browser resumes that was told `gap`. What it ends for good by `overflow=close` must not be a place
    /// from which it could go on: from where the gap begins it is told to stop.
    fn gap_id(&self, gap: &Gap) -> Option<Cursor> {
        match self.overflow {
            _ if self.is_in_snapshot => None,
            Overflow::Close => Some(gap.after),
            _ => Some(gap.cursor),
        }
    }

    fn keep_alive(&mut self) -> Bytes {
        self.beat_at = Instant::now() + self.gate.keep_alive();
        let place = self.subscription.place().filter(|_| self.keep_alive == KeepAlive::Place);
        match place {
            Some(place) if self.told != Some(place) => {
                self.told = Some(place);
                codec::place(place).into()
            }
            _ => Bytes::from_static(codec::COMMENT.as_bytes()),
        }
    }

    /// Tells when and from where to come back.
    fn leave(&mut self) -> Bytes {
        self.stage = Stage::Ended;
        let place = self.subscription.place().or(self.told);
        codec::retry(self.gate.drain().retry_hint(), place).into()
    }

    fn count(&mut self, deliveries: &[Delivery]) {
        let metrics = self.gate.metrics();
        let events = deliveries.iter().filter(|delivery| matches!(delivery, Delivery::Event(_))).count();
        metrics.delivered(Transport::Sse, events as u64);
        for delivery in deliveries {
            if let Delivery::Gap(gap) = delivery {
                metrics.gap(gap.reason);
            }
        }
        let conflated = self.subscription.conflated();
        metrics.conflated(conflated.saturating_sub(self.conflated));
        self.conflated = conflated;
    }
}

impl Live for SseBody {
    fn poll_bytes(&mut self, cx: &mut Context<'_>, is_swept: bool) -> Poll<Option<Bytes>> {
        self.poll_next(cx, is_swept)
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn standing(&self) -> Option<Standing> {
        self.subscription.standing().filter(|_| matches!(self.stage, Stage::Running))
    }

    fn take(&mut self, round: &mut Round) -> Given {
        let format = self.format;
        let form = codec::chunk_form(format);
        match round.take(&mut self.subscription, form, |events| codec::chunk(events, format)) {
            Taken::Nothing => Given::Nothing,
            Taken::Joined { bytes, events, last } => {
                self.told = Some(last);
                self.gate.metrics().delivered(Transport::Sse, events);
                Given::Chunk(bytes.clone())
            }
            Taken::Own(deliveries, polled) => match self.write(deliveries, polled) {
                bytes if matches!(self.stage, Stage::Ended) => Given::End(bytes),
                bytes => Given::Bytes(bytes),
            },
        }
    }
}

/// How long a client waits before it comes back after a cut that nobody announced: 1 to 3 s, jittered, since all
/// clients of a server that dies lose it at the same moment.
fn first_retry() -> Duration {
    Duration::from_millis(fastrand::u64(1000..=3000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_stream_is_small() {
        assert!(size_of::<SseBody>() <= 224, "{} bytes", size_of::<SseBody>());
    }
}
