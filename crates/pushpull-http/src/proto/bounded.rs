//! How much a client may make of few bytes: an element of two bytes on the wire takes a hundred as a value.

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint},
};
use pushpull_core::{ErrorKind, Problem};

use super::v1::ClientFrame;
use crate::problem::MAX_BATCH;

/// Most fields that are values of their own: those of a full batch, and all that may stand beside it.
const MAX_FIELDS: usize = MAX_BATCH + 100;

/// Which fields of a message are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counted {
    /// Its own, as of a request.
    Own,
    /// And those of what a client frame says.
    OfFrame,
}

/// Reads a client frame.
///
/// # Errors
/// [`ErrorKind::TooLarge`] if [`is_bounded`] does not hold of it, [`ErrorKind::Invalid`] if it is none.
pub fn client_frame_in(bytes: Bytes) -> Result<ClientFrame, Problem> {
    if !is_bounded(&bytes, Counted::OfFrame) {
        return Err(Problem::new(ErrorKind::TooLarge, "the frame has too many fields"));
    }
    ClientFrame::decode(bytes).map_err(|error| Problem::invalid("frame", error.to_string()))
}

/// Whether the message in `bytes` has no more fields than a full batch ([`MAX_BATCH`]) and some: to be asked before it is
/// read. Allocates nothing.
pub fn is_bounded(mut bytes: &[u8], counted: Counted) -> bool {
    let mut count = 0;
    while let Some((number, inside)) = next_field(&mut bytes) {
        count += 1;
        // What a frame says is one of these.
        if counted == Counted::OfFrame && (1..=4).contains(&number) {
            let mut inside = inside;
            while count <= MAX_FIELDS && next_field(&mut inside).is_some() {
                count += 1;
            }
        }
        if count > MAX_FIELDS {
            return false;
        }
    }
    true
}

/// The number of the next field, and what is inside if its length is told. `None` at the end, and where a reader would
/// stop.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (number, wire) = decode_key(bytes).ok()?;
    let length = match wire {
        WireType::Varint => decode_varint(bytes).ok().map(|_| 0)?,
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(bytes).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    let (inside, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((number, inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Credit, Message, PublishRequest, client_frame::Frame};

    fn publish(count: usize) -> PublishRequest {
        PublishRequest { messages: vec![Message::default(); count], ..PublishRequest::default() }
    }

    fn frame(frame: Frame) -> Bytes {
        ClientFrame { frame: Some(frame) }.encode_to_vec().into()
    }

    #[test]
    fn a_full_batch_is_read_and_a_flood_of_empty_messages_is_not() {
        for (count, fits) in [(MAX_BATCH + 1, true), (MAX_BATCH + 101, false), (1_500_000, false)] {
            let asked = publish(count);
            assert_eq!(is_bounded(&asked.encode_to_vec(), Counted::Own), fits, "{count}");
            let read = client_frame_in(frame(Frame::Publish(asked)));
            assert_eq!(
                read.err().map(|problem| problem.kind()),
                (!fits).then_some(ErrorKind::TooLarge),
                "{count}"
            );
        }
        let part = frame(Frame::Publish(publish(MAX_BATCH / 2)));
        assert!(client_frame_in([&part[..]; 3].concat().into()).is_err(), "parts of one frame are joined");
    }

    #[test]
    fn a_payload_counts_as_one_whatever_is_in_it() {
        // As fields: a number in two bytes each.
        let payload = Bytes::from(vec![8; 1 << 20]);
        let asked = PublishRequest { payload, ..PublishRequest::default() };
        assert!(is_bounded(&asked.encode_to_vec(), Counted::Own));
        assert!(client_frame_in(frame(Frame::Publish(asked))).is_ok());
    }

    #[test]
    fn what_is_no_frame_is_none() {
        let whole = frame(Frame::Credit(Credit { events: 5, id: Some(1) }));
        assert!(client_frame_in(whole.clone()).is_ok());
        for cut in 1..whole.len() {
            assert!(client_frame_in(whole.slice(..cut)).is_err(), "{cut}");
        }
        assert!(client_frame_in(Bytes::from_static(b"\x0b\x0b\x0b")).is_err());
    }
}
