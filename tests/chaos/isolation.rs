//! One hundred fast subscribers and one that does not read.

use pushpull_broker::Retention;
use pushpull_core::{Cursor, Gap, GapReason, Message};
use pushpull_testkit::{Failure, Trial};
use pushpull_tests::{Transport, World};
use tokio::{sync::watch, task::JoinSet};

use super::{beat, judge};

/// Messages a beat of 5 ms: 5,000 a second.
const BURST: usize = 25;
/// Eight seconds of it.
const BEATS: usize = 1600;
const TOPICS: usize = 50;
const FAST: usize = 100;
/// Five seconds of a topic: what a fast reader may be behind on a busy machine.
const RETAINS: usize = 500;
/// Most bytes that the broker may hold.
const RETAINED_BYTES: u64 = 64 << 20;
/// Most bytes by which the process may grow, the record included.
const GROWTH: u64 = 192 << 20;

/// The memory of this process, where the system tells it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

async fn publish(trial: &Trial<'_>) -> Result<Cursor, Failure> {
    let (mut beat, filling) = (beat(), "x".repeat(1000));
    let mut last = None;
    for n in 0..BEATS * BURST {
        if n % BURST == 0 {
            beat.tick().await;
        }
        let message = Message::text(format!("{n} {filling}"));
        last = Some(trial.publish_message(&format!("t{}", n % TOPICS), message).await?.last);
    }
    Ok(last.expect("there are beats"))
}

async fn stalls(transport: Transport) -> Result<(), Failure> {
    let retention = Retention::default().with_messages(RETAINS).with_bytes(RETAINED_BYTES);
    let world = World::start(retention, 0).await;
    let harness = world.directly_over(transport);
    let source = world.over(Transport::Broker);
    let (trial, reading) = (Trial::new(&source, "stall"), &harness);
    let mut stalled = trial.reader_over(reading, "stalled", trial.asking(">")?).await?;
    stalled.first_word().await?;
    let goals: Vec<_> = (0..TOPICS).map(|_| watch::Sender::new(None)).collect();
    let mut following = JoinSet::new();
    for n in 0..FAST {
        let request = trial.asking(&format!("t{}", n % TOPICS))?;
        let mut reader = trial.reader_over(reading, &format!("fast {n}"), request).await?;
        reader.first_word().await?;
        following.spawn(reader.follow(goals[n % TOPICS].subscribe()));
    }
    let before = resident();
    publish(&trial).await?;
    let stats = world.broker.stats();
    assert!(stats.retained_events <= (TOPICS * RETAINS) as u64, "{stats:?}");
    assert!(stats.retained_bytes <= RETAINED_BYTES, "{stats:?}");
    if let (Some(before), Some(after)) = (before, resident()) {
        assert!(after.saturating_sub(before) < GROWTH, "from {before} to {after} bytes");
    }
    let mut last = None;
    for (topic, goal) in goals.iter().enumerate() {
        last = Some(trial.publish(&format!("t{topic}")).await?);
        goal.send_replace(last);
    }
    while let Some(reader) = following.join_next().await {
        let reader = reader.expect("no panic")?;
        let gap = reader.session().gaps().next();
        assert!(gap.is_none(), "{} was told: {gap:?}", reader.session().name);
        trial.keep(reader);
    }
    stalled.reach(last.expect("there are topics")).await?;
    let is_loss = |gap: &&Gap| matches!(gap.reason, GapReason::Lagged | GapReason::Evicted);
    assert!(stalled.session().gaps().any(|gap| is_loss(&gap)), "it was never told that it lost something");
    trial.keep(stalled);
    judge(&trial, 0).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_subscriber_takes_nothing_from_the_others() {
    stalls(Transport::Broker).await.expect("nothing fails");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_sse_stream_takes_nothing_from_the_others() {
    stalls(Transport::Sse).await.expect("nothing fails");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_websocket_takes_nothing_from_the_others() {
    stalls(Transport::Ws).await.expect("nothing fails");
}
