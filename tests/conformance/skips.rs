//! What transports are not held to: told, counted, and no more than is known.

use pushpull_testkit::PROMISES;
use pushpull_tests::Transport;

/// Every skipped promise, and why it must be.
const KNOWN: [(&str, &[&str]); 11] = [
    // In process there is no connection to cut, and no wire on which to tell a place again and again.
    ("broker", &["survives_cuts", "heartbeat", "snapshot_survives_cuts"]),
    // Who pulls is never skipped forward: it asks for a place, and gets what follows it.
    ("broker_pull", &["survives_cuts", "snapshot_survives_cuts", "overflow_skips"]),
    ("ws", &[]),
    ("ws_proto", &[]),
    ("sse", &[]),
    ("longpoll", &["overflow_skips"]),
    ("http_poll", &["overflow_skips"]),
    ("grpc", &[]),
    ("grpc_attach", &[]),
    ("grpc_fetch", &["overflow_skips"]),
    // Nothing is published by a webhook; its consumer's load is limited by its answers, not by credit.
    ("webhook", &["idempotent", "batch_is_atomic", "overflow_skips", "credit"]),
];

#[test]
fn skips_are_told_and_counted() {
    let mut count = 0;
    let mut skips = Vec::new();
    for transport in Transport::ALL {
        let lacks = |promise: &&pushpull_testkit::Promise| {
            promise.needs.iter().any(|need| !transport.capabilities().has(*need))
        };
        let names: Vec<_> = PROMISES.iter().filter(lacks).map(|promise| promise.name).collect();
        count += names.len();
        if !names.is_empty() {
            eprintln!("skipped: {}: {}", transport.name(), names.join(", "));
        }
        skips.push((transport.name(), names));
    }
    eprintln!("skipped: {count} of {} promises", Transport::ALL.len() * PROMISES.len());
    assert_eq!(skips, KNOWN.map(|(name, promises)| (name, promises.to_vec())));
}
