//! WebSocket messages (RFC 6455), and deflated ones (RFC 7692).

use std::io;

use super::protobuf::{Said, server_frame};

/// The header of a request that offers to take deflated messages, each by itself.
pub(crate) const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
/// What a head has that took the offer.
pub(crate) const TAKEN: &[u8] = b"permessage-deflate";

const RSV1: u8 = 0x40;

/// Hands every whole message in `bytes` to `each`, and returns how many bytes are done with.
pub(crate) fn messages(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
    maybe_deflated(bytes, &mut |message, _| each(message))
}

/// The same, and says of each whether it came deflated.
pub(crate) fn maybe_deflated(bytes: &[u8], each: &mut impl FnMut(&[u8], bool)) -> usize {
    let mut rest = bytes;
    while let Some((header, length)) = frame(rest) {
        let Some((whole, after)) = rest.split_at_checked(header + length) else { break };
        if matches!(whole[0] & 0x0f, 1 | 2) {
            each(&whole[header..], whole[0] & RSV1 != 0);
        }
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Hands the payload of every event of `topic` in messages that are protobuf to `each`. `last` is the seq of the last.
///
/// # Errors
///
/// A message is none that a subscriber is sent whom nothing was lost, or an event is out of its place.
pub(crate) fn proto_messages(
    bytes: &[u8],
    topic: &str,
    last: &mut Option<u64>,
    each: &mut impl FnMut(&[u8]),
) -> io::Result<usize> {
    let mut outcome = Ok(());
    let done = messages(bytes, &mut |message| match server_frame(message) {
        Ok(Some(Said::Event(event))) => match event.placed(topic, last) {
            Ok(payload) => each(payload),
            Err(error) => outcome = Err(error),
        },
        Ok(_) => {}
        Err(error) => outcome = Err(error),
    });
    outcome.map(|()| done)
}

/// The lengths of a server frame's header and payload (5.2).
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
    use super::{
        super::{objects, protobuf::tests::event_frame, tests::read_in_two},
        *,
    };

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
        for payloads in read_in_two(&bytes, |bytes, mut each| messages(bytes, &mut each)) {
            assert_eq!(payloads, ["a", &long]);
        }
        let huge = framed(1, &vec![b'c'; 70_000]);
        assert_eq!(frame(&huge), Some((10, 70_000)));
        assert_eq!(messages(&huge[..70_009], &mut |_| panic!("it is not whole")), 0);
    }

    #[test]
    fn every_object_of_a_json_message() {
        let bytes = [
            framed(1, br#"{"heartbeat":{"cursor":"a-1","conflated":0}}"#),
            framed(1, br#"[{"topic":"t","cursor":"a-2","data":"one"},{"topic":"t","data":"two"}]"#),
            framed(1, br#"{"topic":"t","type":"text/plain","data":"three"}"#),
        ];
        for payloads in read_in_two(&bytes.concat(), |bytes, each| {
            messages(bytes, &mut |message| objects(message, None, &mut |payload| each(payload)))
        }) {
            assert_eq!(payloads, ["one", "two", "three"]);
        }
    }
    #[test]
    fn a_deflated_message_is_told_from_a_plain_one() {
        let mut told = Vec::new();
        let bytes = [framed(1 | RSV1, b"squeezed"), framed(1, b"plain"), framed(9 | RSV1, b"ping")].concat();
        assert_eq!(
            maybe_deflated(&bytes, &mut |message, is_deflated| told.push((message.to_vec(), is_deflated))),
            bytes.len()
        );
        assert_eq!(told, [(b"squeezed".to_vec(), true), (b"plain".to_vec(), false)]);
    }

    #[test]
    fn protobuf_events_in_their_places() {
        let event = |topic, cursor| framed(2, &event_frame(topic, cursor, b"one"));
        let read = |frames: &[Vec<u8>]| {
            let (mut last, mut payloads) = (None, 0);
            proto_messages(&frames.concat(), "t", &mut last, &mut |payload| {
                payloads += usize::from(payload == b"one");
            })
            .map(|_| (payloads, last))
        };
        assert_eq!(read(&[event("t", "a-7"), event("t", "a-9")]).unwrap(), (2, Some(9)));
        for wrong in [[event("t", "a-7"), event("t", "a-7")], [event("t", "a-7"), event("u", "a-8")]] {
            assert!(read(&wrong).unwrap_err().to_string().contains("out of its place"));
        }
        assert!(read(&[framed(2, b"\x12\x00")]).unwrap_err().to_string().contains("gap"));
    }
}
