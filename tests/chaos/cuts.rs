//! Connections that are reset at random moments and bytes, two hundred times.

use std::{sync::Arc, time::Duration};

use pushpull_broker::Retention;
use pushpull_core::{Cursor, Start};
use pushpull_testkit::{Failure, Reader, Trial, proxy::Cuts};
use pushpull_tests::{Transport, TransportHarness, World};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{beat, judge};

/// How often all connections are reset.
const CUTS: u64 = 200;
/// Messages a beat of 5 ms: 2,000 a second.
const BURST: usize = 10;
/// Where they go, in turn.
const TOPICS: [&str; 5] = ["a", "b", "c.x", "c.y", "d"];
/// By when all cuts must have happened.
const PATIENCE: Duration = Duration::from_secs(40);

async fn readers(trial: &Trial<'_>, remote: &TransportHarness) -> Result<Vec<Reader>, Failure> {
    let two = trial.asking("a")?.and(&trial.named("d")).expect("a topic");
    let requests = [
        ("all", trial.asking(">")?),
        ("two", two),
        ("pattern", trial.asking("c.*")?),
        ("earliest", trial.asking("b")?.from(Start::Earliest)),
    ];
    let mut readers = Vec::new();
    for (name, request) in requests {
        readers.push(trial.reader_over(remote, name, request).await?);
    }
    Ok(readers)
}

/// Publishes at the source, and now and then over the connections that are cut.
async fn publish(
    trial: &Trial<'_>,
    remote: &TransportHarness,
    world: &World,
    cutting: &JoinHandle<()>,
) -> Result<Cursor, Failure> {
    let at_source = async {
        let (mut beat, begun) = (beat(), Instant::now());
        while !cutting.is_finished() {
            assert!(begun.elapsed() < PATIENCE, "only {} connections reset", world.proxy.cut_count());
            beat.tick().await;
            trial.publish_many(&TOPICS, BURST).await?;
        }
        Ok::<_, Failure>(())
    };
    let over_connections = async {
        while !cutting.is_finished() {
            trial.publish_over(remote, "d", &[trial.message()]).await?;
        }
        Ok::<_, Failure>(())
    };
    tokio::try_join!(at_source, over_connections)?;
    world.proxy.cut_after(Cuts::Never);
    world.proxy.cut();
    trial.publish_many(&TOPICS, TOPICS.len()).await
}

/// Resets all connections at random moments.
async fn cut(world: Arc<World>, mut random: fastrand::Rng) {
    for _ in 0..CUTS {
        sleep(Duration::from_millis(random.u64(5..=60))).await;
        world.proxy.cut();
    }
}

async fn survives(transport: Transport) {
    let seed = fastrand::u64(..);
    let world = World::start(Retention::default().with_messages(100_000), seed).await;
    let (source, remote) = (world.over(Transport::Broker), world.over(transport));
    let trial = Trial::new(&source, "cuts");
    let (goal, told) = watch::channel(None);
    let mut following = JoinSet::new();
    for reader in readers(&trial, &remote).await.expect("they come before the faults") {
        following.spawn(reader.follow(told.clone()));
    }
    if matches!(transport, Transport::Ws | Transport::Sse | Transport::Grpc) {
        // A poll's answer may grow beyond any number of bytes while it is cut again and again.
        world.proxy.cut_after(Cuts::within(1..=64 * 1024));
    }
    let cutting = tokio::spawn(cut(world.clone(), fastrand::Rng::with_seed(seed)));
    let last = publish(&trial, &remote, &world, &cutting).await.expect("publishing survives");
    assert!(world.proxy.cut_count() >= CUTS, "{} connections were reset", world.proxy.cut_count());
    goal.send_replace(Some(last));
    while let Some(reader) = following.join_next().await {
        trial.keep(reader.expect("no panic").unwrap_or_else(|failure| panic!("seed {seed}: {failure}")));
    }
    judge(&trial, seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_survives_cuts() {
    survives(Transport::Ws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sse_survives_cuts() {
    survives(Transport::Sse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn longpoll_survives_cuts() {
    survives(Transport::Longpoll).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_poll_survives_cuts() {
    survives(Transport::HttpPoll).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_survives_cuts() {
    survives(Transport::Grpc).await;
}
