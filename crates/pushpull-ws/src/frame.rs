//! Frames as bytes (RFC 6455, 5.2), over tungstenite's header code.

use bytes::Bytes;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

pub(crate) const TEXT: OpCode = OpCode::Data(Data::Text);
pub(crate) const BINARY: OpCode = OpCode::Data(Data::Binary);
#[cfg(any(feature = "server", test))]
pub(crate) const PING: OpCode = OpCode::Control(Control::Ping);
pub(crate) const PONG: OpCode = OpCode::Control(Control::Pong);
pub(crate) const CLOSE: OpCode = OpCode::Control(Control::Close);

/// A whole frame. With a mask key it is a client's.
pub(crate) fn encode(opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    write(&FrameHeader { is_final: true, opcode, mask, ..FrameHeader::default() }, payload)
}

/// A whole frame of a server whose payload is deflated (RFC 7692, 6.1).
#[cfg(feature = "server")]
pub(crate) fn encode_deflated(opcode: OpCode, payload: &[u8]) -> Bytes {
    write(&FrameHeader { is_final: true, rsv1: true, opcode, ..FrameHeader::default() }, payload)
}

/// A whole frame of a server around the `length` bytes that `fill` appends.
#[cfg(feature = "server")]
pub(crate) fn encode_with(opcode: OpCode, length: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    let mut frame = head(&header, length);
    let start = frame.len();
    fill(&mut frame);
    debug_assert_eq!(frame.len() - start, length, "as long as announced");
    frame.into()
}

fn write(header: &FrameHeader, payload: &[u8]) -> Bytes {
    let mut frame = head(header, payload.len());
    let start = frame.len();
    frame.extend_from_slice(payload);
    if let Some(mask) = header.mask {
        apply_mask(&mut frame[start..], mask);
    }
    frame.into()
}

/// The header of a payload of `length` bytes, with room for them.
fn head(header: &FrameHeader, length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(header.len(length as u64) + length);
    // Writing to a vector does not fail.
    let _ = header.format(length as u64, &mut frame);
    frame
}

/// Masks or unmasks; `mask` begins at the first byte of `data`.
pub(crate) fn apply_mask(data: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_examples_are_met() {
        assert_eq!(encode(TEXT, b"Hello", None), &b"\x81\x05Hello"[..]);
        let masked = encode(TEXT, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(masked, &b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..]);
        assert_eq!(encode(PONG, b"Hello", None), &b"\x8a\x05Hello"[..]);
        assert_eq!(encode(BINARY, &[0; 256], None)[..4], [0x82, 0x7e, 1, 0]);
        assert_eq!(encode(BINARY, &[0; 65536], None)[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn masking_twice_is_nothing() {
        for length in 0..40 {
            let data: Vec<u8> = (0..length).collect();
            let mut masked = data.clone();
            apply_mask(&mut masked, [1, 2, 3, 4]);
            let expected: Vec<u8> =
                data.iter().zip([1u8, 2, 3, 4].iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(masked, expected);
        }
    }
}
