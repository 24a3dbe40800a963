//! A server and its subscribers on one thread, so that nothing is measured but what they do.

use std::{
    future::Future,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Message, ProducerExt, Topic};
use pushpull_http::{Gate, Listener};
use pushpull_ws::WsService;
use tokio::runtime::{Builder, Runtime};

/// The topic all subscribe to.
pub(crate) const TOPIC: &str = "bench";
/// Longer than anything here takes: no heartbeat and no ping comes between.
const QUIET: Duration = Duration::from_secs(3600);
/// Turns of the server in which nothing came, before it is waited for by the clock.
const IDLE_TURNS: usize = 64;
/// Turns in which nothing came, some tens of seconds, after which nothing will.
const SILENT_TURNS: usize = 10_000;

/// What the subscribers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Raw,
    Json,
    #[allow(dead_code, reason = "not each benchmark speaks all")]
    Proto,
    #[allow(dead_code, reason = "not each benchmark speaks all")]
    Deflated,
}

/// A broker, its server, and subscribers.
pub(crate) struct Rig {
    runtime: Runtime,
    broker: Broker,
    topic: Topic,
    payload: Bytes,
    peers: Vec<Peer>,
    buffer: Vec<u8>,
}

/// The reading end of one subscriber.
struct Peer {
    socket: TcpStream,
    frames: Frames,
    /// Frames that it was waited for.
    taken: usize,
}

/// Counts the frames of a server in what is read of them.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    /// Bytes of the frame under way that are still to come.
    rest: usize,
    count: usize,
}

impl Rig {
    /// So many subscribers, all caught up, and payloads of `payload`.
    pub(crate) fn new(wire: Wire, subscribers: usize, payload: impl Into<Bytes>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let broker = Broker::memory_with(Retention::default().with_messages(4096));
        let gate = Gate::builder().with_keep_alive(QUIET).with_ping(QUIET).build().unwrap();
        let listener = runtime.block_on(Listener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let drain = gate.drain().clone();
        let service = WsService::new(Arc::new(broker.clone()), gate);
        runtime.spawn(listener.serve(service, drain, std::future::pending(), QUIET));
        let topic = TOPIC.parse().unwrap();
        let buffer = vec![0; 256 * 1024];
        let mut rig = Self { runtime, broker, topic, payload: payload.into(), peers: Vec::new(), buffer };
        for _ in 0..subscribers {
            let peer = rig.connect(address, wire);
            rig.peers.push(peer);
        }
        if wire != Wire::Raw {
            rig.take(1); // Its first word: the place.
        }
        rig
    }

    /// Publishes so many messages; the server has no turn meanwhile.
    pub(crate) fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let message = Message::new(self.payload.clone()).with_content_type("application/json");
            ready(self.broker.publish_one(&self.topic, message)).unwrap();
        }
    }

    /// Lets the server run until every subscriber has so many more frames.
    pub(crate) fn take(&mut self, count: usize) {
        let (peers, buffer) = (&mut self.peers, &mut self.buffer);
        self.runtime.block_on(async {
            for peer in peers {
                peer.taken += count;
                let mut idle = 0;
                while peer.frames.count < peer.taken {
                    idle = if peer.read(buffer) { 0 } else { idle + 1 };
                    match idle {
                        0 => {}
                        1..IDLE_TURNS => tokio::task::yield_now().await,
                        IDLE_TURNS..SILENT_TURNS => tokio::time::sleep(Duration::from_millis(1)).await,
                        _ => panic!("{} frames came of {}", peer.frames.count, peer.taken),
                    }
                }
            }
        });
    }

    /// Sends `bytes` by the first subscriber.
    #[allow(dead_code, reason = "not each benchmark sends")]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let mut socket = &self.peers[0].socket;
        self.runtime.block_on(async {
            let mut rest = bytes;
            while !rest.is_empty() {
                match socket.write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }

    fn connect(&mut self, address: SocketAddr, wire: Wire) -> Peer {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.write_all(handshake(wire).as_bytes()).unwrap();
        let buffer = &mut self.buffer;
        let answer = self.runtime.block_on(async {
            let mut answer = Vec::new();
            loop {
                match socket.read(buffer) {
                    Ok(0) => panic!("closed after {}", String::from_utf8_lossy(&answer)),
                    Ok(read) => answer.extend_from_slice(&buffer[..read]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
                if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
                    return answer.split_off(end + 4);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let mut peer = Peer { socket, frames: Frames::default(), taken: 0 };
        peer.frames.read(&answer);
        peer
    }
}

impl Peer {
    /// Whether anything came.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        match self.socket.read(buffer) {
            Ok(0) => panic!("closed"),
            Ok(read) => {
                self.frames.read(&buffer[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len());
                bytes = &bytes[taken..];
                self.rest -= taken;
                self.count += usize::from(self.rest == 0);
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            let length = match self.head[..] {
                [_, short] if short < 126 => usize::from(short),
                [_, 126, high, low] => usize::from(u16::from_be_bytes([high, low])),
                [_, 127, ..] => panic!("no frame here is so large"),
                _ => continue,
            };
            self.head.clear();
            self.rest = length;
            self.count += usize::from(length == 0);
        }
    }
}

fn handshake(wire: Wire) -> String {
    let further = match wire {
        Wire::Raw => "",
        Wire::Json => "Sec-WebSocket-Protocol: pushpull.v1.json\r\n",
        Wire::Proto => "Sec-WebSocket-Protocol: pushpull.v1.proto\r\n",
        Wire::Deflated => {
            "Sec-WebSocket-Protocol: pushpull.v1.json\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
        }
    };
    format!(
        "GET /ws?topic={TOPIC} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{further}\r\n"
    )
}

/// What a future gives that waits for nothing.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}
