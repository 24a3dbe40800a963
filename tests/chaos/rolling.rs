//! Nodes that are replaced one after the other under load: each drains, and nobody loses or repeats an event.

use std::time::Duration;

use pushpull_broker::Retention;
use pushpull_testkit::{Failure, Trial};
use pushpull_tests::{DRAIN, Transport, World};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{beat, judge};

/// Messages a beat of 5 ms: 1,000 a second.
const BURST: usize = 5;
/// How many nodes go.
const ROLLS: usize = 5;
/// How long a node serves at least.
const SPELL: Duration = Duration::from_millis(300);

async fn rolls(transport: Transport) -> Result<(), Failure> {
    let world = World::start(Retention::default().with_messages(100_000), 0).await;
    let (source, remote) = (world.over(Transport::Broker), world.over(transport));
    let trial = Trial::new(&source, "roll");
    let (goal, told) = watch::channel(None);
    let mut following = JoinSet::new();
    for name in ["a", "b", ">", "quiet"] {
        let reader = trial.reader_over(&remote, name, trial.asking(name)?).await?;
        following.spawn(reader.follow(told.clone()));
    }
    let nodes = world.clone();
    let rolling = tokio::spawn(async move {
        let mut clean = Vec::new();
        for _ in 0..ROLLS {
            sleep(SPELL).await;
            clean.push(nodes.roll().await);
        }
        clean
    });
    let mut beat = beat();
    while !rolling.is_finished() {
        beat.tick().await;
        trial.publish_many(&["a", "b"], BURST).await?;
        trial.publish_over(&remote, "c", &[trial.message()]).await?;
    }
    let clean = rolling.await.expect("no panic");
    assert_eq!(clean, [true; ROLLS], "every node drains within {DRAIN:?}");
    trial.publish_many(&["a", "b"], 2).await?;
    goal.send_replace(Some(trial.publish("quiet").await?));
    while let Some(reader) = following.join_next().await {
        let reader = reader.expect("no panic")?;
        assert_eq!(reader.session().gaps().count(), 0, "{} was told a gap", reader.session().name);
        trial.keep(reader);
    }
    judge(&trial, 0).await;
    Ok(())
}

macro_rules! roll {
    ($($test:ident $transport:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            rolls(Transport::$transport).await.expect("nothing fails");
        })*
    };
}

roll! {
    ws_survives_rolling_nodes Ws
    sse_survives_rolling_nodes Sse
    longpoll_survives_rolling_nodes Longpoll
    http_poll_survives_rolling_nodes HttpPoll
    grpc_survives_rolling_nodes Grpc
}
