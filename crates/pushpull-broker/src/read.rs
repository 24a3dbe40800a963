//! Reading what lies after a place: of a few topics by their lists, of patterns by the log.

use pushpull_core::{Bounds, Event, Topics as Wanted};

use crate::{
    conflate::{self, Survivor},
    hub::{Hub, is_wanted},
    interest::Interest,
    topics::TopicSlot,
};

/// Most entries of the log looked at by one read.
const SCAN: usize = 4096;

/// What one read found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Events asked for up to this seq are gone, and it lies beyond the place.
    pub(crate) lost_to: Option<u64>,
    /// In rising order.
    pub(crate) events: Vec<Survivor>,
    /// Everything asked for up to this place is in `events`, or before the place asked.
    pub(crate) place: u64,
    /// Whether something may wait beyond `place`.
    pub(crate) more: bool,
}

/// What to read.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) wanted: &'a Wanted,
    pub(crate) interest: &'a Interest,
    pub(crate) place: u64,
    pub(crate) bounds: Bounds,
    pub(crate) conflate: bool,
}

impl Hub {
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
        let forgotten = self.forgotten_to() > place;
        let is_new = |slot: &TopicSlot| match slot.newest_seq.load(std::sync::atomic::Ordering::Acquire) {
            0 => forgotten,
            newest => newest > place,
        };
        interest.readers.iter().any(|reader| is_new(&reader.slot))
    }

    fn read_lists(&self, wish: &Wish<'_>, most: usize) -> Scanned {
        let head = self.head();
        let mut scanned = Scanned { lost_to: None, events: Vec::new(), place: head, more: false };
        for reader in &wish.interest.readers {
            let state = reader.slot.lock();
            let lost_to = if state.last_seq == 0 { self.forgotten_to() } else { state.lost_to };
            scanned.note_loss(lost_to, wish.place);
            scanned.events.extend(state.between(wish.place, head).take(most.saturating_add(1)).cloned());
        }
        if wish.interest.readers.len() > 1 {
            scanned.events.sort_unstable_by_key(|event| event.cursor().seq());
        }
        scanned.truncate(most, wish.place);
        scanned
    }

    fn read_log(&self, wish: &Wish<'_>, most: usize) -> Scanned {
        let ring = self.ring();
        let mut scanned = Scanned { lost_to: None, events: Vec::new(), place: self.head(), more: false };
        if wish.place < self.head() {
            let loss = ring.loss_beyond(wish.place, |slot| is_wanted(wish.wanted, slot));
            scanned.note_loss(loss.unwrap_or(0), wish.place);
            scanned.note_loss(self.forgotten_to(), wish.place);
        }
        for (looked, (seq, kept)) in ring.log.after(wish.place).enumerate() {
            if looked == SCAN.max(most.min(conflate::WINDOW)) {
                (scanned.place, scanned.more) = (seq - 1, true);
                break;
            }
            if is_wanted(wish.wanted, &kept.slot) {
                scanned.events.push(kept.event.clone());
                if scanned.events.len() > most {
                    break;
                }
            }
        }
        scanned.truncate(most, wish.place);
        scanned
    }
}

/// What was looked at, before conflation and the bound of bytes.
struct Scanned {
    lost_to: Option<u64>,
    events: Vec<Event>,
    place: u64,
    more: bool,
}

impl Scanned {
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
    let Scanned { lost_to, events, mut place, mut more } = scanned;
    let mut events = if wish.conflate {
        conflate::by_key(events)
    } else {
        events.into_iter().map(|event| Survivor { event, left_out: 0 }).collect()
    };
    let fits = fitting(&events, wish.bounds);
    if fits < events.len() {
        events.truncate(fits);
        place = events.last().map_or(wish.place, |survivor| survivor.event.cursor().seq());
        more = true;
    }
    Found { lost_to, events, place, more }
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
