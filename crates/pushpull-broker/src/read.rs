//! Reading what lies after a place: of a few topics by their lists, of patterns by the log.

#[cfg(test)]
mod tests;

use std::sync::{Arc, MutexGuard, atomic::Ordering};

use pushpull_core::{Bounds, Event, Topics as Wanted};

use crate::{
    conflate::{self, Survivor},
    hub::Hub,
    interest::Interest,
    log::Kept,
    losses::Search,
    ring::{Ring, is_wanted},
    topics::TopicSlot,
};

/// Most entries of the log looked at by one read.
const SCAN: usize = 1024;

/// Most pairs of a topic and a pattern looked at for a loss before the ring is let go for a moment.
const PORTION: usize = 1024;

/// What one read found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Events asked for up to this seq are gone, and it lies beyond the place.
    pub(crate) lost_to: Option<u64>,
    /// Losses up to this number were looked at.
    pub(crate) looked_to: u64,
    /// In rising order.
    pub(crate) events: Vec<Survivor>,
    /// Everything asked for up to this place is in `events`, or before the place asked.
    pub(crate) place: u64,
    /// Whether something may wait beyond `place`.
    pub(crate) more: bool,
    /// Whether survivors of conflation were held back: what they replace may lie before `place`.
    pub(crate) cut: bool,
}

/// What to read.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) wanted: &'a Wanted,
    pub(crate) interest: &'a Interest,
    pub(crate) place: u64,
    pub(crate) bounds: Bounds,
    pub(crate) conflate: bool,
    /// Losses up to here are of no interest.
    pub(crate) told_to: u64,
    /// Losses up to this number were looked at, when the place and what was told were no further than now.
    pub(crate) looked_to: u64,
    /// Losses before this are of no interest.
    pub(crate) since: Option<Since>,
    /// Events after this place, if any, may have been left out by conflation for others that still wait.
    pub(crate) thin_after: Option<u64>,
}

/// When somebody began who does not ask for what was gone by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    losses_noted: u64,
    forgotten_to: u64,
}

impl Wish<'_> {
    fn counts(&self, slot: &TopicSlot) -> bool {
        self.since.is_none_or(|since| slot.lost_at.load(Ordering::Acquire) > since.losses_noted)
    }

    fn forgotten_to(&self) -> u64 {
        let forgotten_to = self.interest.forgotten_to();
        match self.since {
            Some(since) if forgotten_to <= since.forgotten_to => 0,
            _ => forgotten_to,
        }
    }
}

impl Hub {
    /// Now, for who does not ask for what is gone.
    pub(crate) fn since_now(&self, interest: &Interest) -> Since {
        let ring = self.ring();
        Since { losses_noted: ring.losses.noted(), forgotten_to: interest.forgotten_to() }
    }

    /// Reads what `wish` asks for, within its bounds.
    pub(crate) fn read(&self, wish: &Wish<'_>) -> Found {
        let most = match (wish.conflate, wish.bounds.events) {
            (true, _) => conflate::WINDOW,
            (false, events) => events,
        };
        let scanned =
            if wish.interest.is_exact() { self.read_lists(wish, most) } else { self.read_log(wish, most) };
        cut(wish, scanned)
    }

    /// Whether a read could find anything.
    pub(crate) fn has_news(&self, interest: &Interest, place: u64) -> bool {
        if !interest.is_exact() {
            return self.head() > place;
        }
        let is_new = |slot: &TopicSlot| slot.newest_seq.load(Ordering::Acquire) > place;
        interest.readers.iter().any(|reader| is_new(&reader.slot))
    }

    fn read_lists(&self, wish: &Wish<'_>, most: usize) -> Scanned {
        let head = self.head();
        let mut scanned = Scanned::up_to(head);
        for reader in &wish.interest.readers {
            let state = reader.slot.lock();
            if wish.counts(&reader.slot) {
                scanned.note_loss(state.lost_to, wish.place);
            }
            scanned.events.extend(state.between(wish.place, head).take(most.saturating_add(1)).cloned());
        }
        if wish.interest.readers.len() > 1 {
            scanned.events.sort_unstable_by_key(|event| event.cursor().seq());
        }
        scanned.truncate(most, wish.place);
        scanned
    }

    fn read_log(&self, wish: &Wish<'_>, most: usize) -> Scanned {
        let (ring, search) = self.ring_and_loss(wish);
        let mut scanned = Scanned { looked_to: search.looked_to, ..Scanned::up_to(self.head()) };
        if search.lost_to > wish.told_to {
            scanned.note_loss(search.lost_to, wish.place);
        }
        scanned.note_loss(wish.forgotten_to(), wish.place);
        for reader in wish.interest.readers.iter().filter(|reader| wish.counts(&reader.slot)) {
            scanned.note_loss(reader.slot.lock().lost_to, wish.place);
        }
        let mut waiting = ring.log.after(wish.place);
        let looked_at = SCAN.max(most.saturating_add(1).min(conflate::WINDOW));
        let entries: Vec<Kept> = waiting.by_ref().take(looked_at).map(|(_, kept)| kept.clone()).collect();
        if let Some((seq, _)) = waiting.next() {
            (scanned.place, scanned.more) = (seq.saturating_sub(1), true);
        }
        drop(waiting);
        drop(ring);
        let mut judged = None;
        let wanted = entries.into_iter().filter(|kept| is_wanted_as(&mut judged, kept, wish.wanted));
        scanned.events.extend(wanted.take(most.saturating_add(1)).map(|kept| kept.event));
        scanned.truncate(most, wish.place);
        scanned
    }
}

/// Whether an entry is wanted, which is not asked again while entries of one topic follow each other. Asked when
/// the ring is let go: a subscription to many patterns must not hold up publishing.
fn is_wanted_as(judged: &mut Option<(Arc<TopicSlot>, bool)>, kept: &Kept, wanted: &Wanted) -> bool {
    match judged {
        Some((slot, verdict)) if Arc::ptr_eq(slot, &kept.slot) => *verdict,
        _ => {
            let verdict = is_wanted(wanted, &kept.slot);
            *judged = Some((kept.slot.clone(), verdict));
            verdict
        }
    }
}

impl Hub {
    /// The ring, and what topics that are wanted lost as of the moment it was locked.
    ///
    /// A search through many topics lets the ring go in between, so that publishing does not wait for it. What is lost
    /// meanwhile is listed behind all that was looked at, and is looked at in the end.
    fn ring_and_loss(&self, wish: &Wish<'_>) -> (MutexGuard<'_, Ring>, Search) {
        let looked_to = wish.since.map_or(0, |since| since.losses_noted).max(wish.looked_to);
        let mut search = Search { looked_to, lost_to: wish.place.max(wish.told_to) };
        let is_wanted = |slot: &TopicSlot| wish.counts(slot) && is_wanted(wish.wanted, slot);
        let portion = (PORTION / wish.wanted.iter().len()).max(16);
        let mut ring = self.ring();
        // Who publishes faster than a search looks must not keep it from ending.
        let most = 2 * ring.losses.left_to(&search);
        for _ in 0..most / portion {
            if ring.losses.left_to(&search) <= portion {
                break;
            }
            ring.losses.look(&mut search, portion, is_wanted);
            drop(ring);
            let_others_run();
            ring = self.ring();
        }
        ring.losses.look(&mut search, usize::MAX, is_wanted);
        (ring, search)
    }
}

fn let_others_run() {
    #[cfg(test)]
    tests::meanwhile();
    std::thread::yield_now();
}

/// What was looked at, before conflation and the bound of bytes.
struct Scanned {
    lost_to: Option<u64>,
    looked_to: u64,
    events: Vec<Event>,
    place: u64,
    more: bool,
}

impl Scanned {
    /// Nothing up to `place`.
    fn up_to(place: u64) -> Self {
        Self { lost_to: None, looked_to: 0, events: Vec::new(), place, more: false }
    }

    fn note_loss(&mut self, lost_to: u64, place: u64) {
        if lost_to > place {
            self.lost_to = self.lost_to.max(Some(lost_to));
        }
    }

    /// Keeps `most` events; the place is then that of the last one kept.
    fn truncate(&mut self, most: usize, place: u64) {
        if self.events.len() > most {
            self.events.truncate(most);
            self.place = self.events.last().map_or(place, |event| event.cursor().seq());
            self.more = true;
        }
    }
}

fn cut(wish: &Wish<'_>, scanned: Scanned) -> Found {
    let Scanned { lost_to, looked_to, events, mut place, mut more } = scanned;
    let mut events = if wish.conflate {
        conflate::by_key(events, |prev| {
            wish.thin_after.is_some_and(|after| after < prev && prev <= wish.place)
        })
    } else {
        events.into_iter().map(|event| Survivor { event, left_out: 0 }).collect()
    };
    let fits = fitting(&events, wish.bounds);
    let cut = wish.conflate && fits < events.len();
    if fits < events.len() {
        events.truncate(fits);
        place = events.last().map_or(wish.place, |survivor| survivor.event.cursor().seq());
        more = true;
    }
    Found { lost_to, looked_to, events, place, more, cut }
}

/// How many of `events` the bounds allow: one is allowed whatever its size.
fn fitting(events: &[Survivor], bounds: Bounds) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take(bounds.events).take_while(|survivor| {
        let first = bytes == 0;
        bytes += survivor.event.payload().len().max(1);
        first || bytes <= bounds.bytes
    });
    fits.count()
}
