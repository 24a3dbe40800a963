//! One stream: a response body over a subscription.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use pushpull_core::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, Gap, Link, Overflow, Start, StartAt, Subscription,
};
use pushpull_http::{Entry, Format, Gate, KeepAlive, Transport};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::codec;

/// The body of an SSE response: takes all that is ready, and writes it.
///
/// Dropping it, as a server does once the client is gone, ends the subscription. A client that does not read
/// costs its place and what hyper holds of the last frames, nothing else.
pub struct SseBody {
    subscription: Subscription,
    gate: Gate,
    format: Format,
    keep_alive: KeepAlive,
    overflow: Overflow,
    ticks: Interval,
    /// Ready when the stream has to end: a drain, or the end of an identity.
    end: Pin<Box<dyn Future<Output = End> + Send>>,
    batch: Batch,
    /// The place that was last written as an id.
    told: Option<Cursor>,
    conflated: u64,
    /// Whether a snapshot is under way: until it is complete there is no place.
    is_in_snapshot: bool,
    stage: Stage,
    _entry: Entry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Beginning,
    Running,
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Drain,
    Expired,
}

impl SseBody {
    /// A stream of `subscription`, which began at `start` and of which `batch` was taken already.
    pub(crate) fn new(
        subscription: Subscription,
        start: StartAt,
        batch: Batch,
        gate: Gate,
        entry: Entry,
    ) -> Self {
        let period = gate.keep_alive();
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (drain, cx) = (gate.drain().clone(), entry.cx.clone());
        let end = Box::pin(async move {
            tokio::select! {
                () = drain.cancelled() => End::Drain,
                () = pushpull_http::expired(&cx) => End::Expired,
            }
        });
        Self {
            subscription,
            gate,
            format: entry.query.format(),
            keep_alive: entry.query.keepalive,
            overflow: entry.query.overflow,
            ticks,
            end,
            batch,
            told: None,
            conflated: 0,
            is_in_snapshot: matches!(start, StartAt::Start(Start::Snapshot | Start::Last)),
            stage: Stage::Beginning,
            _entry: entry,
        }
    }

    /// The subscription, for a server that writes streams by itself.
    pub fn into_subscription(self) -> Subscription {
        self.subscription
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match self.stage {
                Stage::Ended => return Poll::Ready(None),
                Stage::Beginning => {
                    self.stage = Stage::Running;
                    return Poll::Ready(Some(self.begin()));
                }
                Stage::Running => {}
            }
            if let Poll::Ready(end) = self.end.as_mut().poll(cx) {
                return Poll::Ready(self.finish(end));
            }
            self.batch.clear();
            match self.subscription.poll_batch(cx, Bounds::default(), &mut self.batch) {
                Poll::Ready(polled) => {
                    let bytes = self.write(polled);
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(bytes));
                    }
                }
                Poll::Pending => {
                    ready!(self.ticks.poll_tick(cx));
                    return Poll::Ready(Some(self.keep_alive()));
                }
            }
        }
    }

    /// The first block tells how long to wait before coming back and, where it is known, the starting place.
    fn begin(&mut self) -> Bytes {
        let place = match self.batch.deliveries.first() {
            Some(Delivery::Place(place)) => Some(*place),
            _ => None,
        };
        if place.is_some() {
            self.batch.deliveries.remove(0);
            self.told = place;
        }
        let mut bytes = BytesMut::from(codec::retry(first_retry(), place).as_bytes());
        bytes.extend_from_slice(&self.write(Some(Ok(()))));
        bytes.freeze()
    }

    fn write(&mut self, polled: Option<Result<(), ConsumeError>>) -> Bytes {
        if !matches!(polled, Some(Ok(()))) {
            self.stage = Stage::Ended;
        }
        if let Some(Err(error)) = polled {
            tracing::debug!(%error, "a subscription failed");
        }
        let deliveries = std::mem::take(&mut self.batch.deliveries);
        let bytes = match &deliveries[..] {
            [one] => self.block(one),
            several => {
                let mut joined = BytesMut::new();
                several.iter().for_each(|delivery| joined.extend_from_slice(&self.block(delivery)));
                joined.freeze()
            }
        };
        self.batch.deliveries = deliveries;
        self.count();
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
        let place = self.subscription.place().filter(|_| self.keep_alive == KeepAlive::Place);
        match place {
            Some(place) if self.told != Some(place) => {
                self.told = Some(place);
                codec::place(place).into()
            }
            _ => Bytes::from_static(codec::COMMENT.as_bytes()),
        }
    }

    fn finish(&mut self, end: End) -> Option<Bytes> {
        self.stage = Stage::Ended;
        match end {
            End::Drain => {
                let place = self.subscription.place().or(self.told);
                Some(codec::retry(self.gate.drain().retry_hint(), place).into())
            }
            End::Expired => None,
        }
    }

    fn count(&mut self) {
        let metrics = self.gate.metrics();
        metrics.delivered(Transport::Sse, self.batch.events() as u64);
        for delivery in &self.batch.deliveries {
            if let Delivery::Gap(gap) = delivery {
                metrics.gap(gap.reason);
            }
        }
        let conflated = self.subscription.conflated();
        metrics.conflated(conflated.saturating_sub(self.conflated));
        self.conflated = conflated;
    }
}

/// How long a client waits before it comes back after a cut that nobody announced: 1 to 3 s, jittered, since all
/// clients of a server that dies lose it at the same moment.
fn first_retry() -> Duration {
    Duration::from_millis(fastrand::u64(1000..=3000))
}

impl http_body::Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_bytes(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Ended
    }
}

impl fmt::Debug for SseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseBody")
            .field("subscription", &self.subscription)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
