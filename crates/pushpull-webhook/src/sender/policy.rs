//! When a delivery is tried again, and when never more.

use std::time::Duration;

/// When a delivery is tried again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The delay after the first failure; it doubles with each. Each is jittered by a quarter. Default: 5 s.
    pub first: Duration,
    /// The longest delay, but for a `Retry-After`. Default: 1 h.
    pub longest: Duration,
    /// How long after its first attempt a delivery that keeps failing disables its endpoint. Default: 24 h.
    pub give_up: Duration,
    /// How long one attempt may take until the head of its answer has come. Default: 15 s.
    pub attempt: Duration,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Retry(Duration),
    GiveUp,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(3600),
            give_up: Duration::from_secs(24 * 3600),
            attempt: Duration::from_secs(15),
        }
    }
}

impl RetryPolicy {
    /// Sets the delay after the first failure.
    #[must_use]
    pub fn with_first(mut self, first: Duration) -> Self {
        self.first = first;
        self
    }

    /// Sets the longest delay.
    #[must_use]
    pub fn with_longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Sets how long a delivery is tried.
    #[must_use]
    pub fn with_give_up(mut self, give_up: Duration) -> Self {
        self.give_up = give_up;
        self
    }

    /// Sets how long one attempt may take.
    #[must_use]
    pub fn with_attempt(mut self, attempt: Duration) -> Self {
        self.attempt = attempt;
        self
    }

    /// What follows the `failures`-th failure in a row of a delivery first tried `since` ago. The last attempt is at
    /// the end of the schedule.
    pub(super) fn after(
        &self,
        failures: u32,
        since: Duration,
        asked: Option<Duration>,
        jitter: f64,
    ) -> After {
        let Some(left) = self.give_up.checked_sub(since).filter(|left| !left.is_zero()) else {
            return After::GiveUp;
        };
        let doubled = self.first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
        let own = doubled.min(self.longest).mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0);
        After::Retry(own.max(asked.unwrap_or_default()).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(after: After) -> Option<u64> {
        match after {
            After::Retry(delay) => Some(delay.as_secs()),
            After::GiveUp => None,
        }
    }

    #[test]
    fn delays_double_are_jittered_and_end() {
        let policy = RetryPolicy::default();
        let delays: Vec<_> = (1..13)
            .map(|failures| seconds(policy.after(failures, Duration::ZERO, None, 0.5)).unwrap())
            .collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        let jittered = |jitter| policy.after(3, Duration::ZERO, None, jitter);
        assert_eq!((seconds(jittered(0.0)), seconds(jittered(1.0))), (Some(15), Some(25)));
        assert_eq!(seconds(policy.after(u32::MAX, Duration::ZERO, None, 0.5)), Some(3600));
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(
            seconds(policy.after(20, day - Duration::from_secs(60), None, 0.5)),
            Some(60),
            "a last attempt"
        );
        assert_eq!(policy.after(21, day, None, 0.5), After::GiveUp);
    }

    #[test]
    fn an_endpoint_may_ask_for_more_time_but_not_for_less() {
        let policy = RetryPolicy::default();
        let asked = |seconds_asked| {
            seconds(policy.after(1, Duration::ZERO, Some(Duration::from_secs(seconds_asked)), 0.5))
        };
        assert_eq!((asked(0), asked(120), asked(1_000_000)), (Some(5), Some(120), Some(24 * 3600)));
    }
}
