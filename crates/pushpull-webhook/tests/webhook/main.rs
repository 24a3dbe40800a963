//! Sender and receiver over sockets, registration over HTTP, and the hybrid with http-poll.
#![cfg(all(feature = "sender", feature = "receiver"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hybrid;
mod oracle;
mod receiver;
mod registration;
mod sockets;
#[cfg(feature = "tls")]
mod tls;

use std::{future::Future, net::SocketAddr, time::Duration};

use axum::Router;
use pushpull_broker::Broker;
use pushpull_core::{Cursor, Message, ProducerExt};
use tokio::{net::TcpListener, task::JoinHandle};

/// An application on a free port, until it is dropped.
struct Served {
    address: SocketAddr,
    task: JoinHandle<()>,
}

async fn serve(app: Router) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let _ = axum::serve(listener, app).await;
    });
    Served { address, task }
}

impl Served {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes less than 30 s")
}

async fn publish(broker: &Broker, topic: &str, text: &str) -> Cursor {
    broker.publish_one(&topic.parse().unwrap(), Message::text(text)).await.unwrap()
}
