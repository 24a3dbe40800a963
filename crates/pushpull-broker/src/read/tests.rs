use std::{cell::RefCell, sync::Arc};

use pushpull_core::{Epoch, Message, Subscribe};

use super::*;
use crate::{Entry, Retention};

type Meanwhile = Box<dyn FnOnce()>;

thread_local! {
    static MEANWHILE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
}

/// What a test has happen while a search has let the ring go.
pub(super) fn meanwhile() {
    if let Some(happen) = MEANWHILE.take() {
        happen();
    }
}

fn publish(hub: &Hub, topic: &str) {
    let entry = Entry::new(hub.head() + 1, 0, topic.parse().unwrap(), Message::text("x"));
    hub.announce(&hub.ingest(vec![entry]));
}

/// Two rounds of a publish to each of 2,000 topics, of which one is retained. In the middle of the first, `rare` is
/// published to.
fn hub() -> Arc<Hub> {
    let hub = Hub::new(Retention::default().with_messages(1));
    hub.begin(Epoch::from_random(1), 1);
    for n in 0..4000 {
        publish(&hub, &format!("often.{}", n % 2000));
        if n == 1499 {
            publish(&hub, "rare");
        }
    }
    Arc::new(hub)
}

/// What a read of `pattern` from the beginning finds by who looked at losses up to a number.
fn read(hub: &Hub, pattern: &str, looked_to: u64) -> Found {
    let wanted = &Subscribe::to(pattern).unwrap().topics;
    let interest = &hub.interest(wanted);
    let (place, told_to, since, thin_after) = (0, 0, None, None);
    let (bounds, conflate) = (Bounds::default(), false);
    hub.read(&Wish { wanted, interest, place, bounds, conflate, told_to, looked_to, since, thin_after })
}

/// Up to where a read says that something is gone, if `meanwhile` happens during it.
fn lost_to(hub: &Arc<Hub>, pattern: &str, meanwhile: fn(&Hub)) -> Option<u64> {
    let held = hub.clone();
    MEANWHILE.set(Some(Box::new(move || meanwhile(&held))));
    let found = read(hub, pattern, 0);
    assert!(MEANWHILE.take().is_none(), "the ring was not let go");
    found.lost_to
}

#[test]
fn what_is_lost_in_the_middle_of_a_search_is_found() {
    assert_eq!(lost_to(&hub(), "*", |_| {}), None);
    assert_eq!(lost_to(&hub(), "*", |hub| publish(hub, "rare")), Some(1501));
}

#[test]
fn who_goes_on_finds_what_was_lost_since() {
    let hub = hub();
    let first = read(&hub, "*", 0);
    assert_eq!(read(&hub, "*", first.looked_to).lost_to, None);
    publish(&hub, "often.7");
    let second = read(&hub, "*", first.looked_to);
    assert_eq!((second.lost_to, second.looked_to), (None, first.looked_to + 1));
    publish(&hub, "rare");
    publish(&hub, "rare");
    let third = read(&hub, "*", second.looked_to);
    assert_eq!((third.lost_to, third.looked_to), (Some(4003), second.looked_to + 2));
    assert_eq!(read(&hub, "*", third.looked_to).lost_to, None, "it was told");
    assert_eq!(read(&hub, "*", 0).lost_to, third.lost_to);
}

#[test]
fn a_read_looks_at_no_more_than_would_fill_its_bounds() {
    let hub = hub();
    let wanted = &Subscribe::to(">").unwrap().topics;
    let interest = &hub.interest(wanted);
    let (place, told_to, looked_to, since, thin_after) = (0, 0, 0, None, None);
    for (bytes, looked_at, given) in [(100, 101, 100), (10, CHUNK, 10), (1000, 301, 300)] {
        let (bounds, conflate) = (Bounds::new(300, bytes), false);
        let wish = Wish { wanted, interest, place, bounds, conflate, told_to, looked_to, since, thin_after };
        let chunk = hub.read_chunk(&wish, Fill::new(&wish), SCAN, &mut Scanned::up_to(place));
        assert_eq!(chunk.len(), looked_at);
        let found = hub.read(&wish);
        assert_eq!((found.events.len(), found.more), (given, true));
        assert_eq!(found.events.last().map(|event| event.cursor().seq()), Some(found.place));
    }
}
