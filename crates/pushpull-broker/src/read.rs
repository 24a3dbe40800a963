//! Reading what lies after a place: of a few topics by their lists, of patterns by the log.

use std::sync::{MutexGuard, PoisonError, atomic::Ordering};

use pushpull_core::{Bounds, Cursor, CursorStanding, Event, Pattern, Topic, Topics as Wanted};

use crate::{
    conflate,
    hub::Hub,
    interest::Interest,
    losses::Search,
    ring::{Ring, is_wanted},
    topics::TopicSlot,
};

#[cfg(test)]
mod tests;

/// Most entries of the log looked at by one read.
const SCAN: usize = 1024;

/// Least entries of the log looked at before the ring is let go.
const CHUNK: usize = 64;

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
    pub(crate) events: Vec<Event>,
    /// How many conflation left out before or between them.
    pub(crate) left_out: u64,
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
    pub(crate) losses_noted: u64,
    /// Nothing that is waived lies beyond this seq.
    waived_to: u64,
}

impl Since {
    /// Whether all that is waived lies at or before `place`, so that it is of no interest anyway.
    pub(crate) fn is_past(&self, place: u64) -> bool {
        self.waived_to <= place
    }
}

impl Wish<'_> {
    fn counts(&self, slot: &TopicSlot) -> bool {
        self.since.is_none_or(|since| slot.lost_at.load(Ordering::Acquire) > since.losses_noted)
    }

    fn forgotten_to(&self) -> u64 {
        self.interest.forgotten_to(self.since.map(|since| since.losses_noted))
    }
}

impl Hub {
    /// Now, for who does not ask for what is gone.
    pub(crate) fn since_now(&self, interest: &Interest) -> Since {
        let ring = self.ring();
        let (losses_noted, forgotten_to) = (ring.losses.noted(), interest.forgotten_to(None));
        let lost = interest.readers().iter().map(|reader| reader.slot.lock().lost_to);
        let waived_to = lost.max().unwrap_or(0).max(forgotten_to).max(self.head());
        Since { losses_noted, waived_to }
    }

    /// Reads what `wish` asks for, within its bounds.
    pub(crate) fn read(&self, wish: &Wish<'_>) -> Found {
        let scanned = if wish.interest.is_exact() { self.read_lists(wish) } else { self.read_log(wish) };
        if wish.conflate { scanned.conflated(wish) } else { scanned.cut(wish) }
    }

    /// Whether a read could find anything.
    pub(crate) fn has_news(&self, interest: &Interest, place: u64) -> bool {
        if !interest.is_exact() {
            return self.head() > place;
        }
        let is_new = |slot: &TopicSlot| slot.newest_seq.load(Ordering::Acquire) > place;
        interest.readers().iter().any(|reader| is_new(&reader.slot))
    }

    /// The newest place, if nothing of `wanted` came or was lost after `cursor`, a place of this history, for certain.
    pub(crate) fn place_without_news(&self, wanted: &Wanted, cursor: Cursor) -> Option<Cursor> {
        self.expire_now();
        let (generation, head) = (self.generation(), self.head());
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        let is_good = epochs.judge(cursor, head) == CursorStanding::Good;
        let place = epochs.cursor(cursor.seq().max(head));
        drop(epochs);
        // Behind the head: what came up to there is seen.
        let is_old = |entry: &Pattern| match entry.to_topic() {
            Some(topic) => self.topics.newest_seq(&topic) <= cursor.seq(),
            None => head <= cursor.seq(),
        };
        let is_certain = is_good && wanted.iter().all(is_old);
        // Odd while history is being changed.
        (is_certain && generation.is_multiple_of(2) && self.generation() == generation).then_some(place)
    }

    fn read_lists(&self, wish: &Wish<'_>) -> Scanned {
        let head = self.head();
        let mut scanned = Scanned::up_to(wish.place);
        for reader in wish.interest.readers() {
            let state = reader.slot.lock();
            if wish.counts(&reader.slot) {
                scanned.note_loss(state.lost_to);
            }
            let mut fill = Fill::new(wish);
            fill.take(state.between(wish.place, head), 1, &mut scanned.events);
        }
        if wish.interest.readers().len() > 1 {
            scanned.events.sort_unstable_by_key(|event| event.cursor().seq());
        }
        scanned.place = head;
        scanned
    }

    fn read_log(&self, wish: &Wish<'_>) -> Scanned {
        let mut scanned = Scanned { looked_to: wish.looked_to, ..Scanned::up_to(wish.place) };
        let mut fill = Fill::new(wish);
        let mut left = SCAN.max(fill.most.events.saturating_add(1).min(conflate::WINDOW));
        loop {
            let entries = self.read_chunk(wish, fill.clone(), left, &mut scanned);
            left -= entries.len();
            let mut judged = None;
            for event in entries {
                if is_wanted_as(&mut judged, event.topic(), wish.wanted) {
                    let fits = fill.admits(&event);
                    scanned.events.push(event);
                    if !fits {
                        return scanned;
                    }
                }
            }
            if !scanned.more || left == 0 {
                return scanned;
            }
        }
    }

    /// Takes the next entries of the log, whatever their topic: as many as would fill what is left if all were wanted,
    /// and what was lost by now.
    fn read_chunk(&self, wish: &Wish<'_>, mut fill: Fill, most: usize, scanned: &mut Scanned) -> Vec<Event> {
        let (ring, search) = self.ring_and_loss(wish, scanned);
        scanned.looked_to = search.looked_to;
        if search.lost_to > wish.told_to {
            scanned.note_loss(search.lost_to);
        }
        scanned.note_loss(wish.forgotten_to());
        for reader in wish.interest.readers().iter().filter(|reader| wish.counts(&reader.slot)) {
            scanned.note_loss(reader.slot.lock().lost_to);
        }
        let mut waiting = ring.log.after(scanned.place);
        let mut events = Vec::new();
        fill.take(waiting.by_ref().map(|(_, kept)| &kept.event).take(most), CHUNK, &mut events);
        (scanned.place, scanned.more) = match waiting.next() {
            Some((seq, _)) => (seq.saturating_sub(1), true),
            None => (self.head(), false),
        };
        events
    }
}

/// Whether a topic is wanted, which is not asked again while events of one topic follow each other. Asked when the
/// ring is let go: a subscription to many patterns must not hold up publishing.
fn is_wanted_as(judged: &mut Option<(Topic, bool)>, topic: &Topic, wanted: &Wanted) -> bool {
    match judged {
        Some((known, verdict)) if known == topic => *verdict,
        _ => {
            let verdict = wanted.matches(topic);
            *judged = Some((topic.clone(), verdict));
            verdict
        }
    }
}

impl Hub {
    /// The ring, and what topics that are wanted lost as of the moment it was locked.
    ///
    /// A search through many topics lets the ring go in between, so that publishing does not wait for it. What is lost
    /// meanwhile is listed behind all that was looked at, and is looked at in the end.
    fn ring_and_loss(&self, wish: &Wish<'_>, scanned: &Scanned) -> (MutexGuard<'_, Ring>, Search) {
        let looked_to = wish.since.map_or(0, |since| since.losses_noted).max(scanned.looked_to);
        let mut search = Search { looked_to, lost_to: scanned.place.max(wish.told_to) };
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

/// What was looked at, before conflation and the bounds.
struct Scanned {
    lost_to: Option<u64>,
    looked_to: u64,
    /// Up to the first that the bounds do not allow.
    events: Vec<Event>,
    place: u64,
    more: bool,
}

impl Scanned {
    /// Nothing behind `place`.
    fn up_to(place: u64) -> Self {
        Self { lost_to: None, looked_to: 0, events: Vec::new(), place, more: false }
    }

    /// Notes a loss, if it is of what lies behind the place.
    fn note_loss(&mut self, lost_to: u64) {
        if lost_to > self.place {
            self.lost_to = self.lost_to.max(Some(lost_to));
        }
    }

    /// Keeps what the bounds allow.
    fn cut(mut self, wish: &Wish<'_>) -> Found {
        let fits = fitting(self.events.iter(), wish.bounds);
        self.keep(fits, wish.place);
        self.found(0, false)
    }

    /// The same of what conflation lets through.
    fn conflated(mut self, wish: &Wish<'_>) -> Found {
        self.keep(conflate::WINDOW, wish.place);
        let was_left_out = |prev| wish.thin_after.is_some_and(|after| after < prev && prev <= wish.place);
        let survivors = conflate::by_key(std::mem::take(&mut self.events), was_left_out);
        let fits = fitting(survivors.iter().map(|survivor| &survivor.event), wish.bounds);
        let (cut, left_out) = (fits < survivors.len(), survivors.iter().take(fits).map(|s| s.left_out).sum());
        self.events = survivors.into_iter().map(|survivor| survivor.event).collect();
        self.keep(fits, wish.place);
        self.found(left_out, cut)
    }

    /// Keeps `most` events; the place is then that of the last one kept.
    fn keep(&mut self, most: usize, place: u64) {
        if self.events.len() > most {
            self.events.truncate(most);
            self.place = self.events.last().map_or(place, |event| event.cursor().seq());
            self.more = true;
        }
    }

    fn found(self, left_out: u64, cut: bool) -> Found {
        let Self { lost_to, looked_to, events, place, more } = self;
        Found { lost_to, looked_to, events, left_out, place, more, cut }
    }
}

/// How far bounds are filled.
#[derive(Clone)]
struct Fill {
    most: Bounds,
    taken: Bounds,
}

impl Fill {
    fn new(wish: &Wish<'_>) -> Self {
        let most = match wish.conflate {
            true => Bounds::new(conflate::WINDOW, usize::MAX),
            false => wish.bounds,
        };
        Self { most, taken: Bounds::new(0, 0) }
    }

    /// Counts `event`, and says whether the bounds allow it: one is allowed whatever its size.
    fn admits(&mut self, event: &Event) -> bool {
        self.taken.events += 1;
        self.taken.bytes += event.payload().len().max(1);
        let is_small = self.taken.events == 1 || self.taken.bytes <= self.most.bytes;
        is_small && self.taken.events <= self.most.events
    }

    /// Takes of `events`, at `least` so many, up to the first that the bounds do not allow.
    fn take<'a>(&mut self, events: impl Iterator<Item = &'a Event>, least: usize, out: &mut Vec<Event>) {
        for (before, event) in events.enumerate() {
            out.push(event.clone());
            if !self.admits(event) && before + 1 >= least {
                break;
            }
        }
    }
}

/// How many of `events` the bounds allow.
fn fitting<'a>(events: impl Iterator<Item = &'a Event>, bounds: Bounds) -> usize {
    let mut fill = Fill { most: bounds, taken: Bounds::new(0, 0) };
    events.take_while(|event| fill.admits(event)).count()
}
