//! The one field of a call's trailers that is told.

use memchr::memmem;

/// `grpc-status` in the code of HPACK (RFC 7541, appendix B).
const NAME: &[u8] = b"\x9a\xca\xc8\xb2\x12\x34\xda\x8f";
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The status in a header block by name, or the block where it is written otherwise.
pub(super) fn told(block: &[u8]) -> String {
    let named = value(block).and_then(|code| NAMES.get(code).copied());
    named.map_or_else(|| format!("trailers that are {block:02x?}"), str::to_owned)
}

fn value(block: &[u8]) -> Option<usize> {
    let rest = &block[memmem::find(block, NAME)? + NAME.len()..];
    let (length, rest) = rest.split_first()?;
    let text = rest.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 { str::from_utf8(text).ok()?.parse().ok() } else { digits(text) }
}

/// Digits in that code: 0, 1 and 2 have five bits, the others six; ones fill the last byte up.
fn digits(text: &[u8]) -> Option<usize> {
    let mut bits = text.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = 8 * text.len().min(8);
    let mut value = 0;
    while left >= 5 {
        let (digit, length) = match (bits >> (left - 5) & 0x1f, left) {
            (digit @ 0..=2, _) => (digit, 5),
            (0x1f, ..=7) => break,
            (_, 6..) => ((bits >> (left - 6) & 0x3f).checked_sub(0x19)? + 3, 6),
            _ => return None,
        };
        (value, left) =
            (value * 10 + usize::try_from(digit).ok().filter(|digit| *digit < 10)?, left - length);
        bits &= (1 << left) - 1;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_named() {
        let block = |value: &[u8]| [&[0x00, 0x88], NAME, value, b"\x00"].concat();
        for (value, name) in [
            (&b"\x81\x07"[..], "OK"),
            (b"\x81\x17", "UNKNOWN"),
            (b"\x81\x7b", "RESOURCE_EXHAUSTED"),
            (b"\x82\x0b\x5f", "UNAVAILABLE"),
            (b"\x82\x08\x3f", "ABORTED"),
            (b"\x0216", "UNAUTHENTICATED"),
        ] {
            assert_eq!(told(&block(value)), name);
        }
        assert_eq!(told(&[0x88]), "trailers that are [88]");
        assert!(told(&block(b"\x8a\x07")).starts_with("trailers"), "it is cut");
    }
}
