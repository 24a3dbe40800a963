//! What a connection does by the clock: one timer for all of it.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use pushpull_http::Alarm;
use tokio::time::Instant;

/// How long a peer may take nothing of what waits for it: 30 s.
const STALL: Duration = Duration::from_secs(30);
/// How long a close handshake may take: 5 s.
const PARTING: Duration = Duration::from_secs(5);
/// Pings that may stay unanswered.
const UNANSWERED: u8 = 2;

/// When what is due. Sans-IO but for the alarm that wakes the task.
#[derive(Debug)]
pub(super) struct Clock {
    alarm: Alarm,
    ping_at: Instant,
    /// `None` where no heartbeats are sent.
    beat_at: Option<Instant>,
    /// When whoever takes nothing is cut off; while parting, at the end of that.
    cut_at: Option<Instant>,
    unanswered: u8,
    is_parting: bool,
}

/// What a connection's times depend on, and need not be kept with each.
pub(super) struct Intervals {
    pub(super) ping: Duration,
    /// `None` where no heartbeats are sent.
    pub(super) beat: Option<Duration>,
    /// When the identity ceases to hold.
    pub(super) expires: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    Heartbeat,
    /// The peer did not answer two pings.
    Silence,
    /// The peer takes nothing.
    Stall,
    /// The identity no longer holds.
    Expiry,
    /// The close handshake took too long.
    Parted,
}

impl Clock {
    pub(super) fn new(alarm: Alarm, intervals: &Intervals) -> Self {
        let now = Instant::now();
        Self {
            alarm,
            ping_at: after(now, intervals.ping),
            beat_at: intervals.beat.map(|beat| after(now, beat)),
            cut_at: None,
            unanswered: 0,
            is_parting: false,
        }
    }

    /// Notes that bytes came.
    pub(super) fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// Notes how writing goes.
    pub(super) fn wrote(&mut self, has_progress: bool, is_all_written: bool) {
        if self.is_parting {
        } else if is_all_written {
            self.cut_at = None;
        } else if has_progress || self.cut_at.is_none() {
            self.cut_at = Some(Instant::now() + STALL);
        }
    }

    /// Begins the close handshake: nothing else counts from now on.
    pub(super) fn part(&mut self) {
        if !std::mem::replace(&mut self.is_parting, true) {
            self.cut_at = Some(Instant::now() + PARTING);
        }
    }

    /// What is due now, one by one.
    pub(super) fn due(&mut self, intervals: &Intervals) -> Option<Due> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.is_parting {
            return is_due(self.cut_at).then_some(Due::Parted);
        }
        if is_due(self.cut_at) {
            return Some(Due::Stall);
        }
        if is_due(intervals.expires) {
            return Some(Due::Expiry);
        }
        if is_due(Some(self.ping_at)) {
            self.ping_at = after(now, intervals.ping);
            self.unanswered = self.unanswered.saturating_add(1);
            return Some(if self.unanswered > UNANSWERED { Due::Silence } else { Due::Ping });
        }
        if is_due(self.beat_at) {
            self.beat_at = intervals.beat.map(|beat| after(now, beat));
            return Some(Due::Heartbeat);
        }
        None
    }

    /// Wakes the task when the next thing is due; `Ready` if that is now.
    pub(super) fn poll_due(&mut self, intervals: &Intervals, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll_at(self.next(intervals), cx)
    }

    /// Forgets by which waker the task is woken.
    pub(super) fn forget_waker(&mut self) {
        self.alarm.unset();
    }

    fn next(&self, intervals: &Intervals) -> Instant {
        match self.cut_at {
            Some(at) if self.is_parting => at,
            cut_at => {
                let others = [self.beat_at, cut_at, intervals.expires].into_iter().flatten();
                others.fold(self.ping_at, Instant::min)
            }
        }
    }
}

/// No interval is longer than a year: what a clock can still add.
fn after(now: Instant, interval: Duration) -> Instant {
    now + interval.min(Duration::from_secs(365 * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    use pushpull_http::Gate;

    async fn next(clock: &mut Clock, intervals: &Intervals) -> (Due, u64) {
        let begun = Instant::now();
        loop {
            if let Some(due) = clock.due(intervals) {
                return (due, begun.elapsed().as_secs());
            }
            poll_fn(|cx| clock.poll_due(intervals, cx)).await;
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_pinged_and_after_two_pings_silent() {
        let intervals = Intervals { ping: secs(25), beat: None, expires: None };
        let mut clock = Clock::new(Gate::open().alarm(), &intervals);
        assert_eq!(next(&mut clock, &intervals).await, (Due::Ping, 25));
        assert_eq!(next(&mut clock, &intervals).await, (Due::Ping, 25));
        clock.heard();
        assert_eq!(next(&mut clock, &intervals).await, (Due::Ping, 25));
        assert_eq!(next(&mut clock, &intervals).await, (Due::Ping, 25));
        assert_eq!(next(&mut clock, &intervals).await, (Due::Silence, 25));
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_stalls_and_expiry_have_their_time() {
        let expires = Some(Instant::now() + secs(70));
        let intervals = Intervals { ping: secs(100), beat: Some(secs(15)), expires };
        let mut clock = Clock::new(Gate::open().alarm(), &intervals);
        assert_eq!(next(&mut clock, &intervals).await, (Due::Heartbeat, 15));
        clock.wrote(false, false);
        assert_eq!(next(&mut clock, &intervals).await, (Due::Heartbeat, 15));
        clock.wrote(true, false);
        assert_eq!(next(&mut clock, &intervals).await, (Due::Heartbeat, 15));
        clock.wrote(false, false);
        assert_eq!(next(&mut clock, &intervals).await, (Due::Stall, 15), "30 s after the last progress");
        clock.wrote(true, true);
        assert_eq!(next(&mut clock, &intervals).await, (Due::Heartbeat, 0));
        assert_eq!(next(&mut clock, &intervals).await, (Due::Expiry, 10));
        clock.part();
        assert_eq!(next(&mut clock, &intervals).await, (Due::Parted, 5));
    }
}
