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

/// Up to where a read of `pattern` from the beginning says that something is gone, if `meanwhile` happens during it.
fn lost_to(hub: &Arc<Hub>, pattern: &str, meanwhile: fn(&Hub)) -> Option<u64> {
    let wanted = Subscribe::to(pattern).unwrap().topics;
    let interest = hub.interest(&wanted);
    let held = hub.clone();
    MEANWHILE.set(Some(Box::new(move || meanwhile(&held))));
    let bounds = Bounds::default();
    let (interest, wanted) = (&interest, &wanted);
    let (place, told_to, looked_to, since, thin_after) = (0, 0, 0, None, None);
    let found = hub.read(&Wish {
        wanted,
        interest,
        place,
        bounds,
        conflate: false,
        told_to,
        looked_to,
        since,
        thin_after,
    });
    assert!(MEANWHILE.take().is_none(), "the ring was not let go");
    found.lost_to
}

#[test]
fn what_is_lost_in_the_middle_of_a_search_is_found() {
    assert_eq!(lost_to(&hub(), "*", |_| {}), None);
    assert_eq!(lost_to(&hub(), "*", |hub| publish(hub, "rare")), Some(1501));
}
