//! Opening connections: one, the first of several, and the first word that proves one.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;

use super::{Ways, trail::Trail};
use crate::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, Dial, ErrorKind, Feed, Problem, Standing, Stride,
    Subscribe, SubscribeError, Topics, reconnect::is_announced,
};

/// Opens the first way that can be, from where the trail stands on, and leaves it there; at the first if there is none.
pub(super) async fn walk(
    ways: Ways,
    trail: Arc<Trail>,
    request: Subscribe,
    patience: Duration,
) -> Result<Box<dyn Feed>, SubscribeError> {
    trail.begin();
    let mut failed: Option<Problem> = None;
    for (number, way) in ways.iter().enumerate().skip(trail.at()) {
        match open(way.clone(), request.clone(), patience).await {
            Ok(opened) => {
                trail.open(number);
                return Ok(Box::new(opened));
            }
            Err(problem) if is_final(&problem) || (is_announced(&problem) && trail.refuse(number)) => {
                trail.stand(number);
                return Err(problem.into());
            }
            Err(problem) => {
                trail.pass(number, problem.clone());
                failed = Some(match failed {
                    Some(earlier) if hope(&earlier) >= hope(&problem) => earlier,
                    _ => problem,
                });
            }
        }
    }
    trail.stand(0);
    let none = || Problem::new(ErrorKind::Unsupported, "there is no way to the source");
    Err(failed.unwrap_or_else(none).into())
}

/// Opens the first of the first `count` ways that can be, drops what it opened, and says which one it was.
pub(super) async fn first_open(
    ways: Ways,
    count: usize,
    request: Subscribe,
    patience: Duration,
) -> Option<usize> {
    for (number, way) in ways.iter().enumerate().take(count) {
        let opened = open(way.clone(), request.clone(), patience).await;
        if opened.is_ok_and(|opened| opened.is_welcome()) {
            return Some(number);
        }
    }
    None
}

/// Whether no other way can do better: the source knows who asks, or what for, and refuses.
fn is_final(problem: &Problem) -> bool {
    match problem.kind() {
        _ if problem.is_doubtful() => false,
        ErrorKind::Unauthenticated | ErrorKind::Forbidden => true,
        // A bad request that names no parameter is what somebody in between says to what he does not know.
        ErrorKind::Invalid => problem.parameter().is_some(),
        _ => false,
    }
}

/// How much reason `problem` leaves to try again: of several, the one with most is told.
fn hope(problem: &Problem) -> u8 {
    match problem.kind() {
        ErrorKind::Protocol => 1,
        // How long to stay away is for the source to say.
        _ if problem.is_retryable() => 3 - u8::from(problem.is_doubtful()),
        _ => 0,
    }
}

/// Dials, and waits for the first word.
async fn open(way: Arc<dyn Dial + Sync>, request: Subscribe, patience: Duration) -> Result<Opened, Problem> {
    let opening = async {
        let mut feed = way.dial(request).await.map_err(Problem::from)?;
        let mut first = Batch::default();
        let bounds = Bounds::default().at_most(1);
        match poll_fn(|cx| feed.poll_batch(cx, bounds, &mut first)).await {
            Some(Ok(())) => {
                Ok(Opened { first: first.deliveries.into(), more: first.more, place: None, feed })
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(Problem::new(ErrorKind::Unavailable, "it ended before its first word")),
        }
    };
    let late = |_| Err(Problem::new(ErrorKind::Timeout, "no first word within the deadline"));
    timeout(patience, opening).await.unwrap_or_else(late)
}

/// A connection whose first word has come: at most one event, and what came with it.
struct Opened {
    first: VecDeque<Delivery>,
    /// Whether more waits behind them.
    more: bool,
    /// The place behind those of them that were handed over.
    place: Option<Cursor>,
    feed: Box<dyn Feed>,
}

impl Opened {
    /// Whether the first word is more than that it ends.
    fn is_welcome(&self) -> bool {
        !self.first.iter().any(|delivery| matches!(delivery, Delivery::Link(_)))
    }

    fn hand_over(&mut self, bounds: Bounds, out: &mut Batch) {
        while let Some(next) = self.first.front() {
            if matches!(next, Delivery::Event(_)) && bounds.events == 0 {
                break;
            }
            self.place = next.place().or(self.place);
            out.deliveries.extend(self.first.pop_front());
        }
        out.more = self.more || !self.first.is_empty();
    }
}

#[deny(clippy::missing_trait_methods, reason = "what a feed can do must not get lost here")]
impl Feed for Opened {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        if self.first.is_empty() {
            return self.feed.poll_batch(cx, bounds, out);
        }
        let before = out.deliveries.len();
        self.hand_over(bounds, out);
        match out.deliveries.len() > before {
            true => Poll::Ready(Some(Ok(()))),
            // The event waits for credit.
            false => Poll::Pending,
        }
    }

    fn place(&self) -> Option<Cursor> {
        if self.first.is_empty() { self.feed.place() } else { self.place }
    }

    /// Only while what waits here is right for any topics.
    fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError> {
        if self.first.iter().all(|delivery| matches!(delivery, Delivery::Place(_))) {
            return self.feed.retarget(topics);
        }
        Err(Problem::new(ErrorKind::Unsupported, "what came for the topics before is not delivered yet")
            .into())
    }

    fn grant(&mut self, events: u64) {
        self.feed.grant(events);
    }

    fn conflated(&self) -> u64 {
        self.feed.conflated()
    }

    fn standing(&self) -> Option<Standing> {
        self.feed.standing().filter(|_| self.first.is_empty())
    }

    fn follow(&mut self, stride: &Stride) -> bool {
        self.first.is_empty() && self.feed.follow(stride)
    }

    fn transport(&self) -> Option<&'static str> {
        self.feed.transport()
    }
}
