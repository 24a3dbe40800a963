//! A client of raw bytes, and the server it talks to.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use pushpull_broker::Broker;
use pushpull_core::{Message, ProducerExt};
use pushpull_http::{Gate, GateBuilder, Listener, ListenerConfig};
use pushpull_sse::SseService;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::{JoinHandle, yield_now},
};

/// What a client that does not read leaves in its own socket, at most.
const SMALL: u32 = 8 * 1024;

pub(crate) struct Served {
    pub(crate) broker: Broker,
    pub(crate) gate: Gate,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<bool>,
}

impl Served {
    pub(crate) async fn start(broker: Broker, gate: GateBuilder) -> Self {
        Self::start_with(broker, gate, ListenerConfig::default()).await
    }

    pub(crate) async fn start_with(broker: Broker, gate: GateBuilder, config: ListenerConfig) -> Self {
        let gate = gate.build().unwrap();
        let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_config(config);
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { stopped.await.unwrap_or_default() };
        let service = SseService::new(Arc::new(broker.clone()), gate.clone());
        let serving = listener.serve(service, gate.drain().clone(), shutdown, Duration::from_secs(20));
        Self { broker, gate, address, stop, served: tokio::spawn(serving) }
    }

    /// Publishes without letting anybody else run.
    pub(crate) async fn publish(&self, text: impl Into<String>) {
        self.publish_to("a", text).await;
    }

    pub(crate) async fn publish_to(&self, topic: &str, text: impl Into<String>) {
        self.broker.publish_one(&topic.parse().unwrap(), Message::text(text.into())).await.unwrap();
    }

    pub(crate) fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.broker.place().epoch())
    }

    /// Returns once every connection has given its place back.
    pub(crate) async fn is_left(&self) {
        within(async {
            while self.gate.is_full() {
                yield_now().await;
            }
        })
        .await;
    }

    /// Drains; the result says whether all ended by themselves.
    pub(crate) fn stop(self) -> JoinHandle<bool> {
        self.stop.send(()).unwrap();
        self.served
    }
}

/// An HTTP/1.1 client that takes what it is asked to take, and nothing before.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
    pub(crate) head: String,
    /// The body, without the chunks.
    pub(crate) text: String,
}

impl Client {
    /// Asks for a stream of the topic `a`, and takes the head and the first block.
    pub(crate) async fn follow(address: SocketAddr, query: &str, headers: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(SMALL).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let mut client = Self { stream, unread: Vec::new(), head: String::new(), text: String::new() };
        client.ask(query, headers).await;
        client
    }

    /// Asks once more, on the same connection.
    pub(crate) async fn ask(&mut self, query: &str, headers: &str) {
        let request = format!("GET /sse?topic=a{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let head = self.line(b"\r\n\r\n").await;
        self.head = String::from_utf8(head).unwrap();
        self.text.clear();
        if self.head.contains("transfer-encoding: chunked") {
            assert!(self.chunk().await);
        }
    }

    /// Takes a chunk. `false` if it is the last one, which holds nothing.
    pub(crate) async fn chunk(&mut self) -> bool {
        let size = self.line(b"\r\n").await;
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim_end(), 16).unwrap();
        while self.unread.len() < size + 2 {
            self.read().await;
        }
        let rest = self.unread.split_off(size + 2);
        let chunk = std::mem::replace(&mut self.unread, rest);
        assert!(chunk.ends_with(b"\r\n"), "{}", String::from_utf8_lossy(&chunk));
        self.text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        size > 0
    }

    /// Takes what comes until the body says `mark`.
    pub(crate) async fn take_to(&mut self, mark: &str) {
        while !self.text.contains(mark) {
            assert!(self.chunk().await, "it ended before {mark}: {}", self.text);
        }
    }

    /// Takes the rest of the body.
    pub(crate) async fn take_all(&mut self) {
        while self.chunk().await {}
    }

    /// Whether the server ends the connection, without a further byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        within(self.stream.read_buf(&mut self.unread)).await.unwrap() == 0 && self.unread.is_empty()
    }

    async fn line(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                let rest = self.unread.split_off(at + end.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let count = within(self.stream.read_buf(&mut self.unread)).await.unwrap();
        assert!(count > 0, "the connection ended: {}", String::from_utf8_lossy(&self.unread));
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}
