//! A reader that stalls in the middle of a frame, over a socket.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pushpull_broker::{Broker, Retention};
use pushpull_core::{Message, ProducerExt};
use pushpull_http::{Gate, Listener};
use pushpull_sse::SseService;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const LARGE: usize = 64 * 1024;
const COUNT: u64 = 400;

async fn serve(broker: &Broker) -> SocketAddr {
    let gate = Gate::open();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = SseService::new(Arc::new(broker.clone()), gate.clone());
    tokio::spawn(async move {
        listener.serve(service, gate.drain().clone(), std::future::pending(), Duration::ZERO).await
    });
    address
}

/// A stream over HTTP/1.0, whose body is not cut into chunks.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET /sse?topic=a HTTP/1.0\r\n\r\n").await.unwrap();
    stream
}

/// Reads on until a block ends with what `is_last` accepts.
async fn read_until(stream: &mut TcpStream, taken: &mut Vec<u8>, is_last: impl Fn(&[u8]) -> bool) {
    while !(taken.ends_with(b"\n\n") && is_last(taken)) {
        assert!(stream.read_buf(taken).await.unwrap() > 0, "it ended");
    }
}

fn seq_of(id: &str) -> u64 {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_frame_half_written_is_finished_though_the_ring_drops_its_event() {
    let broker = Broker::memory_with(Retention::default().with_messages(3));
    let address = serve(&broker).await;
    let topic = "a".parse().unwrap();
    let mut taken = Vec::new();
    let mut stream = connect(address).await;
    let epoch = broker.place().epoch();
    let talk = async {
        let start = format!("id: {epoch}-0\n\n");
        read_until(&mut stream, &mut taken, |taken| taken.ends_with(start.as_bytes())).await;
        let start = taken.len();
        for _ in 0..COUNT {
            broker.publish_one(&topic, Message::text("x".repeat(LARGE))).await.unwrap();
            tokio::task::yield_now().await;
        }
        let last = format!("\nid: {epoch}-{COUNT}\ndata: ");
        let is_last = |taken: &[u8]| {
            let tail = &taken[taken.len().saturating_sub(LARGE + 64)..];
            tail.windows(last.len()).any(|window| window == last.as_bytes())
        };
        read_until(&mut stream, &mut taken, is_last).await;
        start
    };
    let start = timeout(Duration::from_secs(60), talk).await.unwrap();
    let text = std::str::from_utf8(&taken[start..]).unwrap();
    let (mut place, mut gaps) = (0, 0);
    for block in text.split_terminator("\n\n") {
        let (id, rest) = block.strip_prefix("id: ").unwrap().split_once('\n').unwrap();
        match rest.strip_prefix("data: ") {
            Some(data) => {
                assert_eq!((seq_of(id), data.len()), (place + 1, LARGE), "whole, and in its place");
                place += 1;
            }
            None => {
                assert!(rest.starts_with("event: pushpull-gap\n"), "{rest}");
                assert_eq!(seq_of(id), place, "a gap moves no place");
                let before = rest.split("\"before\":\"").nth(1).unwrap().split('"').next().unwrap();
                place = seq_of(before) - 1;
                gaps += 1;
            }
        }
    }
    assert_eq!(place, COUNT);
    assert!(gaps > 0, "it was slow enough to lose something");
}
