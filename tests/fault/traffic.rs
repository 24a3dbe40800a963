//! What is published.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use pushpull_core::{Cursor, Message, Subscribe};
use pushpull_testkit::{Failure, Trial};
use pushpull_tests::TransportHarness;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// The time between two turns of the publisher.
const BEAT: Duration = Duration::from_millis(10);
/// Turns between two bursts: 1 s.
const PAUSE: usize = 100;

const GROUPS: usize = 4;
const TOPICS_A_GROUP: usize = 8;
const BURSTING: usize = 8;

/// Topic that evicts within seconds.
const HOT: &str = "hot";
/// Topic published to through connections that are cut.
const REMOTE: &str = "even.remote";

/// Traffic of a rate: half of it evenly over 32 topics, a quarter in bursts of one second's messages over 8, a
/// quarter to one hot topic.
#[derive(Debug)]
pub(super) struct Traffic {
    rate: usize,
    count: AtomicU64,
}

impl Traffic {
    pub(super) fn new(rate: usize) -> Self {
        Self { rate, count: AtomicU64::new(0) }
    }

    /// How many events of a topic must be retained for the hot one to evict after 3 s and the others not within 30 s.
    pub(super) fn retains(rate: usize) -> usize {
        rate * 3 / 4
    }

    /// Longer than the hot topic keeps anything.
    pub(super) const AWAY: Duration = Duration::from_secs(4);

    /// What the consumer of this number asks for, among those of its way: one topic, several, or a pattern.
    pub(super) fn even(trial: &Trial<'_>, number: usize) -> Result<Subscribe, Failure> {
        match number % 6 {
            3 => trial.asking(&format!("even.{}.*", number % GROUPS)),
            5 if number == 5 => trial.asking("even.>"),
            4 => {
                let second = trial.named(&topic(number * 7 + 3));
                trial
                    .asking(&topic(number))?
                    .and(&second)
                    .map_err(|error| Failure::Unexpected(error.to_string()))
            }
            _ => Self::one(trial, number),
        }
    }

    /// One of the topics that are evenly published to.
    pub(super) fn one(trial: &Trial<'_>, number: usize) -> Result<Subscribe, Failure> {
        trial.asking(&topic(number))
    }

    /// What is published in bursts: one topic of it, or all. Between bursts there is nothing to answer a long poll with.
    pub(super) fn bursts(trial: &Trial<'_>, number: usize) -> Result<Subscribe, Failure> {
        match number % 5 {
            4 => trial.asking("burst.*"),
            _ => trial.asking(&burst(number)),
        }
    }

    pub(super) fn hot(trial: &Trial<'_>) -> Result<Subscribe, Failure> {
        trial.asking(HOT)
    }

    fn message(&self) -> Message {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Message::text(format!("{number} {}", "x".repeat(80)))
    }

    /// Publishes until told to stop.
    pub(super) async fn publish(
        &self,
        trial: &Trial<'_>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        // Messages owed, in hundredths: a beat has a hundredth of a second's.
        let (mut even, mut hot, mut sent) = (0, 0, 0);
        let mut turns = 0;
        while !*stop.borrow_and_update() {
            beat.tick().await;
            (even, hot, turns) = (even + self.rate / 2, hot + self.rate / 4, turns + 1);
            for _ in 0..whole(&mut even) {
                sent += 1;
                trial.publish_message(&topic(sent), self.message()).await?;
            }
            for _ in 0..whole(&mut hot) {
                trial.publish_message(HOT, self.message()).await?;
            }
            if turns % PAUSE == 0 {
                self.burst(trial).await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn burst(&self, trial: &Trial<'_>) -> Result<(), Failure> {
        for number in 0..self.rate / 4 {
            trial.publish_message(&burst(number), self.message()).await?;
        }
        Ok(())
    }

    /// Publishes a last message to each topic, and says where the last of them lies: who has it has all.
    pub(super) async fn close(&self, trial: &Trial<'_>) -> Result<Cursor, Failure> {
        let even = (0..GROUPS * TOPICS_A_GROUP).map(topic);
        for name in even.chain((0..BURSTING).map(burst)) {
            trial.publish_message(&name, self.message()).await?;
        }
        Ok(trial.publish_message(HOT, self.message()).await?.last)
    }

    /// Publishes through `harness`, one message after the other, until told to stop: each is tried again under its id when
    /// the connection breaks before the answer.
    pub(super) async fn publish_remotely(
        &self,
        trial: &Trial<'_>,
        harness: &TransportHarness,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let mut beat = interval(BEAT * 5);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            beat.tick().await;
            trial.publish_over(harness, REMOTE, &[self.message()]).await?;
        }
        Ok(())
    }
}

/// Takes the whole messages from what is owed.
fn whole(owed: &mut usize) -> usize {
    let whole = *owed / 100;
    *owed %= 100;
    whole
}

fn topic(number: usize) -> String {
    format!("even.{}.{}", number % GROUPS, number / GROUPS % TOPICS_A_GROUP)
}

fn burst(number: usize) -> String {
    format!("burst.{}", number % BURSTING)
}
