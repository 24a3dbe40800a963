//! From one transport to another by the cursor alone.

use pushpull_broker::Retention;
use pushpull_testkit::hand_over;
use pushpull_tests::{Transport, World};

/// `all` for every ordered pair; otherwise each transport goes to the next and back.
const MATRIX: &str = "PUSHPULL_MATRIX";

fn sample() -> Vec<(Transport, Transport)> {
    let around = Transport::ALL.iter().cycle().skip(1);
    Transport::ALL.iter().zip(around).map(|(from, to)| (*from, *to)).collect()
}

fn all() -> Vec<(Transport, Transport)> {
    let pairs = |from: &Transport| Transport::ALL.iter().map(|to| (*from, *to)).collect::<Vec<_>>();
    Transport::ALL.iter().flat_map(pairs).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hands_over() {
    let pairs = if std::env::var(MATRIX).is_ok_and(|matrix| matrix == "all") { all() } else { sample() };
    let world = World::start(Retention::default().with_messages(super::RETAINS), 1).await;
    let mut failures = Vec::new();
    for (from, to) in &pairs {
        if let Err(failure) = hand_over(&world.over(*from), &world.over(*to)).await {
            failures.push(format!("{} -> {}: {failure}", from.name(), to.name()));
        }
    }
    assert!(failures.is_empty(), "{} of {} pairs:\n{}", failures.len(), pairs.len(), failures.join("\n"));
}
