//! What a subscriber asks on each transport, and how its events are found in what it reads.

pub(crate) mod grpc;
pub(crate) mod http;
mod http2;
mod protobuf;
mod status;
pub(crate) mod ws;

use std::sync::LazyLock;

use clap::ValueEnum;
use memchr::{
    memchr,
    memmem::{Finder, FinderRev},
};

use crate::{
    dialect::{Address, Dialect, nchan},
    tls::Protocol,
};

/// Where a payload begins in an event object, and in a block of SSE, and where blocks end: made once, since they are
/// looked for once a delivery.
static JSON_DATA: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"data\":"));
static BLOCK_DATA: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\ndata: "));
static BLOCK_END: LazyLock<FinderRev<'_>> = LazyLock::new(|| FinderRev::new("\n\n"));

/// What every WebSocket's request has.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A way to be told of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Raw WebSocket: one text message an event.
    Ws,
    /// WebSocket with `pushpull.v1.json`.
    WsJson,
    /// WebSocket with `pushpull.v1.proto`.
    WsProto,
    /// Server-Sent Events, raw.
    Sse,
    /// Long polling: the next poll is sent as soon as one is answered.
    Longpoll,
    /// Polling: answered at once, asked again while an answer says that there is more.
    HttpPoll,
    /// gRPC's `Subscribe`, one call a connection.
    Grpc,
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

    /// What it is spoken by.
    pub(crate) fn protocol(self) -> Protocol {
        if self == Self::Grpc { Protocol::Http2 } else { Protocol::Http1 }
    }

    /// Takes a transport that tells of events by itself; a poller is only told when it asks.
    pub(crate) fn telling(self) -> Result<Self, &'static str> {
        match self {
            Self::HttpPoll => Err("nobody is told by polling: `poll` measures what a poll costs"),
            _ => Ok(self),
        }
    }

    /// Takes a transport whose events tell their places.
    pub(crate) fn resuming(self) -> Result<Self, &'static str> {
        match self {
            Self::Ws => Err("the raw WebSocket has no cursors: who comes back has lost what came meanwhile"),
            _ => self.telling(),
        }
    }

    /// The request of one subscriber to `topic`.
    pub(crate) fn request(self, server: Address, topic: &str, from: From<'_>) -> Vec<u8> {
        let protocol = |name: &str| format!("{UPGRADE}Sec-WebSocket-Protocol: {name}\r\n");
        let (path, headers) = match self {
            Self::Ws => ("ws", UPGRADE.to_owned()),
            Self::WsJson => ("ws", protocol("pushpull.v1.json")),
            Self::WsProto => ("ws", protocol("pushpull.v1.proto")),
            Self::Sse => ("sse", "Accept: text/event-stream\r\n".to_owned()),
            Self::Longpoll => ("longpoll", String::new()),
            Self::HttpPoll => ("poll", String::new()),
            Self::Grpc => return grpc::request(server, topic, from),
        };
        let polling = match (self, from) {
            (Self::Longpoll, From::Now) => "&wait=0",
            (Self::Longpoll, _) => "&wait=60&limit=1000",
            (Self::HttpPoll, _) => "&limit=1000",
            _ => "",
        };
        let (place, headers) = match (from, server.dialect) {
            (From::Now, _) => (String::new(), headers),
            (From::Earliest, _) => ("&start=earliest".to_owned(), headers),
            (From::After(place), Dialect::Nchan) => (String::new(), headers + &nchan::validators(place)),
            (From::After(cursor), _) => (format!("&after={cursor}"), headers),
        };
        format!("GET /{path}?topic={topic}{polling}{place} HTTP/1.1\r\nHost: {server}\r\n{headers}\r\n")
            .into_bytes()
    }
}

/// Hands the payload of every event in whole SSE blocks to `each`, and returns how many bytes are done with.
///
/// Chunk sizes between blocks are passed over. Inside a block they end up in a payload, which then does not read as a
/// stamp.
pub(crate) fn blocks(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
    let Some(end) = BLOCK_END.rfind(bytes) else { return 0 };
    let mut whole = &bytes[..end + 1];
    if let Some(rest) = whole.strip_prefix(b"data: ") {
        let (payload, after) = rest.split_at(memchr(b'\n', rest).unwrap_or(rest.len()));
        each(payload);
        whole = after;
    }
    marked(whole, &BLOCK_DATA, b'\n', each);
    end + 2
}

/// Hands the payload of every event object in `json` to `each`.
///
/// A payload that is a JSON document stands there as it is, in `document` bytes; a text is a string without escapes.
pub(crate) fn objects(json: &[u8], document: Option<usize>, each: &mut impl FnMut(&[u8])) {
    let mut rest = json;
    while let Some(at) = JSON_DATA.find(rest) {
        rest = &rest[at + JSON_DATA.needle().len()..];
        let text = rest.strip_prefix(b"\"").unwrap_or(rest);
        let (payload, after) = match document {
            Some(length) => rest.split_at(length.min(rest.len())),
            None => text.split_at(memchr(b'"', text).unwrap_or(text.len())),
        };
        each(payload);
        rest = after;
    }
}

/// What lies between each `marker` and the next `end`.
fn marked(bytes: &[u8], marker: &Finder<'_>, end: u8, each: &mut impl FnMut(&[u8])) {
    let mut rest = bytes;
    while let Some(at) = marker.find(rest) {
        rest = &rest[at + marker.needle().len()..];
        let (payload, after) = rest.split_at(memchr(end, rest).unwrap_or(rest.len()));
        each(payload);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` in two parts, cut at every place, as a connection does.
    pub(crate) fn read_in_two(
        bytes: &[u8],
        read: impl Fn(&[u8], &mut dyn FnMut(&[u8])) -> usize,
    ) -> Vec<Vec<String>> {
        let cut = |cut: usize| {
            let mut payloads = Vec::new();
            let mut take = |payload: &[u8]| payloads.push(String::from_utf8_lossy(payload).into_owned());
            let done = read(&bytes[..cut], &mut take);
            assert_eq!(read(&bytes[done..], &mut take), bytes.len() - done);
            payloads
        };
        (0..bytes.len()).map(cut).collect()
    }

    #[test]
    fn blocks_with_chunk_sizes_between_them() {
        let bytes = b"1c\r\n:\nretry: 1500\nid: 6qz3k1-1\n\n\r\n\
            2a\r\nid: 6qz3k1-2\ndata: one\n\nid: 6qz3k1-3\ndata: two\n\n\r\n3\r\n:\n\n\r\n\
            15\r\nid: 6qz3k1-4\ndata: six\n\n";
        for payloads in read_in_two(bytes, |bytes, mut each| blocks(bytes, &mut each)) {
            assert_eq!(payloads, ["one", "two", "six"]);
        }
    }

    #[test]
    fn blocks_that_are_a_payload_and_nothing_else() {
        let bytes = b"data: one\n\ndata: two\n\n\r\n15\r\ndata: six\n\n";
        for payloads in read_in_two(bytes, |bytes, mut each| blocks(bytes, &mut each)) {
            assert_eq!(payloads, ["one", "two", "six"]);
        }
    }

    #[test]
    fn nchan_is_asked_by_validators() {
        let socket: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
        let server = Address { dialect: Dialect::Nchan, ..socket.into() };
        let asked = Transport::HttpPoll.request(server, "t", From::After("3 Thu, 01 Jan 1970 00:00:00 GMT"));
        let wanted = "GET /poll?topic=t&limit=1000 HTTP/1.1\r\nHost: 127.0.0.1:80\r\nIf-None-Match: 3\r\n\
             If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
        assert_eq!(String::from_utf8(asked).unwrap(), wanted);
    }

    #[test]
    fn requests_say_where_to_begin() {
        let server = Address::from("127.0.0.1:80".parse::<std::net::SocketAddr>().unwrap());
        let text =
            |transport: Transport, from| String::from_utf8(transport.request(server, "t", from)).unwrap();
        let line = |transport, from| text(transport, from).lines().next().map(str::to_owned).unwrap();
        assert_eq!(line(Transport::Ws, From::Now), "GET /ws?topic=t HTTP/1.1");
        assert_eq!(line(Transport::Sse, From::Earliest), "GET /sse?topic=t&start=earliest HTTP/1.1");
        assert_eq!(line(Transport::Longpoll, From::Now), "GET /longpoll?topic=t&wait=0 HTTP/1.1");
        let next = "GET /longpoll?topic=t&wait=60&limit=1000&after=a-9 HTTP/1.1";
        assert_eq!(line(Transport::Longpoll, From::After("a-9")), next);
        let first = "GET /poll?topic=t&limit=1000&start=earliest HTTP/1.1";
        assert_eq!(line(Transport::HttpPoll, From::Earliest), first);
        assert!(text(Transport::WsJson, From::Now).contains("pushpull.v1.json\r\n"));
        assert!(text(Transport::WsProto, From::Now).contains("pushpull.v1.proto\r\n"));
    }

    #[test]
    fn documents_and_strings_in_objects() {
        let payloads = |json: &str, document| {
            let mut payloads = Vec::new();
            objects(json.as_bytes(), document, &mut |payload| {
                payloads.push(String::from_utf8(payload.to_vec()).unwrap());
            });
            payloads
        };
        let strings = r#"[{"data":"one","type":"text/plain"},{"topic":"t","data":"two"}]"#;
        assert_eq!(payloads(strings, None), ["one", "two"]);
        let documents = r#"[{"data":{"data":1}},{"data":{"data":2}}]"#;
        assert_eq!(payloads(documents, Some(10)), [r#"{"data":1}"#, r#"{"data":2}"#]);
        assert_eq!(payloads(r#"[{"data":"one"},{"data":"two"}]"#, Some(5)), [r#""one""#, r#""two""#]);
        assert_eq!(payloads(r#"{"data":"#, Some(10)), [""]);
    }

    #[test]
    fn who_has_no_cursor_cannot_come_back() {
        assert!(Transport::Ws.resuming().is_err() && Transport::HttpPoll.resuming().is_err());
        assert_eq!(Transport::WsProto.resuming(), Ok(Transport::WsProto));
    }

    #[test]
    fn a_poller_is_not_told() {
        assert!(Transport::HttpPoll.telling().is_err());
        assert_eq!(Transport::Longpoll.telling(), Ok(Transport::Longpoll));
        assert_eq!([Transport::HttpPoll, Transport::Grpc].map(Transport::name), ["http-poll", "grpc"]);
    }
}
