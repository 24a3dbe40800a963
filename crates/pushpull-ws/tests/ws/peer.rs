//! A WebSocket client that can break every rule, and a server for it.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use pushpull_broker::Broker;
use pushpull_core::{Cursor, Message, ProducerExt};
use pushpull_http::{Gate, Listener};
use pushpull_ws::WsService;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

pub(crate) async fn publish(broker: &Broker, topic: &str, texts: &[&str]) -> Cursor {
    let mut last = broker.place();
    for text in texts {
        last = broker.publish_one(&topic.parse().unwrap(), Message::text(*text)).await.unwrap();
    }
    last
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Gate,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<bool>,
}

pub(crate) fn service(broker: &Broker, gate: &Gate) -> WsService {
    WsService::new(Arc::new(broker.clone()), gate.clone()).with_producer(Arc::new(broker.clone()))
}

impl Server {
    pub(crate) async fn start(broker: &Broker, gate: Gate) -> Self {
        Self::at("127.0.0.1:0", broker, gate).await
    }

    pub(crate) async fn at(address: &str, broker: &Broker, gate: Gate) -> Self {
        let listener = Listener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let serving =
            listener.serve(service(broker, &gate), gate.drain().clone(), shutdown, Duration::from_secs(10));
        Self { address, gate, stop: Some(stop), served: tokio::spawn(serving) }
    }

    /// Drains; whether every connection ended by itself.
    pub(crate) async fn stop(mut self) -> bool {
        let _ = self.stop.take().unwrap().send(());
        within(self.served).await.unwrap()
    }
}

pub(crate) struct Peer<I = TcpStream> {
    pub(crate) io: I,
    read: Vec<u8>,
}

/// A response's head and what came behind it.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The head of a handshake for `query`, with more headers, each a line.
pub(crate) fn head(query: &str, more: &[&str]) -> String {
    let mut head = format!(
        "GET /ws?{query} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    );
    for line in more {
        head += line;
        head += "\r\n";
    }
    head + "\r\n"
}

pub(crate) const JSON: &str = "Sec-WebSocket-Protocol: pushpull.v1.json";
pub(crate) const PROTO: &str = "Sec-WebSocket-Protocol: pushpull.v1.proto";

impl Peer {
    /// Sends a head as it is.
    pub(crate) async fn ask(address: SocketAddr, head: impl AsRef<[u8]>) -> (Head, Self) {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(head.as_ref()).await.unwrap();
        let mut peer = Self { io, read: Vec::new() };
        let end = loop {
            if let Some(at) = peer.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(peer.fill().await, "{:?}", String::from_utf8_lossy(&peer.read));
        };
        let rest = peer.read.split_off(end);
        let text = String::from_utf8(std::mem::replace(&mut peer.read, rest)).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (Head { status, text }, peer)
    }

    pub(crate) async fn raw(server: &Server, query: &str) -> Self {
        let (head, peer) = Self::ask(server.address, &head(query, &[])).await;
        assert_eq!((head.status, head.header("sec-websocket-protocol")), (101, None), "{}", head.text);
        peer
    }

    pub(crate) async fn proto(server: &Server, query: &str) -> Self {
        let (head, peer) = Self::ask(server.address, &head(query, &[PROTO])).await;
        assert_eq!(head.status, 101, "{}", head.text);
        assert_eq!(head.header("sec-websocket-protocol"), Some("pushpull.v1.proto"));
        peer
    }

    pub(crate) async fn json(server: &Server, query: &str) -> Self {
        let (head, peer) = Self::ask(server.address, &head(query, &[JSON])).await;
        assert_eq!(head.status, 101, "{}", head.text);
        assert_eq!(head.header("sec-websocket-protocol"), Some("pushpull.v1.json"));
        peer
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Peer<I> {
    pub(crate) fn over(io: I) -> Self {
        Self { io, read: Vec::new() }
    }

    async fn fill(&mut self) -> bool {
        within(self.io.read_buf(&mut self.read)).await.unwrap_or(0) > 0
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub(crate) async fn send(&mut self, opcode: u8, payload: impl AsRef<[u8]>) {
        self.bytes(&frame(0x80 | opcode, payload.as_ref())).await;
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(TEXT, text).await;
    }

    /// The next frame: its first byte and its payload; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, start, length)) = self.header()
                && self.read.len() >= start + length
            {
                let payload = self.read[start..start + length].to_vec();
                self.read.drain(..start + length);
                return Some((first, payload));
            }
            if !self.fill().await {
                assert!(self.read.is_empty(), "a frame was cut: {:?}", self.read);
                return None;
            }
        }
    }

    fn header(&self) -> Option<(u8, usize, usize)> {
        let [first, second, rest @ ..] = &self.read[..] else { return None };
        assert_eq!(second & 0x80, 0, "a server does not mask");
        Some(match second {
            126 => (*first, 4, u16::from_be_bytes(*rest.first_chunk()?).into()),
            127 => (*first, 10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
            _ => (*first, 2, usize::from(*second)),
        })
    }

    /// The next text message.
    pub(crate) async fn text(&mut self) -> String {
        let (first, payload) = self.frame().await.expect("a message");
        let text = String::from_utf8(payload).unwrap();
        assert_eq!(first, 0x80 | TEXT, "{text}");
        text
    }

    pub(crate) async fn value(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The code and reason of the next frame, which must be a close frame; the end must follow once it is answered.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let told = self.close_frame().await;
        let _ = self.io.write_all(&frame(0x80 | CLOSE, &told.0.to_be_bytes())).await;
        let _ = self.io.flush().await;
        assert_eq!(self.frame().await, None);
        told
    }

    pub(crate) async fn close_frame(&mut self) -> (u16, String) {
        let (first, payload) = self.frame().await.expect("a close frame");
        assert_eq!(first, 0x80 | CLOSE, "{}", String::from_utf8_lossy(&payload));
        let (code, reason) = payload.split_at(2);
        (u16::from_be_bytes(code.try_into().unwrap()), String::from_utf8(reason.to_vec()).unwrap())
    }
}

/// A masked frame with that first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=65535 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
