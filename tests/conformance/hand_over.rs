//! From one transport to another by the cursor alone, and published by one for all others.

use std::time::Instant;

use pushpull_broker::Retention;
use pushpull_testkit::{Capability, Harness, hand_over, published_for_all};
use pushpull_tests::{Mode, Transport, TransportHarness, World};

use super::RETAINS;

/// `all` for every ordered pair; otherwise each transport goes to the next and back.
const MATRIX: &str = "PUSHPULL_MATRIX";

type Pair = (Transport, Transport);

fn sample() -> Vec<Pair> {
    let around = Transport::ALL.iter().cycle().skip(1);
    Transport::ALL.iter().zip(around).map(|(from, to)| (*from, *to)).collect()
}

fn all() -> Vec<Pair> {
    let pairs = |from: &Transport| Transport::ALL.iter().map(|to| (*from, *to)).collect::<Vec<_>>();
    Transport::ALL.iter().flat_map(pairs).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hands_over() {
    let pairs = if std::env::var(MATRIX).is_ok_and(|matrix| matrix == "all") { all() } else { sample() };
    let world = World::start(Retention::default().with_messages(RETAINS), 1).await;
    let (mut failures, began) = (Vec::new(), Instant::now());
    for (from, to) in &pairs {
        if let Err(failure) = hand_over(&world.over(*from), &world.over(*to)).await {
            failures.push(format!("{} -> {}: {failure}", from.name(), to.name()));
        }
    }
    let (count, of) = (pairs.len(), all().len());
    eprintln!("handed over by {count} of {of} ordered pairs in {:.1} s", began.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} of {count} pairs:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_sample_has_every_transport_on_both_sides_and_every_kind_of_pair() {
    let sample = sample();
    for transport in Transport::ALL {
        assert!(sample.iter().any(|(from, to)| from == transport && to != transport), "{transport:?} gives");
        assert!(sample.iter().any(|(from, to)| to == transport && from != transport), "{transport:?} takes");
    }
    for kind in [
        (Mode::Pushed, Mode::Pushed),
        (Mode::Pushed, Mode::Pulled),
        (Mode::Pulled, Mode::Pushed),
        (Mode::Pulled, Mode::Pulled),
    ] {
        assert!(sample.iter().any(|(from, to)| (from.mode(), to.mode()) == kind), "{kind:?}");
    }
    let count = Transport::ALL.len();
    assert_eq!((sample.len(), all().len()), (count, count * count));
}

/// Every ordered pair, always: one publishes, all read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_publishes_all_others_read() {
    let world = World::start(Retention::default().with_messages(RETAINS), 1).await;
    let harnesses: Vec<TransportHarness> =
        Transport::ALL.iter().map(|transport| world.over(*transport)).collect();
    let readers: Vec<&dyn Harness> = harnesses.iter().map(|harness| harness as &dyn Harness).collect();
    let (mut failures, mut publishers) = (Vec::new(), 0);
    for harness in harnesses.iter().filter(|harness| harness.capabilities().has(Capability::Publish)) {
        publishers += 1;
        if let Err(failure) = published_for_all(harness, &readers).await {
            failures.push(format!("by {}: {failure}", harness.name()));
        }
    }
    eprintln!("published by {publishers}, read by {}", readers.len());
    assert!(publishers > 0 && failures.is_empty(), "{}", failures.join("\n"));
}
