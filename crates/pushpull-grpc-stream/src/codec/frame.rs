//! Server frames, and how they go into DATA frames of HTTP/2.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use pushpull_core::{Event, FormatKey, Gap};
use pushpull_http::proto::{self, v1::ServerFrame};

/// An event's frame as a gRPC message: made once, shared by all subscribers.
static MESSAGE: FormatKey = FormatKey::new("grpc");

/// What stands before each message: a flag and the length.
pub(crate) const PREFIX: usize = 5;
/// A frame or a reply stays below 4 MiB, which is what stock clients take.
pub(crate) const MAX_FRAME: usize = 4 * 1024 * 1024 - 1;
/// h2 counts each DATA frame below this many bytes, by what it lacks, against the sender, and closes the connection of a
/// reader who is behind by too many (RUSTSEC-2026-0258).
const SHORT: usize = 256;
/// What a stream takes of its peer's budget for short frames, which is 25,600 at least (2.5 MiB in a client of hyper's)
/// and shared by all streams of a connection.
const ALLOWANCE: usize = 2_560;
/// A message of at least this size goes as it is, shared; smaller ones are joined.
const LARGE: usize = 16 * 1024;

/// The frame of `event` as a gRPC message.
pub(crate) fn event_frame(event: &Event) -> Bytes {
    event.encoded(&MESSAGE, |event| message(&proto::event_frame(event)))
}

/// The frame of `gap` as a gRPC message.
pub(crate) fn gap_frame(gap: &Gap) -> Bytes {
    message(&proto::gap_frame(gap))
}

/// A gRPC message, uncompressed: flag, length, protobuf.
pub(crate) fn message(frame: &impl Message) -> Bytes {
    let length = frame.encoded_len();
    let mut bytes = with_prefix(length);
    frame.encode_raw(&mut bytes);
    bytes.freeze()
}

/// The same of a message that is encoded already.
pub(crate) fn prefixed(encoded: &[u8]) -> Bytes {
    let mut bytes = with_prefix(encoded.len());
    bytes.extend_from_slice(encoded);
    bytes.freeze()
}

fn with_prefix(length: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    // A message is far smaller than 4 GiB: payloads are limited, and frames are cut at 4 MiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes
}

/// Joins what waits into chunks, each of which becomes one DATA frame, or several full ones.
///
/// Nothing waits for company: a chunk is what there is. Short ones are padded once the peer's budget for them would
/// suffer.
#[derive(Debug)]
pub(crate) struct Flush {
    ready: VecDeque<Bytes>,
    open: BytesMut,
    /// Where the last message of `open` begins.
    last: usize,
    allowance: usize,
}

impl Default for Flush {
    fn default() -> Self {
        Self { ready: VecDeque::new(), open: BytesMut::new(), last: 0, allowance: ALLOWANCE }
    }
}

impl Flush {
    /// Puts a gRPC message behind all others.
    pub(crate) fn push(&mut self, message: Bytes) {
        if message.len() >= LARGE {
            self.close();
            self.ready.push_back(message);
            return;
        }
        self.last = self.open.len();
        self.open.extend_from_slice(&message);
        if self.open.len() >= LARGE {
            self.close();
        }
    }

    /// Says a frame behind all others.
    pub(crate) fn say(&mut self, said: &ServerFrame) {
        self.push(message(said));
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.ready.iter().map(Bytes::len).sum::<usize>() + self.open.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.open.is_empty()
    }

    /// The next chunk.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.close();
        }
        let chunk = self.ready.pop_front();
        if self.ready.is_empty() && self.ready.capacity() > 8 {
            self.ready = VecDeque::new();
        }
        chunk
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let lacking = SHORT.saturating_sub(self.open.len());
        match self.allowance.checked_sub(lacking) {
            Some(rest) => self.allowance = rest,
            None => self.pad(lacking),
        }
        // The peer credits what a frame has beyond the threshold.
        let beyond = self.open.len().saturating_sub(SHORT);
        self.allowance = (self.allowance + beyond).min(ALLOWANCE);
        self.ready.push_back(std::mem::take(&mut self.open).freeze());
        self.last = 0;
    }

    /// Appends the field `padding` to the last message: fields of one message may be joined.
    fn pad(&mut self, lacking: usize) {
        // A length of 128 and more takes a byte more, which is none too many.
        const TAG_AND_LENGTH: usize = 2;
        let padding = Bytes::from(vec![0; lacking.saturating_sub(TAG_AND_LENGTH).max(1)]);
        let before = self.open.len() - self.last - PREFIX;
        let filler = ServerFrame { frame: None, padding };
        filler.encode_raw(&mut self.open);
        let length = self.open.len() - self.last - PREFIX;
        debug_assert!(length > before, "something was appended");
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.open[self.last + 1..self.last + PREFIX].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use pushpull_core::{Cursor, EncodingAccount, Epoch, EventParts, Prev};
    use pushpull_http::proto::v1::{Error, server_frame::Frame as Said};

    use super::*;

    fn beat(n: u64) -> ServerFrame {
        proto::heartbeat(None, n)
    }

    fn error(length: usize) -> ServerFrame {
        let said = Said::Error(Error { detail: "x".repeat(length), ..Error::default() });
        ServerFrame { frame: Some(said), padding: Bytes::new() }
    }

    /// The messages in `chunk`.
    fn messages(mut chunk: &[u8]) -> Vec<ServerFrame> {
        let mut found = Vec::new();
        while let [0, a, b, c, d, rest @ ..] = chunk {
            let (one, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
            let frame = ServerFrame::decode(one).unwrap().frame;
            found.push(ServerFrame { frame, padding: Bytes::new() });
            chunk = rest;
        }
        assert!(chunk.is_empty());
        found
    }

    #[test]
    fn an_event_is_encoded_once_for_all() {
        let parts = EventParts {
            topic: "a".parse().unwrap(),
            cursor: Cursor::new(Epoch::from_random(7), 3),
            prev: Prev::Unknown,
            time_ms: 1,
            message: pushpull_core::Message::text("abc"),
        };
        let event = Event::keeping_encodings(parts, EncodingAccount::default());
        let first = event_frame(&event);
        assert_eq!(first.as_ptr(), event_frame(&event.clone()).as_ptr());
        let [ServerFrame { frame: Some(Said::Event(read)), .. }] = &messages(&first)[..] else {
            panic!("no event")
        };
        assert_eq!((read.topic.as_str(), read.cursor.as_str(), &read.prev), ("a", "7-3", &None));
    }

    #[test]
    fn all_that_waits_is_one_chunk() {
        let mut flush = Flush::default();
        (1..=10).for_each(|n| flush.say(&beat(n)));
        let chunk = flush.next().unwrap();
        assert_eq!(messages(&chunk), (1..=10).map(beat).collect::<Vec<_>>());
        assert!(flush.is_empty() && flush.next().is_none());
    }

    #[test]
    fn a_trickle_spends_no_more_than_the_allowance() {
        let mut flush = Flush::default();
        // As h2 counts for a peer who reads nothing.
        let (mut budget, mut least) = (ALLOWANCE, ALLOWANCE);
        for n in 1..=10_000 {
            flush.say(&beat(n));
            let chunk = flush.next().unwrap();
            assert_eq!(messages(&chunk), [beat(n)], "padding says nothing");
            assert!(chunk.len() <= SHORT + 2);
            budget = budget.checked_sub(SHORT.saturating_sub(chunk.len())).unwrap();
            budget = (budget + chunk.len().saturating_sub(SHORT)).min(ALLOWANCE);
            least = least.min(budget);
        }
        assert!(least < SHORT, "at first it pads nothing");
    }

    #[test]
    fn every_length_can_be_padded() {
        for length in 1..SHORT {
            let mut flush = Flush { allowance: 0, ..Flush::default() };
            let said = error(length);
            flush.say(&beat(1));
            flush.say(&said);
            let chunk = flush.next().unwrap();
            assert_eq!(messages(&chunk), [beat(1), said]);
            assert!(chunk.len() >= SHORT, "{length}: {}", chunk.len());
        }
    }

    #[test]
    fn a_large_message_goes_as_it_is_and_order_is_kept() {
        let mut flush = Flush::default();
        let large = message(&error(LARGE));
        flush.say(&beat(1));
        flush.push(large.clone());
        flush.say(&beat(2));
        assert_eq!(messages(&flush.next().unwrap()), [beat(1)]);
        assert_eq!(flush.next().unwrap().as_ptr(), large.as_ptr());
        assert_eq!(messages(&flush.next().unwrap()), [beat(2)]);
    }
}
