//! What a connection does by the clock: one timer for all of it.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use pushpull_http::{Alarm, Moment};
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
    ping_at: Moment,
    /// Never where no heartbeats are sent.
    beat_at: Moment,
    /// When whoever takes nothing is cut off; while parting, at the end of that.
    cut_at: Moment,
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
        let mut clock = Self {
            alarm,
            ping_at: Moment::NEVER,
            beat_at: Moment::NEVER,
            cut_at: Moment::NEVER,
            unanswered: 0,
            is_parting: false,
        };
        clock.ping_at = clock.after(intervals.ping);
        clock.beat_at = clock.next_beat(intervals);
        clock
    }

    /// Notes that bytes came.
    pub(super) fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// Notes how writing goes.
    pub(super) fn wrote(&mut self, has_progress: bool, is_all_written: bool) {
        if self.is_parting {
        } else if is_all_written {
            self.cut_at = Moment::NEVER;
        } else if has_progress || self.cut_at == Moment::NEVER {
            self.cut_at = self.after(STALL);
        }
    }

    /// Begins the close handshake: nothing else counts from now on.
    pub(super) fn part(&mut self) {
        if !std::mem::replace(&mut self.is_parting, true) {
            self.cut_at = self.after(PARTING);
        }
    }

    /// What is due now, one by one.
    pub(super) fn due(&mut self, intervals: &Intervals) -> Option<Due> {
        let now = self.alarm.now();
        if self.is_parting {
            return (self.cut_at <= now).then_some(Due::Parted);
        }
        if self.cut_at <= now {
            return Some(Due::Stall);
        }
        if intervals.expires.is_some_and(|at| at <= Instant::now()) {
            return Some(Due::Expiry);
        }
        if self.ping_at <= now {
            self.ping_at = self.after(intervals.ping);
            self.unanswered = self.unanswered.saturating_add(1);
            return Some(if self.unanswered > UNANSWERED { Due::Silence } else { Due::Ping });
        }
        if self.beat_at <= now {
            self.beat_at = self.next_beat(intervals);
            return Some(Due::Heartbeat);
        }
        None
    }

    /// Wakes the task when the next thing is due; `Ready` if that is now.
    pub(super) fn poll_due(&mut self, intervals: &Intervals, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll_moment(self.next(intervals), cx)
    }

    /// Forgets by which waker the task is woken.
    pub(super) fn forget_waker(&mut self) {
        self.alarm.unset();
    }

    fn next(&self, intervals: &Intervals) -> Moment {
        if self.is_parting {
            return self.cut_at;
        }
        let expires = intervals.expires.map_or(Moment::NEVER, |at| self.alarm.moment(at));
        self.ping_at.min(self.beat_at).min(self.cut_at).min(expires)
    }

    fn next_beat(&self, intervals: &Intervals) -> Moment {
        intervals.beat.map_or(Moment::NEVER, |beat| self.after(beat))
    }

    /// No interval is longer than a year: what a clock can still add.
    fn after(&self, interval: Duration) -> Moment {
        self.alarm.moment(Instant::now() + interval.min(Duration::from_secs(365 * 24 * 3600)))
    }
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
