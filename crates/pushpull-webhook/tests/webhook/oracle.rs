//! The standardwebhooks library of another language takes what is sent here, and is taken.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use pushpull_broker::Broker;
use pushpull_core::{Delivery, PushExt, Subscribe};
use pushpull_testkit::require_or_skip;
use pushpull_webhook::{
    Receiver, ReceiverConfig, Registration, RetryPolicy, Secret, Webhooks, WebhooksConfig,
};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};

use super::{publish, serve, within};

const NAME: &str = "standardwebhooks";

/// The interpreter that has the library.
const INTERPRETER: &str = "PUSHPULL_PYTHON";

fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var(INTERPRETER).unwrap_or_else(|_| "python3".to_owned()));
    if has_library(&python) {
        return Some(python);
    }
    require_or_skip(&[NAME], &format!("{} has no standardwebhooks ({INTERPRETER})", python.display()));
    None
}

fn has_library(python: &Path) -> bool {
    let import = Command::new(python).args(["-c", "import standardwebhooks"]).stderr(Stdio::null()).status();
    import.is_ok_and(|status| status.success())
}

async fn line(lines: &mut Lines<BufReader<tokio::process::ChildStdout>>) -> String {
    within(lines.next_line()).await.unwrap().expect("one more line")
}

#[tokio::test]
async fn a_library_of_another_language_verifies_and_is_verified() {
    let Some(python) = python() else { return };
    let (broker, secret) = (Broker::memory(), Secret::random().unwrap());
    let receiver = Receiver::new(secret.clone(), ReceiverConfig::default());
    let hooks = serve(axum::Router::new().route_service("/hook", receiver.service())).await;
    let mut consumer = receiver.consume(Subscribe::to("a").unwrap()).await.unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhook/oracle.py");
    let mut child = tokio::process::Command::new(python)
        .args([script, &secret.reveal(), "2", &hooks.url("/hook")])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = line(&mut lines).await;
    let policy = RetryPolicy::default().with_first(Duration::from_millis(50));
    let config = WebhooksConfig::default().with_policy(policy).with_allowed("127.0.0.1".parse().unwrap());
    let webhooks = Webhooks::new(Arc::new(broker.clone()), config);
    let topics = Subscribe::to("a").unwrap().topics;
    let registration = Registration::new(format!("http://127.0.0.1:{port}/"), topics).with_secret(secret);
    let id = webhooks.register(registration).await.unwrap().id;
    webhooks.rotate(id, Secret::random().unwrap()).await.unwrap();
    let epoch = broker.place().epoch();
    for (seq, text) in [(1, "plain"), (2, "gr\u{fc}\u{df}e")] {
        publish(&broker, "a", text).await;
        let got: serde_json::Value = serde_json::from_str(&line(&mut lines).await).unwrap();
        assert_eq!(got, serde_json::json!([format!("{epoch}-{seq}"), text, format!("{epoch}-{}", seq - 1)]));
    }
    within(async {
        while let Some(Ok(delivery)) = consumer.next().await {
            if let Delivery::Event(event) = delivery {
                assert_eq!(event.payload(), "gr\u{fc}\u{df}e");
                break;
            }
        }
    })
    .await;
    assert_eq!(line(&mut lines).await, "204");
}
