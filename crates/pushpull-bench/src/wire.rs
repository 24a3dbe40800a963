//! What a subscriber asks on each transport, and how its events are found in what it reads.

use std::{io, net::SocketAddr};

use clap::ValueEnum;
use memchr::{memchr, memmem};

/// Where a payload that is a JSON string begins.
const JSON_DATA: &[u8] = b"\"data\":\"";

/// A way to be told of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Raw WebSocket: one text message an event.
    Ws,
    /// WebSocket with `pushpull.v1.json`.
    WsJson,
    /// Server-Sent Events, raw.
    Sse,
    /// Long polling: the next poll is sent as soon as one is answered.
    Longpoll,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    Now,
    Earliest,
    After(&'a str),
}

impl Transport {
    /// As the command line has it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The request of one subscriber to `topic`.
    pub(crate) fn request(self, server: SocketAddr, topic: &str, from: From<'_>) -> String {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (path, headers) = match self {
            Self::Ws => ("ws", upgrade.to_owned()),
            Self::WsJson => ("ws", format!("{upgrade}Sec-WebSocket-Protocol: pushpull.v1.json\r\n")),
            Self::Sse => ("sse", "Accept: text/event-stream\r\n".to_owned()),
            Self::Longpoll => ("longpoll", String::new()),
        };
        let polling = match (self, from) {
            (Self::Longpoll, From::Now) => "&wait=0",
            (Self::Longpoll, _) => "&wait=60&limit=1000",
            _ => "",
        };
        let place = match from {
            From::Now => String::new(),
            From::Earliest => "&start=earliest".to_owned(),
            From::After(cursor) => format!("&after={cursor}"),
        };
        format!("GET /{path}?topic={topic}{polling}{place} HTTP/1.1\r\nHost: {server}\r\n{headers}\r\n")
    }

    /// How the answer begins that says that the subscription stands.
    pub(crate) fn accepted(self) -> &'static str {
        match self {
            Self::Ws | Self::WsJson => "HTTP/1.1 101",
            Self::Sse | Self::Longpoll => "HTTP/1.1 200",
        }
    }

    /// Hands every whole event's payload in `bytes` to `each`, and returns how many bytes are done with.
    ///
    /// Chunk sizes between SSE blocks are passed over. Inside a block they end up in a payload, which then does
    /// not read as a stamp.
    pub(crate) fn events(self, bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
        match self {
            Self::Ws => frames(bytes, each),
            Self::WsJson => frames(bytes, &mut |payload| marked(payload, JSON_DATA, b'"', each)),
            Self::Sse => {
                let Some(end) = memmem::rfind(bytes, b"\n\n") else { return 0 };
                marked(&bytes[..end + 1], b"\ndata: ", b'\n', each);
                end + 2
            }
            Self::Longpoll => marked(bytes, JSON_DATA, b'"', each),
        }
    }
}

/// A whole answer to a poll.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) body: &'a [u8],
    /// Where to ask on from.
    pub(crate) cursor: &'a str,
    /// Bytes of head and body.
    pub(crate) length: usize,
}

/// The answer at the beginning of `bytes`, if all of it is there.
pub(crate) fn answer(bytes: &[u8]) -> io::Result<Option<Answer<'_>>> {
    let Some(head) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let refused = || io::Error::other(format!("no page: {}", String::from_utf8_lossy(bytes)));
    let text = str::from_utf8(&bytes[..head]).map_err(|_| refused())?.to_ascii_lowercase();
    let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.filter(|_| text.starts_with("http/1.1 200")).ok_or_else(refused)?;
    let Some(body) = bytes.get(head + 4..head + 4 + length) else { return Ok(None) };
    let marker = b"\"cursor\":\"";
    let cursor = memmem::rfind(body, marker)
        .map(|at| &body[at + marker.len()..])
        .and_then(|rest| str::from_utf8(&rest[..memchr(b'"', rest)?]).ok())
        .ok_or_else(refused)?;
    Ok(Some(Answer { body, cursor, length: head + 4 + length }))
}

/// What lies between each `marker` and the next `end`. Returns how many bytes are done with.
fn marked(bytes: &[u8], marker: &[u8], end: u8, each: &mut impl FnMut(&[u8])) -> usize {
    for at in memmem::find_iter(bytes, marker) {
        let rest = &bytes[at + marker.len()..];
        each(&rest[..memchr(end, rest).unwrap_or(rest.len())]);
    }
    bytes.len()
}

fn frames<R>(bytes: &[u8], each: &mut impl FnMut(&[u8]) -> R) -> usize {
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

/// The lengths of a server frame's header and payload (RFC 6455, 5.2).
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])))),
        127 => {
            let length = bytes.get(2..10)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            Some((10, length))
        }
        length => Some((2, usize::from(length))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` in two parts, cut at every place, as a connection does.
    fn read_in_two(transport: Transport, bytes: &[u8]) -> Vec<Vec<String>> {
        let read = |cut: usize| {
            let mut payloads = Vec::new();
            let mut take = |payload: &[u8]| payloads.push(String::from_utf8_lossy(payload).into_owned());
            let done = transport.events(&bytes[..cut], &mut take);
            assert_eq!(transport.events(&bytes[done..], &mut take), bytes.len() - done);
            payloads
        };
        (0..bytes.len()).map(read).collect()
    }

    fn framed(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..=125 => bytes.push(length as u8),
            length @ 126..=0xffff => bytes.extend([126, (length >> 8) as u8, length as u8]),
            length => bytes.extend([&[127][..], &(length as u64).to_be_bytes()].concat()),
        }
        [bytes, payload.to_vec()].concat()
    }

    #[test]
    fn messages_of_every_length_and_no_control_frames() {
        let long = "b".repeat(200);
        let bytes = [framed(1, b"a"), framed(9, b"ping"), framed(2, long.as_bytes()), framed(8, b"\x03\xe8")]
            .concat();
        for payloads in read_in_two(Transport::Ws, &bytes) {
            assert_eq!(payloads, ["a", &long]);
        }
        let huge = framed(1, &vec![b'c'; 70_000]);
        assert_eq!(frame(&huge), Some((10, 70_000)));
        assert_eq!(Transport::Ws.events(&huge[..70_009], &mut |_| panic!("it is not whole")), 0);
    }

    #[test]
    fn every_object_of_a_json_message() {
        let bytes = [
            framed(1, br#"{"heartbeat":{"cursor":"a-1","conflated":0}}"#),
            framed(1, br#"[{"topic":"t","cursor":"a-2","data":"one"},{"topic":"t","data":"two"}]"#),
            framed(1, br#"{"topic":"t","type":"text/plain","data":"three"}"#),
        ];
        for payloads in read_in_two(Transport::WsJson, &bytes.concat()) {
            assert_eq!(payloads, ["one", "two", "three"]);
        }
    }

    #[test]
    fn blocks_with_chunk_sizes_between_them() {
        let bytes = b"1c\r\n:\nretry: 1500\nid: 6qz3k1-1\n\n\r\n\
            2a\r\nid: 6qz3k1-2\ndata: one\n\nid: 6qz3k1-3\ndata: two\n\n\r\n3\r\n:\n\n\r\n\
            15\r\nid: 6qz3k1-4\ndata: six\n\n";
        for payloads in read_in_two(Transport::Sse, bytes) {
            assert_eq!(payloads, ["one", "two", "six"]);
        }
    }

    #[test]
    fn an_answer_is_whole_or_not_there() {
        let body = r#"{"events":[{"cursor":"a-1","data":"one"},{"cursor":"a-2","data":"two"}],"cursor":"a-9","more":false}"#;
        let bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        for cut in 0..bytes.len() {
            assert_eq!(answer(&bytes.as_bytes()[..cut]).unwrap(), None);
        }
        let more = format!("{bytes}HTTP/1.1 2");
        let whole = answer(more.as_bytes()).unwrap().unwrap();
        assert_eq!(whole, Answer { body: body.as_bytes(), cursor: "a-9", length: bytes.len() });
        let mut payloads = Vec::new();
        Transport::Longpoll.events(whole.body, &mut |payload| payloads.push(payload.to_vec()));
        assert_eq!(payloads, [b"one", b"two"]);
    }

    #[test]
    fn an_answer_that_is_no_page_is_an_error() {
        for bytes in [
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(answer(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn requests_say_where_to_begin() {
        let server = "127.0.0.1:80".parse().unwrap();
        let line = |transport: Transport, from| {
            transport.request(server, "t", from).lines().next().map(str::to_owned).unwrap()
        };
        assert_eq!(line(Transport::Ws, From::Now), "GET /ws?topic=t HTTP/1.1");
        assert_eq!(line(Transport::Sse, From::Earliest), "GET /sse?topic=t&start=earliest HTTP/1.1");
        assert_eq!(line(Transport::Longpoll, From::Now), "GET /longpoll?topic=t&wait=0 HTTP/1.1");
        let next = "GET /longpoll?topic=t&wait=60&limit=1000&after=a-9 HTTP/1.1";
        assert_eq!(line(Transport::Longpoll, From::After("a-9")), next);
        assert!(Transport::WsJson.request(server, "t", From::Now).contains("pushpull.v1.json\r\n"));
    }
}
