//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential back-off with full jitter above a floor: the n-th delay is `floor + random(0, min(cap, base · 2ⁿ))`.
///
/// The jitter comes after the cap, so that a fleet that has reached it does not fall into step.
#[derive(Clone, Debug)]
pub struct Backoff {
    floor: Duration,
    base: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// A back-off with the given floor, base and cap.
    pub fn new(floor: Duration, base: Duration, cap: Duration) -> Self {
        Self { floor, base, cap, attempts: 0 }
    }

    /// Attempts since the last [`Backoff::reset`].
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.next_with(fastrand::f64())
    }

    /// The delay before the next attempt, `jitter` being a random number in 0..1.
    pub fn next_with(&mut self, jitter: f64) -> Duration {
        let spread = self.base.saturating_mul(2u32.saturating_pow(self.attempts)).min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        self.floor + spread.mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// Begins anew: call it when a session proved useful, not when a connection opened.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Default for Backoff {
    /// Floor 100 ms, base 250 ms, cap 20 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_millis(250), Duration::from_secs(20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_keep_their_floor() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> = (0..9).map(|_| backoff.next_with(1.0).as_millis()).collect();
        assert_eq!(longest, [350, 600, 1100, 2100, 4100, 8100, 16100, 20100, 20100]);
        assert_eq!(backoff.next_with(0.0), Duration::from_millis(100));
        backoff.reset();
        assert_eq!(backoff.next_with(0.5), Duration::from_millis(225));
        for _ in 0..200 {
            assert!(backoff.next_delay() <= Duration::from_millis(20_100));
        }
    }
}
