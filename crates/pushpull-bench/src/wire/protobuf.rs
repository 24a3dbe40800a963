//! The protobuf messages of the wire contract's section 5, as far as a subscriber needs them.

use std::io;

use super::{From, http::seq};

const START_EARLIEST: u8 = 2;

/// What a server frame says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Event(Event<'a>),
    /// All up to a place was sent.
    Place,
}

/// An event, as far as it is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event<'a> {
    pub(super) topic: &'a [u8],
    pub(super) cursor: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> Event<'a> {
    /// Its payload, if it is of `topic` and behind the `last` event, which it then is.
    ///
    /// # Errors
    ///
    /// It is out of its place.
    pub(super) fn placed(&self, topic: &str, last: &mut Option<u64>) -> io::Result<&'a [u8]> {
        let seq = str::from_utf8(self.cursor).ok().and_then(seq);
        let is_behind = seq.is_some_and(|seq| last.is_none_or(|before| before < seq));
        if !is_behind || self.topic != topic.as_bytes() {
            let [topic, cursor] = [self.topic, self.cursor].map(String::from_utf8_lossy);
            let told = format!("an event out of its place: {cursor} of {topic} after {last:?}");
            return Err(io::Error::other(told));
        }
        *last = seq;
        Ok(self.payload)
    }
}

/// A field's value. Nobody asks for the numbers here.
#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    Number,
    Bytes(&'a [u8]),
}

/// A `SubscribeRequest`.
pub(super) fn subscribe_request(topic: &str, from: From<'_>) -> Vec<u8> {
    // Topics and cursors of ours are far shorter than the 128 bytes that would take a longer length.
    let text = |field: u8, text: &str| [&[field << 3 | 2, text.len() as u8][..], text.as_bytes()].concat();
    let place = match from {
        From::Now => Vec::new(),
        From::Earliest => vec![3 << 3, START_EARLIEST],
        From::After(cursor) => text(2, cursor),
    };
    [text(1, topic), place].concat()
}

/// Reads a `ServerFrame`.
///
/// # Errors
///
/// It is none, or one that a subscriber whom nothing was lost is not sent: it is named.
pub(super) fn server_frame(bytes: &[u8]) -> io::Result<Option<Said<'_>>> {
    let mut said = None;
    each_field(bytes, &mut |field, value| {
        said = match (field, value) {
            (1, Value::Bytes(bytes)) => Some(Said::Event(event(bytes)?)),
            (3, Value::Bytes(_)) => Some(Said::Place),
            (2 | 4..=7, Value::Bytes(bytes)) => return Err(unexpected(field, bytes)),
            (1..=7, _) => return Err(io::ErrorKind::InvalidData.into()),
            _ => return Ok(()),
        };
        Ok(())
    })?;
    Ok(said)
}

fn event(bytes: &[u8]) -> io::Result<Event<'_>> {
    let mut event = Event::default();
    each_field(bytes, &mut |field, value| {
        match (field, value) {
            (1, Value::Bytes(topic)) => event.topic = topic,
            (2, Value::Bytes(cursor)) => event.cursor = cursor,
            (8, Value::Bytes(payload)) => event.payload = payload,
            _ => {}
        }
        Ok(())
    })?;
    Ok(event)
}

fn unexpected(field: u64, bytes: &[u8]) -> io::Error {
    let name = match field {
        2 => "gap",
        4 => "ok",
        5 => "published",
        6 => "error",
        _ => "goaway",
    };
    io::Error::other(format!("the server said {name}: {:?}", String::from_utf8_lossy(bytes)))
}

fn each_field<'a>(
    mut bytes: &'a [u8],
    each: &mut impl FnMut(u64, Value<'a>) -> io::Result<()>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let (field, value) = field(&mut bytes).ok_or(io::ErrorKind::InvalidData)?;
        each(field, value)?;
    }
    Ok(())
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = varint(bytes)?;
    let value = match key & 7 {
        0 => varint(bytes).map(|_| Value::Number)?,
        1 => fixed(bytes, 8)?,
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Value::Bytes(value)
        }
        5 => fixed(bytes, 4)?,
        _ => return None,
    };
    Some((key >> 3, value))
}

fn fixed<'a>(bytes: &mut &'a [u8], length: usize) -> Option<Value<'a>> {
    *bytes = bytes.get(length..)?;
    Some(Value::Number)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn bytes_field(field: u8, bytes: &[u8]) -> Vec<u8> {
        let length = [bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8];
        let length = if bytes.len() < 128 { &[bytes.len() as u8][..] } else { &length };
        [&[field << 3 | 2], length, bytes].concat()
    }

    /// A server frame with an event that has every field.
    pub(in super::super) fn event_frame(topic: &str, cursor: &str, payload: &[u8]) -> Vec<u8> {
        let event = [
            bytes_field(1, topic.as_bytes()),
            bytes_field(2, cursor.as_bytes()),
            bytes_field(3, b"a-1"),
            vec![4 << 3, 0x83, 0xa8, 0xe5, 0xd9, 0xaa, 0x33],
            bytes_field(7, b"text/plain"),
            bytes_field(8, payload),
            vec![9 << 3, 1],
            vec![12 << 3 | 5, 1, 2, 3, 4],
            vec![13 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8],
        ];
        bytes_field(1, &event.concat())
    }

    #[test]
    fn an_event_is_found_among_fields_nobody_asked_for() {
        let payload = [b'x'; 300];
        let padded =
            [bytes_field(15, b"  "), event_frame("t", "a-7", &payload), bytes_field(15, b" ")].concat();
        let event = Event { topic: b"t", cursor: b"a-7", payload: &payload };
        assert_eq!(server_frame(&padded).unwrap(), Some(Said::Event(event)));
        assert_eq!(server_frame(&bytes_field(3, b"")).unwrap(), Some(Said::Place));
        assert_eq!(server_frame(&bytes_field(15, b" ")).unwrap(), None);
    }

    #[test]
    fn what_tells_of_a_loss_or_an_end_is_an_error_by_name() {
        for (field, name) in [(2, "gap"), (4, "ok"), (5, "published"), (6, "error"), (7, "goaway")] {
            let error = server_frame(&bytes_field(field, b"why")).unwrap_err().to_string();
            assert_eq!(error, format!("the server said {name}: \"why\""));
        }
    }

    #[test]
    fn what_is_cut_or_of_no_known_kind_is_an_error() {
        let whole = event_frame("t", "a-7", b"x");
        for cut in 1..whole.len() {
            assert!(server_frame(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for bytes in [&[3 << 3 | 3, 1][..], &[1 << 3, 1], &[0x80; 11], &[0xff; 12]] {
            assert!(server_frame(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_request_says_where_to_begin() {
        assert_eq!(subscribe_request("t", From::Now), b"\x0a\x01t");
        assert_eq!(subscribe_request("t", From::Earliest), b"\x0a\x01t\x18\x02");
        assert_eq!(subscribe_request("t", From::After("a-9")), b"\x0a\x01t\x12\x03a-9");
    }
}
