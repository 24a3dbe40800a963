//! That webhooks are what brings the events of `webhook`, not the poll beside them.

use pushpull_testkit::Trial;
use pushpull_tests::Transport;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_by_webhook() {
    let harness = super::over(Transport::Webhook).await;
    let trial = Trial::new(&harness, "hook");
    let mut reader = trial.reader("reader", trial.asking(">").unwrap()).await.unwrap();
    reader.first_word().await.unwrap();
    for _ in 0..100 {
        trial.publish("a").await.unwrap();
        reader.take(1).await.unwrap();
    }
    // A machine that stands still for half a second lets a poll go first.
    let polled = harness.polled();
    assert!(polled < 20, "{polled} of 100 events came by poll");
    trial.keep_session(reader.into_session());
    trial.judge().await.unwrap();
}
