//! Deflated messages, each by itself, read once for all who get the same bytes.

use flate2::{Decompress, FlushDecompress, Status};

use crate::{shape::Shape, stamp::Stamp};

/// What a sync flush ends with, which does not travel (RFC 7692, 7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// How many messages are remembered.
const KNOWN: usize = 4096;

/// Reads deflated payloads.
///
/// Each is either inflated and compared byte by byte, or the same, byte by byte, as one that was.
pub(super) struct Inflater {
    stream: Decompress,
    inflated: Vec<u8>,
    /// By the number of the message.
    known: Vec<Option<(Vec<u8>, Stamp)>>,
    is_used: bool,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            stream: Decompress::new(false),
            inflated: Vec::new(),
            known: vec![None; KNOWN],
            is_used: false,
        }
    }

    /// Reads a deflated payload, which is probably that of message `expected`. None if it is not as it was sent.
    pub(super) fn read(&mut self, deflated: &[u8], expected: u64, shape: &Shape) -> Option<Stamp> {
        self.is_used = true;
        match &self.known[expected as usize % KNOWN] {
            Some((known, stamp)) if known == deflated => Some(*stamp),
            _ => self.inflate(deflated, shape),
        }
    }

    /// Whether anything was read.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    fn inflate(&mut self, deflated: &[u8], shape: &Shape) -> Option<Stamp> {
        self.stream.reset(false);
        self.inflated.clear();
        self.inflated.reserve(shape.length() + 1);
        for part in [deflated, &TAIL] {
            // What does not fit into the room is longer than a payload, and what is cut is shorter.
            let status = self.stream.decompress_vec(part, &mut self.inflated, FlushDecompress::Sync);
            if !matches!(status, Ok(Status::Ok | Status::BufError)) {
                return None;
            }
        }
        let stamp = shape.read(&self.inflated)?;
        self.known[stamp.number as usize % KNOWN] = Some((deflated.to_vec(), stamp));
        Some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;
    use crate::shape::Content;

    fn deflated(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + 64);
        let mut stream = Compress::new(Compression::default(), false);
        stream.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
        out.truncate(out.strip_suffix(&TAIL).unwrap().len());
        out
    }

    #[test]
    fn a_message_is_inflated_once_and_then_known() {
        let (shape, mut inflater) = (Shape::new(Content::Json, 1024), Inflater::new());
        for number in [0, 1, 4096, 4097] {
            let stamp = Stamp { number, sent: 9 };
            let message = deflated(&shape.payload(stamp));
            assert!(message.len() < 700);
            for _ in 0..3 {
                assert_eq!(inflater.read(&message, number, &shape), Some(stamp));
            }
            assert_eq!(inflater.known[number as usize % KNOWN], Some((message, stamp)));
        }
    }

    #[test]
    fn what_was_expected_does_not_decide_what_is_read() {
        let (shape, mut inflater) = (Shape::new(Content::Json, 1024), Inflater::new());
        let stamp = |number| Stamp { number, sent: 9 };
        let message = |number| deflated(&shape.payload(stamp(number)));
        assert_eq!(inflater.read(&message(5), 5, &shape), Some(stamp(5)));
        assert_eq!(inflater.read(&message(6), 5, &shape), Some(stamp(6)));
        assert_eq!(inflater.read(&message(5), 6, &shape), Some(stamp(5)));
    }

    #[test]
    fn what_is_not_as_it_was_sent_has_no_stamp() {
        let (shape, mut inflater) = (Shape::new(Content::Json, 1024), Inflater::new());
        let whole = shape.payload(Stamp { number: 5, sent: 9 });
        let other = deflated(&[&whole[..500], b"?", &whole[501..]].concat());
        let long = deflated(&[&whole[..], &whole[..]].concat());
        let cut = &deflated(&whole)[..200];
        for message in [&other[..], &long, cut, b"\xff\xff\xff", b""] {
            assert_eq!(inflater.read(message, 5, &shape), None, "{message:?}");
        }
    }
}
