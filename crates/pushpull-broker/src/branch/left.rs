//! The epochs there are, and the histories that were left.

use std::collections::VecDeque;

use pushpull_core::{Cursor, Epoch, Epochs, GapReason};

/// Most epochs kept; beyond it the oldest is unknown.
const EPOCHS: usize = 1024;

/// Most branches of which consumers that have not looked since are told exactly what became of their place.
const BRANCHES: usize = 64;

/// The epochs there are, and those there were before each change of history.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    pub(super) starts: Vec<(Epoch, u64)>,
    left: VecDeque<Branch>,
}

/// A history that was left.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) epochs: Epochs,
    pub(super) reason: GapReason,
    /// The last place that is still one, or the place from which another history begins.
    pub(super) common: u64,
}

/// What became of a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// What it was called.
    pub(crate) was: Cursor,
    /// The place to go on from.
    pub(crate) place: u64,
    /// Why it is another; `None` if it is not.
    pub(crate) reason: Option<GapReason>,
    pub(crate) generation: u64,
}

impl Branches {
    pub(super) fn epochs(&self) -> Epochs {
        let mut starts = self.starts.iter();
        let (first, start) = starts.next().copied().unwrap_or((Epoch::NEVER, 0));
        let mut epochs = Epochs::new(first, start);
        starts.for_each(|(epoch, start)| epochs.begin(*epoch, *start));
        epochs
    }

    /// The cursor of a place behind all that there is, if there is an epoch.
    pub(crate) fn newest(&self, seq: u64) -> Option<Cursor> {
        let (epoch, start) = self.starts.last()?;
        (*start <= seq).then(|| Cursor::new(*epoch, seq))
    }

    pub(super) fn push(&mut self, epoch: Epoch, start: u64) {
        if self.starts.len() == EPOCHS {
            self.starts.remove(0);
        }
        self.starts.push((epoch, start));
    }

    pub(super) fn leave(&mut self, reason: GapReason, common: u64) {
        if self.left.len() == BRANCHES {
            self.left.pop_front();
        }
        self.left.push_back(Branch { epochs: self.epochs(), reason, common });
    }

    /// The branches left since `generation`, of `now`; `None` if that is too long ago.
    pub(super) fn since(&self, generation: u64, now: u64) -> Option<impl Iterator<Item = &Branch>> {
        let left = usize::try_from((now - generation) / 2).unwrap_or(usize::MAX);
        let skip = self.left.len().checked_sub(left)?;
        Some(self.left.range(skip..))
    }
}
