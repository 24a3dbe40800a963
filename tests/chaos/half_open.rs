//! Connections that go silent without an end: only silence itself tells.

use std::time::Duration;

use pushpull_broker::Retention;
use pushpull_testkit::{Failure, Trial, proxy::Flow};
use pushpull_tests::{Transport, World};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{beat, judge};

/// Messages a beat of 5 ms: 1,000 a second.
const BURST: usize = 5;
/// How long bytes vanish, and flow, in turn.
const SPELL: Duration = Duration::from_millis(400);
/// How often bytes vanish.
const SPELLS: u32 = 2;

async fn publish_for(trial: &Trial<'_>, spell: Duration) -> Result<(), Failure> {
    let (mut beat, begun) = (beat(), Instant::now());
    while begun.elapsed() < spell {
        beat.tick().await;
        trial.publish_many(&["a", "b"], BURST).await?;
    }
    Ok(())
}

async fn survives(transport: Transport) -> Result<(), Failure> {
    let world = World::start(Retention::default().with_messages(100_000), 0).await;
    let (source, remote) = (world.over(Transport::Broker), world.over(transport));
    let trial = Trial::new(&source, "silent");
    let (goal, told) = watch::channel(None);
    let mut following = JoinSet::new();
    for name in ["a", ">"] {
        let reader = trial.reader_over(&remote, name, trial.asking(name)?).await?;
        following.spawn(reader.follow(told.clone()));
    }
    for _ in 0..SPELLS {
        publish_for(&trial, SPELL).await?;
        let before = world.proxy.accepted();
        world.proxy.set_flow(Flow::Swallow);
        publish_for(&trial, SPELL).await?;
        world.proxy.set_flow(Flow::Forward);
        // Both give the silent connection up and make another.
        while world.proxy.accepted() < before + 2 {
            publish_for(&trial, SPELL / 8).await?;
        }
    }
    trial.publish("b").await?;
    goal.send_replace(Some(trial.publish("a").await?));
    while let Some(reader) = following.join_next().await {
        trial.keep(reader.expect("no panic")?);
    }
    judge(&trial, 0).await;
    Ok(())
}

macro_rules! survive {
    ($($test:ident $transport:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            survives(Transport::$transport).await.expect("nothing fails");
        })*
    };
}

survive! {
    ws_survives_silence Ws
    sse_survives_silence Sse
    longpoll_survives_silence Longpoll
    http_poll_survives_silence HttpPoll
    grpc_survives_silence Grpc
}
