//! Python's grpcio, which knows the service by reflection alone.

use std::{path::Path, process::Command};

use pushpull_broker::{Broker, Retention};
use pushpull_core::{Message, Producer};
use pushpull_http::Gate;
use pushpull_testkit::require_or_skip;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process,
};

use crate::support::{Node, soon};

/// The interpreter that has `grpcio`, `grpcio-reflection` and `grpcio-health-checking`.
const INTERPRETER: &str = "PUSHPULL_PYTHON";
const COUNT: usize = 60_000;

fn python() -> Option<String> {
    let python = std::env::var(INTERPRETER).unwrap_or_else(|_| "python3".to_owned());
    let modules = "import grpc, grpc_reflection.v1alpha.reflection_pb2, grpc_health.v1.health_pb2";
    let probed = Command::new(&python).args(["-c", modules]).output();
    if probed.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let reason =
        format!("{python} has no grpcio, grpcio-reflection and grpcio-health-checking ({INTERPRETER})");
    require_or_skip(&["grpcio"], &reason);
    None
}

/// The script asserts by itself; where it waits for events it says so by a line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_python_client_needs_nothing_else() {
    let Some(python) = python() else { return };
    let broker = Broker::memory_with(Retention::default().with_messages(COUNT));
    let gate = Gate::builder().with_max_payload(64 * 1024).build().unwrap();
    let node = Node::start(&broker, gate).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc/stock.py");
    let mut running = process::Command::new(python)
        .arg(script)
        .args([node.address.to_string(), COUNT.to_string()])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert_eq!(soon(lines.next_line()).await.unwrap().as_deref(), Some("paused"));
    let (cx, topic) = (Default::default(), "small".parse().unwrap());
    for _ in 0..COUNT / 100 {
        let batch: Vec<_> = (0..100).map(|_| Message::new(vec![7; 20])).collect();
        broker.publish(&cx, &topic, &batch).await.unwrap();
    }
    broker.publish(&cx, &"go".parse().unwrap(), &[Message::text("on")]).await.unwrap();
    assert_eq!(soon(lines.next_line()).await.unwrap().as_deref(), Some("done"));
    assert!(soon(running.wait()).await.unwrap().success());
}
