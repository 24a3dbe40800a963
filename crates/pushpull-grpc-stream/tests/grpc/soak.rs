//! Streams that come and go leave nothing behind.

use std::fs;

use pushpull_grpc_stream::proto::{
    ClientFrame, FetchRequest, ServerFrame, SubscribeRequest, client_frame::Frame as Says,
    delivery_client::DeliveryClient,
};
use pushpull_http::Transport;
use tokio::task::JoinSet;
use tonic::{Request, Streaming, transport::Channel};

use crate::support::{Node, next, topics, until};

/// How many streams to open and drop. Default: 5,000.
const STREAMS: &str = "PUSHPULL_SOAK";
const AT_ONCE: usize = 50;

/// Bytes of memory of this process, server and client; `None` where nobody tells.
fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Subscribes, attaches, is refused, runs into a deadline and gives a wait up, by turns.
async fn open(mut client: DeliveryClient<Channel>, n: usize) -> Option<Streaming<ServerFrame>> {
    let opened = match n % 5 {
        0 | 1 => client.subscribe(topics(&["a"])).await,
        2 => {
            let frame = ClientFrame { frame: Some(Says::Subscribe(topics(&["a", "b.*"]))) };
            client.attach(tonic::codegen::tokio_stream::iter([frame])).await
        }
        3 => client.subscribe(SubscribeRequest { after: "none".into(), ..topics(&["a"]) }).await,
        _ => {
            let asked = FetchRequest { topics: vec!["a".into()], wait: 60, ..FetchRequest::default() };
            let mut asked = Request::new(asked);
            asked.set_timeout(std::time::Duration::from_millis(5));
            client.fetch(asked).await.unwrap_err();
            let mut asked = Request::new(topics(&["a"]));
            asked.set_timeout(std::time::Duration::from_millis(5));
            client.subscribe(asked).await
        }
    };
    let mut frames = opened.ok()?.into_inner();
    if n % 5 < 3 {
        next(&mut frames).await;
    }
    Some(frames)
}

async fn come_and_go(node: &Node, client: &DeliveryClient<Channel>, streams: usize) {
    for _ in 0..streams / AT_ONCE {
        let mut opening: JoinSet<_> = (0..AT_ONCE).map(|n| open(client.clone(), n)).collect();
        let mut held = Vec::new();
        while let Some(opened) = opening.join_next().await {
            held.extend(opened.unwrap());
        }
        drop(held);
        until(|| node.gate.metrics().connections(Transport::Grpc) == 0).await;
    }
}

#[tokio::test]
async fn streams_that_come_and_go_leave_nothing() {
    let streams = std::env::var(STREAMS).map_or(5_000, |streams| streams.parse().unwrap());
    let node = Node::open().await;
    let client = node.client().await;
    come_and_go(&node, &client, 2_000).await;
    let before = resident();
    come_and_go(&node, &client, streams).await;
    if let (Some(before), Some(after)) = (before, resident()) {
        assert!(after < before * 1.05, "from {before} to {after} KiB");
    }
}
