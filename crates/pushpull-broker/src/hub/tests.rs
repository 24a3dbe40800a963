//! What the hub holds, and for how long, while it appends.

use super::*;

fn hub() -> Hub {
    Hub::new(Retention::default())
}

#[test]
fn the_clock_is_read_in_the_order_of_the_sequence() {
    let (hub, topic) = (hub(), "a".parse().unwrap());
    let clock_ms = || {
        assert!(hub.ring.try_lock().is_err(), "another could append in between");
        7
    };
    let _ = hub.append(&topic, [Message::text("x")], clock_ms);
    assert_eq!(hub.ring().log.at(1).unwrap().time_ms(), 7);
}

#[test]
fn a_topic_is_let_go_now_and_then_while_a_large_batch_is_appended() {
    let (hub, topic) = (Hub::new(Retention::default().with_messages(10)), "a".parse().unwrap());
    let slot = hub.topics.slot(&topic);
    let (mut held, mut longest) = (0, 0);
    let messages = (0..20 * RUN).map(|at| {
        held = if slot.is_locked() { held + 1 } else { 0 };
        longest = longest.max(held);
        if at > 10 && held == 0 {
            assert_eq!(slot.lock().lost_to, at as u64 - 10, "who looks now sees what is lost");
        }
        Message::text("x")
    });
    let _ = hub.append(&topic, messages, || 0);
    assert!(longest < RUN, "{longest}");
    assert_eq!(hub.head(), 20 * RUN as u64);
}
