//! When to go down, and when to look up: without connections, without a clock.

use std::time::Duration;

use crate::{End, reconnect::USEFUL};

/// Connections in a row that may be lost young before a way is given up.
const CHANCES: u32 = 2;
/// How many times the interval the time to the next probe may grow to.
const MOST: u32 = 10;

/// Where on the ways one stands, the best being 0.
#[derive(Debug)]
pub(super) struct Ladder {
    ways: usize,
    at: usize,
    /// Connections of this way that were lost young, in a row.
    lost: u32,
    interval: Duration,
    /// The time to the next probe.
    wait: Duration,
    /// Where the last step up led, until it proved good or was taken back.
    raised: Option<usize>,
}

impl Ladder {
    pub(super) fn new(ways: usize, interval: Duration) -> Self {
        Self { ways, at: 0, lost: 0, interval, wait: interval, raised: None }
    }

    /// The way that is taken.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Stands at `at`, where attempts to open have led. Whether it did not before.
    pub(super) fn settle(&mut self, at: usize) -> bool {
        if self.at == at {
            return false;
        }
        if self.raised.is_some_and(|raised| at > raised) {
            self.raised = None;
            self.wait = self.wait.saturating_mul(2).min(self.interval.saturating_mul(MOST));
        }
        (self.at, self.lost) = (at, 0);
        true
    }

    /// A connection of this way ended. Whether another way is to be taken.
    pub(super) fn ended(&mut self, end: End) -> bool {
        let (End::Announced { age } | End::Lost { age }) = end;
        if age >= self.interval.max(USEFUL) && self.raised.is_some_and(|raised| self.at <= raised) {
            (self.raised, self.wait) = (None, self.interval);
        }
        match end {
            _ if age >= USEFUL => self.lost = 0,
            End::Announced { .. } => {}
            End::Lost { .. } => self.lost += 1,
        }
        self.lost >= CHANCES && self.at + 1 < self.ways && self.settle(self.at + 1)
    }

    /// A better way stood open: it is taken.
    pub(super) fn rise(&mut self, to: usize) {
        self.settle(to);
        self.raised = Some(to);
    }

    /// The time to the next probe; `jitter` is a random number in 0..1.
    pub(super) fn pause(&self, jitter: f64) -> Duration {
        self.wait.min(Duration::from_secs(365 * 24 * 3600)).mul_f64(0.75 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn lost(seconds: u64) -> End {
        End::Lost { age: Duration::from_secs(seconds) }
    }

    fn announced(seconds: u64) -> End {
        End::Announced { age: Duration::from_secs(seconds) }
    }

    #[test]
    fn two_in_a_row_that_died_young_are_one_step_down() {
        for (ends, at) in [
            (vec![lost(9)], 0),
            (vec![lost(9), lost(0)], 1),
            (vec![lost(9), lost(10), lost(9)], 0),
            (vec![lost(9), announced(1), lost(9)], 1),
            (vec![lost(9), announced(11), lost(9)], 0),
            (vec![announced(0), announced(0), announced(0)], 0),
            (vec![lost(0); 4], 2),
            (vec![lost(0); 40], 2),
        ] {
            let mut ladder = Ladder::new(3, INTERVAL);
            let steps = ends.iter().filter(|end| ladder.ended(**end)).count();
            assert_eq!((ladder.at(), steps), (at, at), "{ends:?}");
        }
    }

    #[test]
    fn a_step_up_that_is_taken_back_doubles_the_wait_until_one_holds() {
        let mut ladder = Ladder::new(2, INTERVAL);
        let mut waits = Vec::new();
        for _ in 0..5 {
            assert!([lost(1), lost(1)].map(|end| ladder.ended(end))[1]);
            waits.push(ladder.pause(0.5).as_secs());
            ladder.rise(0);
        }
        assert_eq!(waits, [30, 60, 120, 240, 300]);
        assert!(!ladder.ended(lost(29)), "not long enough to prove it");
        ladder.settle(1);
        assert_eq!(ladder.pause(0.5).as_secs(), 300);
        ladder.rise(0);
        ladder.ended(announced(31));
        ladder.settle(1);
        assert_eq!(ladder.pause(0.5), INTERVAL);
    }

    #[test]
    fn what_a_lower_way_does_says_nothing_of_a_higher_one() {
        let mut ladder = Ladder::new(3, INTERVAL);
        ladder.settle(2);
        ladder.rise(1);
        ladder.settle(2);
        ladder.ended(lost(3600));
        assert_eq!(ladder.pause(0.5).as_secs(), 60);
        ladder.settle(0);
        assert_eq!(ladder.pause(0.5).as_secs(), 60, "all were down: nothing was taken back");
    }

    #[test]
    fn probes_are_spread_by_a_quarter_and_never_overflow() {
        let ladder = Ladder::new(2, INTERVAL);
        assert_eq!([0.0, 1.0].map(|jitter| ladder.pause(jitter).as_millis()), [22_500, 37_500]);
        assert!(Ladder::new(2, Duration::MAX).pause(1.0) < Duration::MAX);
    }
}
