//! The broker-wide log of entries, with holes where a topic's own retention took one out.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use pushpull_core::Event;
use tokio::time::Instant;

use crate::{sparse::Sparse, topics::TopicSlot};

/// Into how many steps an age is divided: what came within one goes together.
const STEPS: u32 = 256;

/// Entries in rising seq.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Sparse<Kept>,
    /// When the entries up to a seq came, those behind the one before it; only where somebody asks for their age.
    ages: VecDeque<Step>,
}

/// When entries came that go together: from `began` to `ended`, those up to `seq` behind the step before it.
#[derive(Debug, Clone, Copy)]
struct Step {
    seq: u64,
    began: Instant,
    ended: Instant,
}

/// An entry that is retained.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) event: Event,
    pub(crate) slot: Arc<TopicSlot>,
}

impl Log {
    pub(crate) fn push(&mut self, seq: u64, entry: Kept) {
        self.entries.push(seq, entry);
    }

    /// Notes that what came last, up to `seq`, came `now`, for who lets it go at `age`.
    pub(crate) fn date(&mut self, seq: u64, now: Instant, age: Duration) {
        let oldest = self.oldest().map_or(seq, |(seq, _)| seq);
        while self.ages.pop_front_if(|step| step.seq < oldest).is_some() {}
        match self.ages.back_mut() {
            Some(step) if now.duration_since(step.began) < age / STEPS => (step.seq, step.ended) = (seq, now),
            _ => self.ages.push_back(Step { seq, began: now, ended: now }),
        }
    }

    /// The seq up to which all are of `age` by `now`, if there is one. It is told once.
    pub(crate) fn take_old(&mut self, now: Instant, age: Duration) -> Option<u64> {
        let mut old = None;
        while let Some(step) = self.ages.pop_front_if(|step| now.duration_since(step.ended) >= age) {
            old = Some(step.seq);
        }
        old
    }

    /// Entries retained.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The oldest entry retained.
    pub(crate) fn oldest(&self) -> Option<(u64, &Kept)> {
        self.entries.first()
    }

    /// The event at `seq`, if it is retained.
    #[cfg(test)]
    pub(crate) fn at(&self, seq: u64) -> Option<&Event> {
        self.entries.get(seq).map(|kept| &kept.event)
    }

    /// Takes the entry at `seq` out.
    pub(crate) fn take(&mut self, seq: u64) -> Option<Kept> {
        self.entries.take(seq)
    }

    /// Takes out the entries after `seq`.
    pub(crate) fn cut(&mut self, seq: u64) {
        self.entries.cut(seq);
        let mut cut = None;
        while let Some(step) = self.ages.pop_back_if(|step| step.seq > seq) {
            cut = Some(step);
        }
        // Some of what came then may lie before it.
        self.ages.extend(cut.map(|step| Step { seq, ..step }));
    }

    /// The entries after `seq`, in order.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = (u64, &Kept)> {
        self.entries.after(seq)
    }
}

#[cfg(test)]
mod tests {
    use pushpull_core::{Cursor, EventParts, Message, Prev};

    use super::*;
    use crate::topics::Topics;

    const AGE: Duration = Duration::from_secs(256);

    fn entry() -> Kept {
        let topic = "a".parse().unwrap();
        let slot = Topics::default().slot(&topic);
        let (cursor, prev, message) = (Cursor::UNKNOWN, Prev::First, Message::text("x"));
        Kept { event: Event::new(EventParts { topic, cursor, prev, time_ms: 0, message }), slot }
    }

    #[test]
    fn dates_are_few_however_much_comes_while_one_entry_stays() {
        let (mut log, start) = (Log::default(), Instant::now());
        log.push(1, entry());
        for seq in 1..=100_000 {
            log.date(seq, start + Duration::from_millis(2 * seq), AGE);
        }
        assert!(log.ages.len() <= 257, "{}", log.ages.len());
    }

    #[test]
    fn an_entry_goes_at_its_age_or_a_step_behind_it() {
        let (mut log, start) = (Log::default(), Instant::now());
        // It stays, whatever becomes of the others.
        log.push(1, entry());
        let came = |seq: u64| start + Duration::from_millis(seq * 300);
        (1..=1000).for_each(|seq| log.date(seq, came(seq), AGE));
        let (mut gone, mut now) = (0, start);
        while gone < 1000 {
            now += Duration::from_millis(50);
            let old = log.take_old(now, AGE).unwrap_or(gone);
            for seq in gone + 1..=old {
                let lived = now - came(seq);
                assert!(lived >= AGE, "{seq} lived for {lived:?} only");
                assert!(lived <= AGE + AGE / STEPS + Duration::from_millis(50), "{seq} lived for {lived:?}");
            }
            gone = old;
        }
    }
}
