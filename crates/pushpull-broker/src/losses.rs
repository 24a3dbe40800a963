//! What topics lost, in the order in which they lost it.

use std::sync::Arc;

use crate::{sparse::Sparse, topics::TopicSlot};

/// The topics that lost events, those that did so last at the end.
///
/// Losses are numbered as they are noted, and each topic is listed once, by the last number it was given. So who has
/// looked at all losses up to a number needs to look only at what is listed behind it, whatever was noted meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    noted: u64,
    list: Sparse<Loss>,
    /// No listed topic lost events beyond this seq.
    newest: u64,
}

/// That a topic lost events.
#[derive(Debug)]
pub(crate) struct Loss {
    /// Up to this seq.
    pub(crate) lost_to: u64,
    pub(crate) slot: Arc<TopicSlot>,
}

/// How far a search has come that looks at all losses behind a number.
#[derive(Debug)]
pub(crate) struct Search {
    /// Losses up to this number were looked at.
    pub(crate) looked_to: u64,
    /// The highest seq up to which a topic that is wanted lost events; at first that below which it does not matter.
    pub(crate) lost_to: u64,
}

impl Losses {
    /// Losses noted so far.
    pub(crate) fn noted(&self) -> u64 {
        self.noted
    }

    /// Gives a number to a loss that is not listed.
    pub(crate) fn count(&mut self) -> u64 {
        self.noted += 1;
        self.noted
    }

    /// Lists that `slot`, listed as number `known` so far, lost events up to `lost_to`. Returns its number.
    pub(crate) fn note(&mut self, known: u64, slot: &Arc<TopicSlot>, lost_to: u64) -> u64 {
        let number = self.count();
        self.newest = self.newest.max(lost_to);
        // The topic that lost events last mostly loses the next, too.
        if let Some(loss) = self.list.renumber_last(known, number) {
            loss.lost_to = lost_to;
            return number;
        }
        let slot = self.take(known).unwrap_or_else(|| slot.clone());
        self.list.push(number, Loss { lost_to, slot });
        number
    }

    /// Takes the topic listed as `number` off the list.
    pub(crate) fn take(&mut self, number: u64) -> Option<Arc<TopicSlot>> {
        self.list.take(number).map(|loss| loss.slot)
    }

    /// Takes all off the list. Numbers go on rising.
    pub(crate) fn clear(&mut self) {
        *self = Self { noted: self.noted, ..Self::default() };
    }

    /// The topics that lost events beyond `seq`, of those noted behind number `noted`.
    pub(crate) fn beyond(&self, seq: u64, noted: u64) -> impl Iterator<Item = &Arc<TopicSlot>> {
        let listed = (self.newest > seq).then(|| self.list.after(noted)).into_iter().flatten();
        listed.filter(move |(_, loss)| loss.lost_to > seq).map(|(_, loss)| &loss.slot)
    }

    /// How many topics are listed that `search` has to look at.
    pub(crate) fn left_to(&self, search: &Search) -> usize {
        match self.newest <= search.lost_to {
            true => 0,
            false => self.list.len_after(search.looked_to),
        }
    }

    /// Lets `search` look at `most` more topics, for those that `matches`.
    pub(crate) fn look(&self, search: &mut Search, most: usize, matches: impl Fn(&TopicSlot) -> bool) {
        if self.left_to(search) == 0 {
            search.looked_to = self.noted;
            return;
        }
        let mut listed = self.list.after(search.looked_to);
        let mut looked_to = search.looked_to;
        for (number, loss) in listed.by_ref().take(most) {
            if loss.lost_to > search.lost_to && matches(&loss.slot) {
                search.lost_to = loss.lost_to;
            }
            looked_to = number;
        }
        search.looked_to = if listed.next().is_none() { self.noted } else { looked_to };
    }
}
