//! Who is due to come back, who is back, and who has caught up; knows no socket and no clock.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use crate::subscriber::State;

/// How long is waited for answers at most.
const WAIT: Duration = Duration::from_millis(2);

/// Subscribers that were cut, by their numbers. All times are since the cut.
#[derive(Debug)]
pub(super) struct Returns {
    /// Who has not begun to come back, in the order in which they will.
    cut: VecDeque<(Duration, usize)>,
    /// Who was refused and asks again.
    again: BinaryHeap<Reverse<(Duration, usize)>>,
    away: Vec<Away>,
    back: Vec<Duration>,
    caught_up: Vec<Duration>,
    refused: u64,
}

/// One who has begun to come back and has not caught up.
#[derive(Clone, Copy, Debug)]
struct Away {
    number: usize,
    /// How many messages were published when the subscription stood again.
    goal: Option<u64>,
}

impl Returns {
    /// All of `count` come back, evenly over `jitter`.
    pub(super) fn new(count: usize, jitter: Duration) -> Self {
        let due = |number: usize| (jitter.mul_f64(number as f64 / count as f64), number);
        Self {
            cut: (0..count).map(due).collect(),
            again: BinaryHeap::new(),
            away: Vec::new(),
            back: Vec::new(),
            caught_up: Vec::new(),
            refused: 0,
        }
    }

    /// Whether all have caught up.
    pub(super) fn is_over(&self) -> bool {
        self.missing() == 0
    }

    /// How many have not caught up.
    pub(super) fn missing(&self) -> u64 {
        (self.cut.len() + self.again.len() + self.away.len()) as u64
    }

    /// How often one was refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes one who is to be connected now.
    pub(super) fn due(&mut self, now: Duration) -> Option<usize> {
        let first = self.cut.pop_front_if(|(due, _)| *due <= now).map(|(_, number)| number);
        let number = first.or_else(|| {
            let Reverse((due, _)) = self.again.peek()?;
            (*due <= now).then(|| self.again.pop())?.map(|Reverse((_, number))| number)
        })?;
        self.away.push(Away { number, goal: None });
        Some(number)
    }

    /// How long may be waited for answers until the next is due.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        let first = self.cut.front().map(|(due, _)| *due);
        let again = self.again.peek().map(|Reverse((due, _))| *due);
        let next = first.into_iter().chain(again).min();
        next.map_or(WAIT, |due| due.saturating_sub(now).min(WAIT))
    }

    /// Notes how far each has come, of whom `progress` tells the state and the number of the message he waits for.
    pub(super) fn note(&mut self, now: Duration, published: u64, progress: impl Fn(usize) -> (State, u64)) {
        let Self { again, away, back, caught_up, refused, .. } = self;
        away.retain_mut(|one| {
            let (state, next) = progress(one.number);
            match state {
                State::Connecting | State::Asked => true,
                State::Refused(pause) => {
                    *refused += 1;
                    again.push(Reverse((now + pause, one.number)));
                    false
                }
                State::Stands => {
                    let goal = *one.goal.get_or_insert_with(|| {
                        back.push(now);
                        published
                    });
                    if next >= goal {
                        caught_up.push(now);
                    }
                    next < goal
                }
            }
        });
    }

    /// The milliseconds in which this part of all was back.
    pub(super) fn back(&self, part: f64) -> f64 {
        quantile(&self.back, part)
    }

    /// The milliseconds in which this part of all had what was published before they were back.
    pub(super) fn caught_up(&self, part: f64) -> f64 {
        quantile(&self.caught_up, part)
    }
}

/// Of times that were noted as they passed.
fn quantile(times: &[Duration], part: f64) -> f64 {
    let at = (times.len() as f64 * part).ceil() as usize;
    times.get(at.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn all_are_due_at_once_without_jitter() {
        let mut returns = Returns::new(3, Duration::ZERO);
        let due: Vec<usize> = std::iter::from_fn(|| returns.due(Duration::ZERO)).collect();
        assert_eq!((due, returns.wait(Duration::ZERO)), (vec![0, 1, 2], WAIT));
    }

    #[test]
    fn jitter_spreads_them_evenly() {
        let mut returns = Returns::new(4, 8 * MS);
        assert_eq!((returns.due(MS), returns.due(MS)), (Some(0), None));
        assert_eq!((returns.wait(MS), returns.wait(2 * MS)), (MS, Duration::ZERO));
        let later: Vec<usize> = std::iter::from_fn(|| returns.due(5 * MS)).collect();
        assert_eq!((later, returns.due(6 * MS)), (vec![1, 2], Some(3)));
    }

    #[test]
    fn one_is_caught_up_with_what_was_published_when_it_was_back() {
        let mut returns = Returns::new(1, Duration::ZERO);
        assert_eq!(returns.due(MS), Some(0));
        for (now, state, next) in
            [(1, State::Connecting, 5), (2, State::Asked, 5), (3, State::Stands, 5), (4, State::Stands, 6)]
        {
            returns.note(now * MS, 4 + u64::from(now), |_| (state, next));
            assert!(!returns.is_over(), "{state:?} at {now}");
        }
        returns.note(9 * MS, 100, |_| (State::Stands, 7));
        assert!(returns.is_over());
        assert_eq!((returns.back(1.0), returns.caught_up(1.0)), (3.0, 9.0));
    }

    #[test]
    fn who_is_refused_asks_again_after_the_pause() {
        let mut returns = Returns::new(1, Duration::ZERO);
        returns.due(MS);
        returns.note(2 * MS, 5, |_| (State::Refused(7 * MS), 5));
        assert_eq!((returns.refused(), returns.missing(), returns.due(8 * MS)), (1, 1, None));
        assert_eq!(returns.due(9 * MS), Some(0));
        returns.note(10 * MS, 5, |_| (State::Stands, 5));
        assert!(returns.is_over());
    }

    #[test]
    fn a_quantile_is_the_time_in_which_that_part_came() {
        let times: Vec<Duration> = (1..=100).map(|ms| ms * MS).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|part| quantile(&times, part)), [50.0, 99.0, 100.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
