//! One connection's deliveries, at the client.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pushpull_core::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, ErrorKind, Feed, Link, Problem, Standing, Start, StartAt,
    Subscribe, SubscribeError, Topics,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep},
};

use crate::{
    Subprotocol,
    close::{self, Closing},
    codec::client::{ServerFrame, credit, parse_server_frames},
    decoder::{Decoder, Message, Side},
    frame::CLOSE,
    pump::Pump,
};

/// Most bytes of one message: an event of 1 MiB, escaped at worst, and some more.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;

/// A [`Feed`] over one connection.
pub(crate) struct WsFeed<I> {
    pump: Pump<I>,
    subprotocol: Subprotocol,
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

impl<I: AsyncRead + AsyncWrite + Unpin> WsFeed<I> {
    /// Reads what `request` asked for over `io`, written in `subprotocol`. It counts as dead after `silence` without a
    /// byte.
    pub(crate) fn new(io: I, subprotocol: Subprotocol, silence: Duration, request: &Subscribe) -> Self {
        Self {
            pump: Pump::new(io, Decoder::new(Side::Client, MAX_MESSAGE), b""),
            subprotocol,
            silence,
            timer: Box::pin(sleep(silence)),
            waiting: VecDeque::new(),
            told: None,
            place: None,
            is_in_snapshot: matches!(request.start, StartAt::Start(Start::Snapshot | Start::Last)),
            conflated: 0,
            failed: None,
            is_ended: false,
        }
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

    fn take(&mut self, message: Message) {
        match message {
            Message::Text(_) | Message::Binary(_) => match parse_server_frames(message, self.subprotocol) {
                Ok(frames) => frames.into_iter().for_each(|frame| self.take_frame(frame)),
                Err(problem) => self.failed = Some(problem),
            },
            Message::Ping(payload) => self.pump.send_pong(&payload),
            Message::Pong => {}
            Message::Close(closing) => {
                let closing = closing.unwrap_or_else(|| Closing::new(close::NORMAL, ""));
                self.pump.send(CLOSE, &Closing::new(closing.code, "").payload());
                self.end(&closing);
            }
        }
    }

    fn take_frame(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Delivery(delivery) => self.wait(delivery),
            ServerFrame::Heartbeat { cursor, conflated } => {
                self.conflated = self.conflated.max(conflated);
                if let Some(cursor) = cursor.filter(|cursor| self.told != Some(*cursor)) {
                    self.wait(Delivery::Place(cursor));
                }
            }
            ServerFrame::GoAway { retry, cursor } => {
                self.wait(Delivery::Link(Link::Ended { retry: Some(retry), cursor }));
                self.is_ended = true;
            }
            ServerFrame::Other => {}
        }
    }

    fn wait(&mut self, delivery: Delivery) {
        self.told = delivery.place().or(self.told);
        self.waiting.push_back(delivery);
    }

    /// What a close code means for whoever consumes.
    fn end(&mut self, closing: &Closing) {
        if self.is_ended {
            return;
        }
        let (slug, retry, cursor) = closing.told();
        let ended = |retry| Delivery::Link(Link::Ended { retry, cursor });
        let failed = |kind: ErrorKind| {
            let problem =
                Problem::new(kind, format!("the server closed: {} {}", closing.code, closing.reason));
            retry.map_or(problem.clone(), |delay| problem.with_retry(delay))
        };
        match (closing.code, retry) {
            (close::NORMAL | close::LAGGED, _) => self.wait(ended(None)),
            (close::AWAY | close::RESTART | close::OVERLOADED, Some(_)) => self.wait(ended(retry)),
            (close::BAD_REQUEST, _) => self.failed = Some(failed(ErrorKind::Invalid)),
            (close::UNAUTHENTICATED, _) => self.failed = Some(failed(ErrorKind::Unauthenticated)),
            (close::FORBIDDEN, _) => self.failed = Some(failed(ErrorKind::Forbidden)),
            // Who says that he goes away has announced it, also where he does not say for how long.
            (close::AWAY | close::RESTART, None) => self.wait(ended(Some(Duration::ZERO))),
            (close::OVERLOADED, _) => self.failed = Some(failed(slug.unwrap_or(ErrorKind::Busy))),
            _ => self.failed = Some(failed(ErrorKind::Protocol)),
        }
        self.is_ended = true;
    }

    /// Reads until something waits. `Ready` also once nothing more can come.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // What cannot be written yet is written later.
            if let Poll::Ready(Err(error)) = self.pump.poll_write(cx, &mut false) {
                self.failed.get_or_insert_with(|| broken(&error.to_string()));
            }
            if self.is_ended || self.failed.is_some() || !self.waiting.is_empty() {
                return Poll::Ready(());
            }
            let polled = self.pump.poll_message(cx);
            if self.pump.was_heard() {
                self.timer.as_mut().reset(Instant::now() + self.silence);
            }
            match polled {
                Poll::Ready(Ok(Some(message))) => self.take(message),
                Poll::Ready(Ok(None)) => self.failed = Some(broken("it ended")),
                Poll::Ready(Err(fault)) => {
                    self.failed = Some(Problem::new(ErrorKind::Protocol, fault.reason));
                }
                Poll::Pending if self.timer.as_mut().poll(cx).is_ready() => {
                    self.failed = Some(Problem::new(ErrorKind::Timeout, "the server is silent"));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn broken(why: &str) -> Problem {
    Problem::new(ErrorKind::Unavailable, format!("the connection broke off: {why}"))
}

impl<I: AsyncRead + AsyncWrite + Send + Unpin> Feed for WsFeed<I> {
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
                let _ = self.pump.poll_write(cx, &mut false);
                return if has_some { Poll::Ready(Some(Ok(()))) } else { Poll::Pending };
            }
            match self.poll_read(cx) {
                Poll::Ready(()) if !self.waiting.is_empty() => {}
                Poll::Ready(()) => {
                    self.is_ended = true;
                    let failed = self.failed.take().map(|problem| Err(problem.into()));
                    return Poll::Ready(failed.or(has_some.then_some(Ok(()))));
                }
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
        Err(Problem::new(ErrorKind::Unsupported, "a connection's topics are fixed").into())
    }

    fn grant(&mut self, events: u64) {
        let (opcode, payload) = credit(events.min(u32::MAX.into()), self.subprotocol);
        self.pump.send(opcode, &payload);
    }

    fn conflated(&self) -> u64 {
        self.conflated
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

impl<I> fmt::Debug for WsFeed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsFeed").field("place", &self.place).finish_non_exhaustive()
    }
}
