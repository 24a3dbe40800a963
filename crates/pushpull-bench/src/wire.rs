//! What a subscriber asks on each transport, and how its events are found in what it reads.

use std::net::SocketAddr;

use clap::ValueEnum;
use memchr::memmem;

use crate::http::TOPIC;

/// A streaming transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Raw WebSocket: one text message an event.
    Ws,
    /// WebSocket with `pushpull.v1.json`.
    WsJson,
    /// Server-Sent Events, raw.
    Sse,
    /// A long poll that waits.
    Longpoll,
}

impl Transport {
    /// The request of one subscriber to `topic`.
    pub(crate) fn request(self, server: SocketAddr, topic: &str) -> String {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (path, headers) = match self {
            Self::Ws => (format!("/ws?topic={topic}&overflow=close"), upgrade.to_owned()),
            Self::WsJson => (
                format!("/ws?topic={topic}"),
                format!("{upgrade}Sec-WebSocket-Protocol: pushpull.v1.json\r\n"),
            ),
            Self::Sse => (format!("/sse?topic={topic}"), "Accept: text/event-stream\r\n".to_owned()),
            Self::Longpoll => (format!("/longpoll?topic={topic}&wait=60"), String::new()),
        };
        format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n{headers}\r\n")
    }

    /// The first line of the answer that says that the subscription stands; long polls answer later.
    pub(crate) fn accepted(self) -> &'static str {
        match self {
            Self::Ws | Self::WsJson => "HTTP/1.1 101",
            Self::Sse | Self::Longpoll => "HTTP/1.1 200",
        }
    }

    /// Hands every whole event's payload in `bytes` to `each`, and returns how many bytes are done with.
    pub(crate) fn events(self, bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
        match self {
            Self::Ws | Self::WsJson => frames(bytes, &mut |payload| {
                if self == Self::Ws {
                    each(payload);
                } else {
                    marked(payload, b"\"data\":\"", each);
                }
            }),
            Self::Sse | Self::Longpoll => {
                let Some(end) = memmem::rfind(bytes, b"\n\n") else { return 0 };
                marked(&bytes[..end], b"data: ", each);
                end + 2
            }
        }
    }
}

fn marked(bytes: &[u8], marker: &[u8], each: &mut impl FnMut(&[u8])) {
    for at in memmem::find_iter(bytes, marker) {
        each(&bytes[at + marker.len()..]);
    }
}

fn frames(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some((header, length)) = frame(&bytes[at..]) {
        let Some(payload) = bytes.get(at + header..at + header + length) else { break };
        if matches!(bytes[at] & 0x0f, 1 | 2) {
            each(payload);
        }
        at += header + length;
    }
    at
}

/// The lengths of a server frame's header and payload.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])))),
        127 => {
            let length =
                bytes.get(2..10)?.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
            Some((10, length))
        }
        length => Some((2, usize::from(length))),
    }
}

/// The topic of the figure, or of one of `topics`.
pub(crate) fn topic(n: usize, topics: usize) -> String {
    if topics == 1 { TOPIC.to_owned() } else { format!("{TOPIC}.{}", n % topics) }
}
