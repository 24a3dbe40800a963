//! What a connection does by the clock: one timer for all of it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// How long a peer may take nothing of what waits for it: 30 s.
const STALL: Duration = Duration::from_secs(30);
/// How long a close handshake may take: 5 s.
const PARTING: Duration = Duration::from_secs(5);
/// Pings that may stay unanswered.
const UNANSWERED: u32 = 2;

/// When what is due. Sans-IO but for the timer that wakes the task.
#[derive(Debug)]
pub(super) struct Clock {
    timer: Pin<Box<Sleep>>,
    ping: Duration,
    ping_at: Instant,
    unanswered: u32,
    beat: Duration,
    /// `None` where no heartbeats are sent.
    beat_at: Option<Instant>,
    stalled_at: Option<Instant>,
    expires: Option<Instant>,
    parted_at: Option<Instant>,
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
    pub(super) fn new(ping: Duration, beat: Option<Duration>, expires: Option<Instant>) -> Self {
        let now = Instant::now();
        let mut clock = Self {
            timer: Box::pin(sleep_until(now)),
            ping,
            ping_at: after(now, ping),
            unanswered: 0,
            beat: beat.unwrap_or(Duration::MAX),
            beat_at: beat.map(|beat| after(now, beat)),
            stalled_at: None,
            expires,
            parted_at: None,
        };
        let next = clock.next();
        clock.timer.as_mut().reset(next);
        clock
    }

    /// Notes that bytes came.
    pub(super) fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// Notes how writing goes.
    pub(super) fn wrote(&mut self, has_progress: bool, is_all_written: bool) {
        if is_all_written {
            self.stalled_at = None;
        } else if has_progress || self.stalled_at.is_none() {
            self.stalled_at = Some(Instant::now() + STALL);
        }
    }

    /// Begins the close handshake: nothing else counts from now on.
    pub(super) fn part(&mut self) {
        self.parted_at.get_or_insert_with(|| Instant::now() + PARTING);
    }

    /// What is due now, one by one.
    pub(super) fn due(&mut self) -> Option<Due> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.parted_at.is_some() {
            return is_due(self.parted_at).then_some(Due::Parted);
        }
        if is_due(self.stalled_at) {
            return Some(Due::Stall);
        }
        if is_due(self.expires) {
            return Some(Due::Expiry);
        }
        if is_due(Some(self.ping_at)) {
            self.ping_at = after(now, self.ping);
            self.unanswered += 1;
            return Some(if self.unanswered > UNANSWERED { Due::Silence } else { Due::Ping });
        }
        if is_due(self.beat_at) {
            self.beat_at = Some(after(now, self.beat));
            return Some(Due::Heartbeat);
        }
        None
    }

    /// Wakes the task when the next thing is due; `Ready` if that is now.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = self.next();
        // Resetting costs a lock: a timer that is early only wakes the task once too often.
        if self.timer.is_elapsed() || self.timer.deadline() > next {
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx)
    }

    fn next(&self) -> Instant {
        if let Some(at) = self.parted_at {
            return at;
        }
        let others = [self.beat_at, self.stalled_at, self.expires].into_iter().flatten();
        others.fold(self.ping_at, Instant::min)
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

    async fn next(clock: &mut Clock) -> (Due, u64) {
        let begun = Instant::now();
        loop {
            if let Some(due) = clock.due() {
                return (due, begun.elapsed().as_secs());
            }
            poll_fn(|cx| clock.poll_due(cx)).await;
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_pinged_and_after_two_pings_silent() {
        let mut clock = Clock::new(secs(25), None, None);
        assert_eq!(next(&mut clock).await, (Due::Ping, 25));
        assert_eq!(next(&mut clock).await, (Due::Ping, 25));
        clock.heard();
        assert_eq!(next(&mut clock).await, (Due::Ping, 25));
        assert_eq!(next(&mut clock).await, (Due::Ping, 25));
        assert_eq!(next(&mut clock).await, (Due::Silence, 25));
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_stalls_and_expiry_have_their_time() {
        let mut clock = Clock::new(secs(100), Some(secs(15)), Some(Instant::now() + secs(70)));
        assert_eq!(next(&mut clock).await, (Due::Heartbeat, 15));
        clock.wrote(false, false);
        assert_eq!(next(&mut clock).await, (Due::Heartbeat, 15));
        clock.wrote(true, false);
        assert_eq!(next(&mut clock).await, (Due::Heartbeat, 15));
        clock.wrote(false, false);
        assert_eq!(next(&mut clock).await, (Due::Stall, 15), "30 s after the last progress");
        clock.wrote(true, true);
        assert_eq!(next(&mut clock).await, (Due::Heartbeat, 0));
        assert_eq!(next(&mut clock).await, (Due::Expiry, 10));
        clock.part();
        assert_eq!(next(&mut clock).await, (Due::Parted, 5));
    }
}
