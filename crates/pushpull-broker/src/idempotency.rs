//! The idempotency window: a repeat gets the first answer.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use pushpull_core::{ErrorKind, Message, Problem, Topic};
use tokio::time::Instant;

use crate::Appended;

pub(crate) type Key = (Topic, Arc<str>);

/// Remembers the answers of appends that carried an id.
#[derive(Debug)]
pub(crate) struct Window {
    span: Duration,
    capacity: usize,
    hasher: RandomState,
    answers: HashMap<Key, (u64, Appended)>,
    order: VecDeque<(Instant, Key)>,
}

/// What the window says of an append.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not known yet: [`Window::remember`] it under the given key and fingerprint.
    New(Key, u64),
    /// It is a repeat.
    Repeat(Appended),
}

impl Window {
    pub(crate) fn new(span: Duration, capacity: usize) -> Self {
        Self { span, capacity, hasher: RandomState::new(), answers: HashMap::new(), order: VecDeque::new() }
    }

    /// Judges an append of `messages` by the `id` of the first, which stands for all.
    pub(crate) fn judge<'a>(
        &mut self,
        topic: &Topic,
        id: Arc<str>,
        messages: impl ExactSizeIterator<Item = &'a Message>,
        now: Instant,
    ) -> Result<Verdict, Problem> {
        self.expire(now);
        let key = (topic.clone(), id);
        let fingerprint = self.fingerprint(messages);
        match self.answers.get(&key) {
            Some((known, appended)) if *known == fingerprint => Ok(Verdict::Repeat(*appended)),
            Some(_) => Err(Problem::new(
                ErrorKind::Conflict,
                "the idempotency id was used on this topic with another message",
            )
            .with_parameter("idempotency")),
            None if self.answers.len() >= self.capacity => Err(self.full(now)),
            None => Ok(Verdict::New(key, fingerprint)),
        }
    }

    pub(crate) fn remember(&mut self, key: Key, fingerprint: u64, appended: Appended, now: Instant) {
        self.answers.insert(key.clone(), (fingerprint, appended));
        self.order.push_back((now, key));
    }

    fn full(&self, now: Instant) -> Problem {
        let oldest = self.order.front().map_or(now, |(at, _)| *at);
        let room = (oldest + self.span).saturating_duration_since(now).max(Duration::from_secs(1));
        Problem::new(ErrorKind::Busy, "the idempotency window is full").with_retry(room)
    }

    /// Forgets what was remembered for long enough.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= self.span) {
            if let Some((_, key)) = self.order.pop_front() {
                self.answers.remove(&key);
            }
        }
    }

    /// How many ids are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    fn fingerprint<'a>(&self, messages: impl ExactSizeIterator<Item = &'a Message>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        messages.len().hash(&mut hasher);
        for message in messages {
            message.payload().hash(&mut hasher);
            message.content_type().hash(&mut hasher);
            message.name().hash(&mut hasher);
            message.key().hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Append = (Topic, Vec<Message>);

    fn append(topic: &str, id: &str, payload: &'static str) -> Append {
        (topic.parse().unwrap(), vec![Message::new(payload).with_idempotency(id)])
    }

    fn publish(window: &mut Window, append: &Append, seq: u64, now: Instant) -> Result<u64, ErrorKind> {
        let (topic, messages) = append;
        let id = messages[0].idempotency().unwrap().into();
        match window.judge(topic, id, messages.iter(), now).map_err(|problem| problem.kind())? {
            Verdict::Repeat(appended) => Ok(appended.last),
            Verdict::New(key, fingerprint) => {
                window.remember(key, fingerprint, Appended::new(seq, seq), now);
                Ok(seq)
            }
        }
    }

    #[test]
    fn a_repeat_gets_the_first_answer_until_the_window_has_passed() {
        let mut window = Window::new(Duration::from_secs(120), 3);
        let start = Instant::now();
        let first = append("a", "1", "x");
        assert_eq!(publish(&mut window, &first, 1, start), Ok(1));
        assert_eq!(publish(&mut window, &first, 2, start), Ok(1));
        assert_eq!(publish(&mut window, &append("a", "1", "y"), 2, start), Err(ErrorKind::Conflict));
        assert_eq!(publish(&mut window, &append("b", "1", "y"), 2, start), Ok(2));
        let later = start + Duration::from_secs(119);
        assert_eq!(publish(&mut window, &first, 3, later), Ok(1));
        assert_eq!(publish(&mut window, &first, 3, later + Duration::from_secs(1)), Ok(3));
    }

    #[test]
    fn a_full_window_refuses_and_forgets_nothing() {
        let mut window = Window::new(Duration::from_secs(120), 2);
        let start = Instant::now();
        for (n, id) in ["1", "2"].into_iter().enumerate() {
            assert_eq!(publish(&mut window, &append("a", id, "x"), n as u64, start), Ok(n as u64));
        }
        let (topic, messages) = append("a", "3", "x");
        let refused =
            window.judge(&topic, "3".into(), messages.iter(), start + Duration::from_secs(20)).unwrap_err();
        assert_eq!(refused.retry(), pushpull_core::Retry::After(Duration::from_secs(100)));
        assert_eq!(publish(&mut window, &append("a", "1", "x"), 9, start), Ok(0));
    }
}
