//! Several ways to one source: the best one that works is taken.

mod ladder;
mod opening;
mod trail;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use crate::{Cursor, Dial, Dialing, End, Link, Subscribe};

use ladder::Ladder;
use opening::{first_open, walk};
use trail::Trail;

/// The shortest time between two probes.
const SHORTEST: Duration = Duration::from_millis(10);

/// A [`Dial`] over several, the best first: takes the first that opens, falls back to the next when one fails, and
/// probes from time to time whether a better one works again. Driven by [`Reconnecting`](crate::Reconnecting),
/// which keeps place, credit and back-off, it is one subscription over all of them: each event comes once, in order,
/// over every step down and up.
///
/// # Down
/// A connection is open once it has brought its first word. It falls back to the next way when a connection does not
/// open in time, or when two in a row were lost within 10 s of opening, one found silent counting up to the last thing it
/// brought. An [announced](End::Announced) end does not count, and a source that asks to come back later is
/// asked again by the same way, but at most twice if that never was open. A refusal of who asks, or of a parameter of the
/// request, is final on every way. All this only if it is the source's own word: what is [in doubt](crate::Problem::is_doubtful)
/// is a way that does not open, or broke. When none opens, the next attempt begins with the best. Each way that did not open
/// before the one that did is told as [`Link::PassedOver`], with the cause.
///
/// # Up
/// While a lower way is live and its place known, the better ones are probed, the best first, by a connection of their
/// own. When one brings its first word, the live connection is left at its place, and the better way taken
/// from there. A probe that fails disturbs nothing and is not told. A step up that has to be taken back before its
/// connection lived as long as the interval doubles the time to the next probe, up to ten times the interval.
///
/// A probe lives in the subscription: it makes progress while that is polled, and is dropped with it.
pub struct Fallback {
    ways: Ways,
    /// Where the last walk ended.
    trail: Arc<Trail>,
    patience: Duration,
    ladder: Ladder,
    probe: Probe,
}

/// What is fallen back over, the best first.
type Ways = Arc<[Arc<dyn Dial + Sync>]>;

enum Probe {
    None,
    Due(Pin<Box<Sleep>>),
    /// Gives the way that opened.
    Opening(Pin<Box<dyn Future<Output = Option<usize>> + Send>>),
}

impl Fallback {
    /// Falls back over `ways`, the best first. Without any nothing can be dialled.
    pub fn new(ways: Vec<Arc<dyn Dial + Sync>>) -> Self {
        let ladder = Ladder::new(ways.len(), Duration::from_secs(30));
        let trail = Arc::new(Trail::new(ways.len()));
        Self { ways: ways.into(), trail, patience: Duration::from_secs(10), ladder, probe: Probe::None }
    }

    /// Sets how long a connection may take to bring its first word. Default: 10 s.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets the time to the next probe of a better way, each time jittered by a quarter. Default: 30 s; at least
    /// 10 ms.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.ladder = Ladder::new(self.ways.len(), interval.max(SHORTEST));
        self
    }

    /// Notices where the last walk ended.
    fn settle(&mut self) {
        if self.ladder.settle(self.trail.at()) {
            self.probe = Probe::None;
        }
    }

    fn take_way(&mut self) {
        self.trail.stand(self.ladder.at());
        self.probe = Probe::None;
    }

    fn probe(&self, request: &Subscribe, place: Cursor) -> Probe {
        // One event is word enough, where the source can be told so.
        let request = request.clone().from(place).with_window(std::num::NonZeroU32::MIN);
        Probe::Opening(Box::pin(first_open(self.ways.clone(), self.ladder.at(), request, self.patience)))
    }
}

#[deny(clippy::missing_trait_methods, reason = "what a dial hears and knows must not get lost here")]
impl Dial for Fallback {
    fn dial(&self, request: Subscribe) -> Dialing {
        Box::pin(walk(self.ways.clone(), self.trail.clone(), request, self.patience))
    }

    fn transport(&self) -> Option<&'static str> {
        self.ways.get(self.trail.at())?.transport()
    }

    fn passed_over(&mut self) -> Vec<Link> {
        let told = |(way, cause): (usize, _)| {
            let transport = self.ways.get(way).and_then(|way| way.transport());
            Link::PassedOver { transport, cause }
        };
        self.trail.take_passed().into_iter().map(told).collect()
    }

    fn ended(&mut self, end: End) {
        self.settle();
        if self.ladder.ended(end) {
            self.take_way();
        }
    }

    fn poll_better(&mut self, cx: &mut task::Context<'_>, request: &Subscribe, place: Cursor) -> Poll<()> {
        self.settle();
        loop {
            match &mut self.probe {
                _ if self.ladder.at() == 0 => return Poll::Pending,
                Probe::None => self.probe = Probe::Due(Box::pin(sleep(self.ladder.pause(fastrand::f64())))),
                Probe::Due(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.probe = self.probe(request, place);
                }
                Probe::Opening(opening) => {
                    let opened = ready!(opening.as_mut().poll(cx));
                    self.probe = Probe::None;
                    if let Some(better) = opened {
                        self.ladder.rise(better);
                        self.take_way();
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.ways.iter().map(|way| way.transport()).collect::<Vec<_>>();
        let mut shown = f.debug_struct("Fallback");
        shown.field("ways", &names).field("at", &self.trail.at()).field("patience", &self.patience);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
