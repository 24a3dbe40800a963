//! What a message says of itself.

/// Digits of a number in a payload.
const DIGITS: usize = 20;
/// The shortest payload.
pub(crate) const LEAST: usize = 2 * DIGITS;

/// The number of a message and when it was sent, in nanoseconds since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) sent: u64,
}

impl Stamp {
    /// A payload of `length` bytes: the stamp, then filler.
    pub(crate) fn payload(self, length: usize) -> String {
        let text = format!("{:020}{:020}", self.number, self.sent);
        format!("{text:x<length$}")
    }

    /// Reads a payload back. None if a single byte is not as it was sent: it was cut, or something that is not
    /// its own was taken for a part of it.
    pub(crate) fn read(payload: &[u8], length: usize) -> Option<Self> {
        let (stamp, filler) = payload.split_at_checked(LEAST)?;
        if payload.len() != length || filler.iter().any(|byte| *byte != b'x') {
            return None;
        }
        let (number, sent) = stamp.split_at(DIGITS);
        Some(Self { number: digits(number)?, sent: digits(sent)? })
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for stamp in [Stamp { number: 0, sent: 1 }, Stamp { number: 12_345, sent: u64::MAX }] {
            for length in [LEAST, 41, 128] {
                let payload = stamp.payload(length);
                assert_eq!(payload.len(), length);
                assert_eq!(Stamp::read(payload.as_bytes(), length), Some(stamp));
            }
        }
    }

    #[test]
    fn a_payload_that_is_not_whole_is_no_stamp() {
        let whole = Stamp { number: 7, sent: 9 }.payload(128);
        assert_eq!(Stamp::read(&whole.as_bytes()[..127], 128), None);
        assert_eq!(Stamp::read(&whole.as_bytes()[..39], 39), None);
        assert_eq!(Stamp::read(&whole.as_bytes()[1..], 127), None);
        assert_eq!(Stamp::read(whole.replacen('x', "\r", 1).as_bytes(), 128), None);
        assert_eq!(Stamp::read(whole.replacen('7', "a", 1).as_bytes(), 128), None);
        assert_eq!(Stamp::read(&[b'9'; LEAST], LEAST), None, "more than a u64 holds");
    }
}
