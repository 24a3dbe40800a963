//! A list by rising numbers, of which some are taken out.

use std::collections::VecDeque;

/// Holes that are let be however few entries there are.
const HOLES: usize = 1024;

/// Entries by rising numbers, mostly without a gap. What is taken out leaves a hole, and holes are closed before they
/// outnumber the entries; there is none at the front.
#[derive(Debug)]
pub(crate) struct Sparse<T> {
    places: VecDeque<(u64, Option<T>)>,
    holes: usize,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { places: VecDeque::new(), holes: 0 }
    }
}

impl<T> Sparse<T> {
    /// Adds `entry` behind all others.
    pub(crate) fn push(&mut self, number: u64, entry: T) {
        self.places.push_back((number, Some(entry)));
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.holes
    }

    /// The first entry.
    pub(crate) fn first(&self) -> Option<(u64, &T)> {
        self.places.front().and_then(|(number, entry)| Some((*number, entry.as_ref()?)))
    }

    /// The place that was added last, unless its entry was taken out.
    #[cfg(test)]
    pub(crate) fn last(&self) -> Option<(u64, &T)> {
        self.places.back().and_then(|(number, entry)| Some((*number, entry.as_ref()?)))
    }

    /// Gives the last place, if it is that of `number` and its entry is there, a higher number. Returns the entry.
    pub(crate) fn renumber_last(&mut self, number: u64, higher: u64) -> Option<&mut T> {
        let (last, entry) = self.places.back_mut()?;
        if *last != number {
            return None;
        }
        let entry = entry.as_mut()?;
        *last = higher;
        Some(entry)
    }

    /// The entry of `number`.
    #[cfg(test)]
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        self.places[self.find(number)?].1.as_ref()
    }

    /// Takes the entry of `number` out.
    pub(crate) fn take(&mut self, number: u64) -> Option<T> {
        let taken = match self.places.pop_front_if(|(first, _)| *first == number) {
            Some((_, first)) => first?,
            None => {
                let at = self.find(number)?;
                let taken = self.places[at].1.take()?;
                self.holes += 1;
                taken
            }
        };
        while self.places.pop_front_if(|(_, entry)| entry.is_none()).is_some() {
            self.holes -= 1;
        }
        if self.holes > HOLES && self.holes > self.places.len() / 2 {
            self.places.retain(|(_, entry)| entry.is_some());
            self.holes = 0;
        }
        Some(taken)
    }

    /// Takes out the entries after `number`.
    pub(crate) fn cut(&mut self, number: u64) {
        while let Some((_, cut)) = self.places.pop_back_if(|(at, entry)| *at > number || entry.is_none()) {
            if cut.is_none() {
                self.holes -= 1;
            }
        }
    }

    /// The entries after `number`, in order.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let places = self.places.range(self.start_after(number)..);
        places.filter_map(|(number, entry)| Some((*number, entry.as_ref()?)))
    }

    /// How many places there are after `number`, holes included.
    pub(crate) fn len_after(&self, number: u64) -> usize {
        self.places.len() - self.start_after(number)
    }

    fn start_after(&self, number: u64) -> usize {
        match self.places.back() {
            Some((last, _)) if *last > number => {}
            _ => return self.places.len(),
        }
        match self.find(number) {
            Some(at) => at + 1,
            None => self.places.partition_point(|(at, _)| *at <= number),
        }
    }

    fn find(&self, number: u64) -> Option<usize> {
        let (first, last) = (self.places.front()?.0, self.places.back()?.0);
        if number < first || number > last {
            return None;
        }
        let is_at = |at: &usize| self.places.get(*at).is_some_and(|(known, _)| *known == number);
        // Without a gap before it, or behind it.
        let from_front = usize::try_from(number - first).ok();
        let from_back =
            || usize::try_from(last - number).ok().and_then(|back| (self.places.len() - 1).checked_sub(back));
        let guess = from_front.filter(is_at).or_else(|| from_back().filter(is_at));
        guess.or_else(|| self.places.binary_search_by_key(&number, |(known, _)| *known).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// So far behind the last.
        Push(u64),
        Take(u64),
        Cut(u64),
        /// The last so far behind this, by so many.
        Renumber(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => prop_oneof![4 => Just(1u64), 1 => 2u64..9].prop_map(Step::Push),
            4 => (0u64..400).prop_map(Step::Take),
            1 => (0u64..400).prop_map(Step::Cut),
            2 => (0u64..3, 1u64..3).prop_map(|(behind, by)| Step::Renumber(behind, by)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_as_a_map(steps in prop::collection::vec(step(), 0..300)) {
            let (mut sparse, mut map, mut last) = (Sparse::default(), BTreeMap::new(), 0);
            for step in steps {
                match step {
                    Step::Push(by) => {
                        last += by;
                        sparse.push(last, last);
                        map.insert(last, last);
                    }
                    Step::Take(number) => prop_assert_eq!(sparse.take(number), map.remove(&number)),
                    Step::Cut(number) => {
                        sparse.cut(number);
                        map.retain(|at, _| *at <= number);
                    }
                    Step::Renumber(behind, by) => {
                        let number = last.saturating_sub(behind);
                        let is_last = sparse.last().is_some_and(|(at, _)| at == number);
                        let moved = sparse.renumber_last(number, last + by).map(|entry| *entry);
                        prop_assert_eq!(moved, map.get(&number).copied().filter(|_| is_last));
                        if let Some(entry) = moved {
                            map.remove(&number);
                            last += by;
                            map.insert(last, entry);
                        }
                    }
                }
                prop_assert_eq!(sparse.len(), map.len());
                prop_assert_eq!(sparse.first().map(|(at, _)| at), map.first_key_value().map(|(at, _)| *at));
            }
            for number in 0..last + 2 {
                prop_assert_eq!(sparse.get(number), map.get(&number));
                let after: Vec<_> = sparse.after(number).map(|(at, _)| at).collect();
                let expected: Vec<_> = map.range(number + 1..).map(|(at, _)| *at).collect();
                prop_assert_eq!(after, expected);
            }
        }
    }

    #[test]
    fn holes_are_closed_before_they_outnumber_the_entries() {
        let mut sparse = Sparse::default();
        (0..10_000).for_each(|number| sparse.push(number, ()));
        (1..9_000).for_each(|number| _ = sparse.take(number));
        assert_eq!(sparse.len(), 1001);
        assert!(sparse.places.len() <= 2 * sparse.len() + HOLES + 1, "{}", sparse.places.len());
        assert_eq!(sparse.get(0), Some(&()));
        assert_eq!(sparse.get(9_500), Some(&()));
        assert_eq!(sparse.get(8_999), None);
    }
}
