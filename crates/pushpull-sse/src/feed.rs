//! One connection's deliveries.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame};
use pushpull_core::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, ErrorKind, Feed, Gap, Link, Overflow, Problem, Standing,
    Start, StartAt, Subscribe, SubscribeError, Topics,
};
use pushpull_http::json::{Item, parse_item};
use sse_stream::{Sse, SseStream};
use tokio::time::{Instant, Sleep, sleep};

/// Most bytes of one block: an event of 1 MiB, escaped at worst, and some more.
const MAX_BLOCK: usize = 8 * 1024 * 1024;

/// The body of a response, to be read as it comes.
pub(crate) trait Source:
    Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + Unpin + 'static
{
}

impl<B> Source for B where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + Unpin + 'static
{
}

/// A [`Feed`] over one response.
pub(crate) struct SseFeed<B: Source> {
    stream: Pin<Box<SseStream<Watched<B>>>>,
    /// Bytes received since the last whole block.
    pending: Arc<AtomicUsize>,
    /// The delay that the last block asked for: it announces the end, if the end follows.
    retry: Option<Duration>,
    /// Whether a block told a place. The first that does says how to come back after a cut that nobody announces.
    has_place: bool,
    place: Option<Cursor>,
    /// Until it is complete a gap tells only what it lacks.
    is_in_snapshot: bool,
    /// Whether a gap is the server's last word.
    is_closed_by_gap: bool,
    is_ended: bool,
}

impl<B: Source> SseFeed<B> {
    /// Reads what `request` asked for out of `body`, which counts as dead after `silence` without a byte.
    pub(crate) fn new(body: B, silence: Duration, request: &Subscribe) -> Self {
        let pending = Arc::new(AtomicUsize::new(0));
        let watched = Watched { body, silence, timer: Box::pin(sleep(silence)), pending: pending.clone() };
        Self {
            stream: Box::pin(SseStream::new(watched)),
            pending,
            retry: None,
            has_place: false,
            place: None,
            is_in_snapshot: matches!(request.start, StartAt::Start(Start::Snapshot | Start::Last)),
            is_closed_by_gap: request.overflow == Overflow::Close,
            is_ended: false,
        }
    }

    fn take(&mut self, block: Sse, out: &mut Batch) -> Result<(), Problem> {
        self.pending.store(0, Ordering::Relaxed);
        let is_opening = block.id.is_some() && !self.has_place;
        self.has_place |= is_opening;
        self.retry = block.retry.filter(|_| !is_opening).map(Duration::from_millis);
        match (block.data, block.id) {
            (Some(data), _) => match parse_item(data.as_bytes())? {
                Item::Event(event) => out.deliveries.push(Delivery::Event(event)),
                Item::Gap(gap) => self.take_gap(gap, out),
                _ => return Ok(()),
            },
            (None, Some(id)) => {
                let place =
                    id.parse().map_err(|_| Problem::new(ErrorKind::Protocol, "an id is no cursor"))?;
                self.is_in_snapshot = false;
                if self.place != Some(place) {
                    out.deliveries.push(Delivery::Place(place));
                }
            }
            (None, None) => {}
        }
        self.place = out.deliveries.last().and_then(Delivery::place).or(self.place);
        Ok(())
    }

    fn take_gap(&mut self, gap: Gap, out: &mut Batch) {
        out.deliveries.push(Delivery::Gap(gap));
        if self.is_closed_by_gap && !self.is_in_snapshot {
            self.is_ended = true;
            out.deliveries.push(Delivery::Link(Link::Ended { retry: None, cursor: Some(gap.cursor) }));
        }
    }

    fn end(&mut self, out: &mut Batch) {
        self.is_ended = true;
        if let Some(retry) = self.retry {
            out.deliveries.push(Delivery::Link(Link::Ended { retry: Some(retry), cursor: self.place }));
        }
    }
}

impl<B: Source> Feed for SseFeed<B> {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        let before = out.deliveries.len();
        if self.is_ended {
            return Poll::Ready(None);
        }
        loop {
            let taken = out.deliveries.len() - before;
            if taken > 0 && taken >= bounds.events {
                out.more = true;
                return Poll::Ready(Some(Ok(())));
            }
            if bounds.events == 0 {
                return Poll::Pending;
            }
            let polled = match self.stream.as_mut().poll_next(cx) {
                Poll::Pending if taken > 0 => return Poll::Ready(Some(Ok(()))),
                polled => ready!(polled),
            };
            let failed = match polled {
                Some(Ok(block)) => match self.take(block, out) {
                    Ok(()) if self.is_ended => return Poll::Ready(Some(Ok(()))),
                    taken => taken.err(),
                },
                Some(Err(error)) => Some(lost(&error)),
                None => {
                    self.end(out);
                    return Poll::Ready((out.deliveries.len() > before).then_some(Ok(())));
                }
            };
            if let Some(problem) = failed {
                self.is_ended = true;
                return Poll::Ready(Some(Err(problem.into())));
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.place
    }

    fn retarget(&mut self, _: Topics) -> Result<(), SubscribeError> {
        Err(Problem::new(ErrorKind::Unsupported, "a stream's topics are fixed").into())
    }

    fn grant(&mut self, _: u64) {}

    fn conflated(&self) -> u64 {
        0
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

fn lost(error: &sse_stream::Error) -> Problem {
    match error {
        sse_stream::Error::Body(source) => {
            Problem::new(ErrorKind::Unavailable, format!("the stream broke off: {source}"))
        }
        other => Problem::new(ErrorKind::Protocol, other.to_string()),
    }
}

/// A feed that the server has ended for good (204).
#[derive(Debug, Default)]
pub(crate) struct EndedFeed {
    is_told: bool,
}

impl Feed for EndedFeed {
    fn poll_batch(
        &mut self,
        _: &mut Context<'_>,
        _: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        if std::mem::replace(&mut self.is_told, true) {
            return Poll::Ready(None);
        }
        out.deliveries.push(Delivery::Link(Link::Ended { retry: None, cursor: None }));
        Poll::Ready(Some(Ok(())))
    }

    fn place(&self) -> Option<Cursor> {
        None
    }

    fn retarget(&mut self, _: Topics) -> Result<(), SubscribeError> {
        Ok(())
    }

    fn grant(&mut self, _: u64) {}

    fn conflated(&self) -> u64 {
        0
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

/// A body that fails when it is silent for too long, or when a block grows too large.
struct Watched<B> {
    body: B,
    silence: Duration,
    timer: Pin<Box<Sleep>>,
    pending: Arc<AtomicUsize>,
}

impl<B: Source> Body for Watched<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let until = Instant::now() + self.silence;
                self.timer.as_mut().reset(until);
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if self.pending.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_BLOCK {
                    return Poll::Ready(Some(Err(io::Error::other("a block has more than 8 MiB"))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
        }
    }
}

impl<B: Source> fmt::Debug for SseFeed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseFeed").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body_util::Full;
    use pushpull_core::Topics;

    use super::*;

    /// What a body tells, in short, up to its end.
    fn told(start: Start, body: &'static str) -> String {
        let request = Subscribe::new(Topics::new(["a".parse().unwrap()]).unwrap()).from(start);
        let body = Full::new(Bytes::from_static(body.as_bytes()));
        let mut feed = SseFeed::new(body, Duration::from_secs(60), &request);
        let (mut batch, mut cx) = (Batch::default(), Context::from_waker(Waker::noop()));
        while let Poll::Ready(Some(Ok(()))) = feed.poll_batch(&mut cx, Bounds::new(9, 1 << 20), &mut batch) {}
        let words = batch.deliveries.iter().map(|delivery| match delivery {
            Delivery::Place(place) => format!("place {place}"),
            Delivery::Link(Link::Ended { retry, cursor }) => {
                let cursor = cursor.map(|cursor| cursor.to_string()).unwrap_or_default();
                format!("ended {:?} {cursor}", retry.map(|retry| retry.as_millis()))
            }
            other => format!("{other:?}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[tokio::test(start_paused = true)]
    async fn a_goodbye_is_a_delay_behind_the_first_word() {
        const FIRST: &str = ":\nretry: 1500\nid: e-1\n\n";
        for (start, body, expected) in [
            (Start::Latest, FIRST, "place e-1"),
            (Start::Latest, ":\n\n:\nretry: 1500\nid: e-1\n\n", "place e-1"),
            (Start::Latest, ":\nretry: 1500\n\n", "ended Some(1500) "),
            (
                Start::Latest,
                ":\nretry: 1500\nid: e-1\n\n:\nretry: 70\nid: e-1\n\n",
                "place e-1, ended Some(70) e-1",
            ),
            (Start::Latest, ":\nretry: 1500\nid: e-1\n\n:\nid: e-2\n\n", "place e-1, place e-2"),
            (Start::Snapshot, ":\nretry: 1500\n\n:\nid: e-2\n\n", "place e-2"),
        ] {
            assert_eq!(told(start, body), expected, "{body:?}");
        }
    }
}
