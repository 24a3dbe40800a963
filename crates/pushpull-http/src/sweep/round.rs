//! What is made once for many.

use std::{fmt, task};

use bytes::Bytes;
use pushpull_core::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, Event, FormatKey, Stride, Subscription, silent_waker,
};

/// Taken at once. A peer that stalls costs at most this much beside its place: the rest of what was being written.
const BOUNDS: Bounds = Bounds::new(256, 64 * 1024);
/// Strides kept for those who follow: of a chunk whose members stand at more places, the rest are asked one by one.
const KEPT: usize = 4;

/// The work of a sweep: what one of its connections took is there for those that follow, until more is published.
#[derive(Default)]
pub struct Round {
    waves: Vec<Wave>,
    batch: Batch,
    is_more: bool,
}

struct Wave {
    stride: Stride,
    /// By the form's address.
    joined: Vec<(usize, Bytes)>,
}

/// What a subscription took in a round.
#[derive(Debug)]
pub enum Taken<'a> {
    /// Nothing is there.
    Nothing,
    /// Events, as bytes that are shared with others.
    Joined {
        /// As `join` made them.
        bytes: &'a Bytes,
        /// How many they are: at least one.
        events: u64,
        /// The cursor of the last of them.
        last: Cursor,
    },
    /// What is this subscription's alone, and what the poll said.
    Own(&'a [Delivery], Option<Result<(), ConsumeError>>),
}

impl Round {
    /// Takes what `subscription` has, up to 256 events or 64 KiB: joined by `join`, once for all that follow with the same
    /// `form`, or as it is.
    pub fn take(
        &mut self,
        subscription: &mut Subscription,
        form: &'static FormatKey,
        join: impl FnOnce(&[Event]) -> Bytes,
    ) -> Taken<'_> {
        if let Some(at) = self.waves.iter().rposition(|wave| subscription.follow(&wave.stride)) {
            return self.waves[at].taken(form, join);
        }
        let from = subscription.standing();
        self.batch.clear();
        let mut cx = task::Context::from_waker(silent_waker());
        let polled = subscription.poll_batch(&mut cx, BOUNDS, &mut self.batch);
        // Even where nothing was found so far.
        self.is_more |= self.batch.more;
        let task::Poll::Ready(polled) = polled else { return Taken::Nothing };
        let stands = subscription.standing().filter(|_| matches!(polled, Some(Ok(()))));
        // What comes behind a gap, such as the end, is not told by the signal.
        self.is_more |= stands.is_none() && polled.is_some();
        let stride = from.zip(stands).and_then(|(from, to)| Stride::new(from, &to, &self.batch.deliveries));
        match stride {
            Some(stride) => self.wave(stride).taken(form, join),
            None => Taken::Own(&self.batch.deliveries, polled),
        }
    }

    fn wave(&mut self, stride: Stride) -> &mut Wave {
        if self.waves.len() == KEPT {
            self.waves.remove(0);
        }
        self.waves.push_mut(Wave { stride, joined: Vec::new() })
    }

    /// Forgets what was made.
    pub(super) fn clear(&mut self) {
        self.waves.clear();
        self.batch.clear();
    }

    /// Whether anybody had more to take, since it was last asked.
    pub(super) fn take_more(&mut self) -> bool {
        std::mem::take(&mut self.is_more)
    }
}

impl Wave {
    fn taken(&mut self, form: &'static FormatKey, join: impl FnOnce(&[Event]) -> Bytes) -> Taken<'_> {
        let events = self.stride.events();
        let key = std::ptr::from_ref(form).addr();
        let bytes = match self.joined.iter().position(|(known, _)| *known == key) {
            Some(at) => &self.joined[at].1,
            None => &self.joined.push_mut((key, join(events))).1,
        };
        let last = events.last().map_or(self.stride.to(), Event::cursor);
        Taken::Joined { bytes, events: events.len() as u64, last }
    }
}

impl fmt::Debug for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Round").field("waves", &self.waves.len()).finish_non_exhaustive()
    }
}
