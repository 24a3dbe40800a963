//! Epochs that the upstream does not know: not asked about again for a while.

use std::{collections::VecDeque, time::Duration};

use pushpull_core::Epoch;
use tokio::time::Instant;

/// Most epochs remembered that the one subscription was told to be void. Nobody who comes with a cursor has a part in
/// them.
const TOLD: usize = 64;

/// Most epochs remembered that somebody came with.
const ASKED: usize = 1024;

/// How long those are remembered.
const AGE: Duration = Duration::from_secs(60);

/// So that a fleet that comes back with an old epoch is not asked about one by one.
#[derive(Debug, Default)]
pub(super) struct Void {
    told: VecDeque<Epoch>,
    /// Oldest first.
    asked: VecDeque<(Epoch, Instant)>,
}

impl Void {
    pub(super) fn contains(&self, epoch: Epoch, now: Instant) -> bool {
        let is_it = |(known, at): &(Epoch, Instant)| *known == epoch && now.duration_since(*at) < AGE;
        epoch == Epoch::NEVER || self.told.contains(&epoch) || self.asked.iter().any(is_it)
    }

    /// The one subscription was told that `epochs` are void.
    pub(super) fn remember_told(&mut self, epochs: Vec<Epoch>) {
        self.told.extend(epochs);
        let beyond = self.told.len().saturating_sub(TOLD);
        self.told.drain(..beyond);
    }

    /// A question showed that `epoch` is unknown.
    pub(super) fn remember_asked(&mut self, epoch: Epoch, now: Instant) {
        let is_gone = |(known, at): &(Epoch, Instant)| *known == epoch || now.duration_since(*at) >= AGE;
        self.asked.retain(|entry| !is_gone(entry));
        if self.asked.len() == ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((epoch, now));
    }
}
