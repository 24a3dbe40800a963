//! WebSocket messages (RFC 6455).

use super::objects;

/// Hands every whole message in `bytes` to `each`, and returns how many bytes are done with.
pub(crate) fn messages(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
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

/// The same of messages that are JSON, each one object or several.
pub(crate) fn json_messages(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
    messages(bytes, &mut |message| objects(message, each))
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
    use super::{super::tests::read_in_two, *};

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
        for payloads in read_in_two(&bytes.concat(), |bytes, mut each| json_messages(bytes, &mut each)) {
            assert_eq!(payloads, ["one", "two", "three"]);
        }
    }
}
