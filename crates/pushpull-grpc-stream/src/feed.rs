//! One stream's deliveries, at the client.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream;
use pushpull_core::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, ErrorKind, Feed, Link, Problem, Standing, Start, StartAt,
    Subscribe, SubscribeError, Topics,
};
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Status, Streaming};

use crate::{
    codec::{self, Frame},
    proto::{ClientFrame, Credit, ServerFrame, SubscribeRequest, client_frame},
    status::{CURSOR, announced, problem_of},
};

/// A [`Feed`] over one stream.
pub(crate) struct GrpcFeed {
    frames: Streaming<ServerFrame>,
    /// Where what is granted goes; `None` without a window.
    outbox: Option<Outbox>,
    silence: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: VecDeque<Delivery>,
    /// The newest place among what waits or was handed over.
    told: Option<Cursor>,
    place: Option<Cursor>,
    is_in_snapshot: bool,
    conflated: u64,
    failed: Option<Problem>,
    is_ended: bool,
}

impl GrpcFeed {
    /// Reads what `wanted` asked for, from a stream that counts as dead after `silence` without a frame.
    pub(crate) fn new(
        frames: Streaming<ServerFrame>,
        outbox: Option<Outbox>,
        silence: Duration,
        wanted: &Subscribe,
    ) -> Self {
        Self {
            frames,
            outbox,
            silence,
            timer: Box::pin(sleep(silence)),
            waiting: VecDeque::new(),
            told: None,
            place: None,
            is_in_snapshot: matches!(wanted.start, StartAt::Start(Start::Snapshot | Start::Last)),
            conflated: 0,
            failed: None,
            is_ended: false,
        }
    }

    /// Waits for the first frame, which says whether there is a subscription.
    pub(crate) async fn first(&mut self) -> Result<(), Problem> {
        poll_fn(|cx| self.poll_read(cx)).await;
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Hands over what waits, up to `bounds`, counting on from `taken`. `false` if an event had to stay.
    fn hand_over(&mut self, bounds: Bounds, taken: &mut Bounds, out: &mut Batch) -> bool {
        while let Some(next) = self.waiting.front() {
            if let Delivery::Event(event) = next {
                let bytes = taken.bytes + event.payload().len();
                if taken.events >= bounds.events || (taken.events > 0 && bytes > bounds.bytes) {
                    out.more = true;
                    return false;
                }
                *taken = Bounds::new(taken.events + 1, bytes);
            }
            let Some(next) = self.waiting.pop_front() else { break };
            match &next {
                Delivery::Place(_) => self.is_in_snapshot = false,
                // A snapshot that begins with a gap has no place before it is complete.
                Delivery::Gap(_) if self.is_in_snapshot => {
                    out.deliveries.push(next);
                    continue;
                }
                _ => {}
            }
            self.place = next.place().or(self.place);
            out.deliveries.push(next);
        }
        true
    }

    /// Reads a frame. `Ready` also where the stream ended or failed.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ended || self.failed.is_some() {
            return Poll::Ready(());
        }
        match Pin::new(&mut self.frames).poll_next(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer.as_mut().reset(Instant::now() + self.silence);
                if let Err(problem) = codec::frame_in(frame).map(|frame| self.take(frame)) {
                    self.failed = Some(problem);
                }
            }
            Poll::Ready(Some(Err(status))) => self.fail(&status),
            Poll::Ready(None) => self.end(cx),
            Poll::Pending => {
                std::task::ready!(self.timer.as_mut().poll(cx));
                self.failed = Some(Problem::new(ErrorKind::Timeout, "the stream is silent"));
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Delivery(delivery) => self.wait(delivery),
            Frame::Heartbeat { cursor, conflated } => {
                self.conflated = self.conflated.max(conflated);
                if let Some(cursor) = cursor.filter(|cursor| self.told != Some(*cursor)) {
                    self.wait(Delivery::Place(cursor));
                }
            }
            Frame::Error(problem) => self.failed = Some(problem),
            Frame::Goaway { retry, cursor } => self.away(Some(retry), cursor),
            _ => {}
        }
    }

    fn wait(&mut self, delivery: Delivery) {
        self.told = delivery.place().or(self.told);
        self.waiting.push_back(delivery);
    }

    fn away(&mut self, retry: Option<Duration>, cursor: Option<Cursor>) {
        self.waiting.push_back(Delivery::Link(Link::Ended { retry, cursor }));
        self.is_ended = true;
    }

    fn fail(&mut self, status: &Status) {
        match announced(status) {
            Some((retry, cursor)) => self.away(Some(retry), cursor),
            None => self.failed = Some(problem_of(status)),
        }
    }

    /// A stream ends by trailers. One that just stops was cut.
    fn end(&mut self, cx: &mut Context<'_>) {
        let trailers = match pin!(self.frames.trailers()).poll(cx) {
            Poll::Ready(Ok(trailers)) => trailers,
            _ => None,
        };
        match trailers {
            Some(trailers) => {
                let cursor = trailers.get(CURSOR).and_then(|value| value.to_str().ok()?.parse().ok());
                self.away(None, cursor);
            }
            None => self.failed = Some(Problem::new(ErrorKind::Unavailable, "the stream broke off")),
        }
    }
}

impl Feed for GrpcFeed {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        let before = out.deliveries.len();
        let mut taken = Bounds::new(0, 0);
        loop {
            let is_all = self.hand_over(bounds, &mut taken, out);
            let has_some = out.deliveries.len() > before;
            if !is_all || (has_some && taken.events >= bounds.events) {
                // Without credit the next event stays until more is granted.
                return if has_some { Poll::Ready(Some(Ok(()))) } else { Poll::Pending };
            }
            if self.is_ended || self.failed.is_some() {
                if has_some {
                    return Poll::Ready(Some(Ok(())));
                }
                self.is_ended = true;
                return Poll::Ready(self.failed.take().map(|problem| Err(problem.into())));
            }
            match self.poll_read(cx) {
                Poll::Ready(()) => {}
                Poll::Pending if has_some => return Poll::Ready(Some(Ok(()))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.place
    }

    /// The server would count new topics from its own place, which lies ahead of the consumer's: ask anew.
    fn retarget(&mut self, _: Topics) -> Result<(), SubscribeError> {
        Err(Problem::new(ErrorKind::Unsupported, "a stream's topics are fixed").into())
    }

    fn grant(&mut self, events: u64) {
        if let Some(outbox) = &self.outbox {
            outbox.grant(events);
        }
    }

    fn conflated(&self) -> u64 {
        self.conflated
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

impl fmt::Debug for GrpcFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcFeed").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What a client says on `Attach`: that it subscribes, and then what it grants. Grants that wait are summed up, so that
/// nothing grows while the server does not read.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(Arc<Mutex<Unsaid>>);

#[derive(Debug)]
struct Unsaid {
    subscribe: Option<SubscribeRequest>,
    granted: u64,
    waker: Option<Waker>,
}

impl Outbox {
    pub(crate) fn new(subscribe: SubscribeRequest) -> Self {
        Self(Arc::new(Mutex::new(Unsaid { subscribe: Some(subscribe), granted: 0, waker: None })))
    }

    /// What is said, as it is said. It ends when the call does.
    pub(crate) fn frames(&self) -> impl Stream<Item = ClientFrame> + Send + use<> {
        Frames(self.clone())
    }

    fn grant(&self, events: u64) {
        let waker = {
            let mut unsaid = self.lock();
            unsaid.granted = unsaid.granted.saturating_add(events);
            unsaid.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unsaid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Frames(Outbox);

impl Stream for Frames {
    type Item = ClientFrame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientFrame>> {
        let mut unsaid = self.0.lock();
        let said = match (unsaid.subscribe.take(), unsaid.granted) {
            (Some(subscribe), _) => client_frame::Frame::Subscribe(subscribe),
            (None, 0) => {
                unsaid.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            (None, events) => {
                unsaid.granted = 0;
                client_frame::Frame::Credit(Credit { events, id: None })
            }
        };
        Poll::Ready(Some(ClientFrame { frame: Some(said) }))
    }
}
