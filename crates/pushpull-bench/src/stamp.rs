//! What a message says of itself.

/// Digits of a number in a payload.
const DIGITS: usize = 20;
/// The shortest text payload: a stamp and nothing else.
pub(crate) const LEAST: usize = 2 * DIGITS;

/// The number of a message and when it was sent, in nanoseconds since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) sent: u64,
}

impl Stamp {
    /// A text payload of `length` bytes: the stamp, then filler.
    #[cfg(test)]
    pub(crate) fn payload(self, length: usize) -> String {
        let text = self.digits();
        format!("{text:x<length$}")
    }

    /// The [`LEAST`] bytes of every payload that tell number and time.
    pub(crate) fn digits(self) -> String {
        format!("{:020}{:020}", self.number, self.sent)
    }

    /// Reads the digits back.
    pub(crate) fn of(digits: &[u8; LEAST]) -> Option<Self> {
        let (number, sent) = digits.split_first_chunk::<DIGITS>()?;
        Some(Self { number: number_of(number)?, sent: number_of(sent.first_chunk()?)? })
    }
}

/// Twenty digits as a number, eight at a time: this is done once a delivery.
#[inline]
fn number_of(digits: &[u8; DIGITS]) -> Option<u64> {
    let (high, rest) = digits.split_first_chunk::<4>()?;
    let (middle, low) = rest.split_first_chunk::<8>()?;
    let [a, b, c, d] = *high;
    let high = eight([b'0', b'0', b'0', b'0', a, b, c, d])?;
    let rest = eight(*middle)? * 100_000_000 + eight(*low.first_chunk()?)?;
    high.checked_mul(10_000_000_000_000_000)?.checked_add(rest)
}

/// Eight digits: neighbours are joined to pairs, pairs to fours, fours to eight.
fn eight(digits: [u8; 8]) -> Option<u64> {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const SIX: u64 = 0x0606_0606_0606_0606;
    let word = u64::from_le_bytes(digits);
    if word & HIGH != ZEROS || word.wrapping_add(SIX) & HIGH != ZEROS {
        return None;
    }
    let ones = word - ZEROS;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(digits: &str) -> Option<Stamp> {
        Stamp::of(digits.as_bytes().first_chunk().unwrap())
    }

    #[test]
    fn what_was_written_is_read() {
        for stamp in [
            Stamp { number: 0, sent: 1 },
            Stamp { number: 12_345, sent: u64::MAX },
            Stamp { number: 9_876_543_210_123_456_789, sent: 1_234_567_890_987_654_321 },
        ] {
            assert_eq!(read(&stamp.digits()), Some(stamp));
            assert_eq!(stamp.payload(128).len(), 128);
        }
        assert_eq!(read(&"9".repeat(LEAST)), None, "more than a u64 holds");
    }

    #[test]
    fn every_place_of_a_number_counts() {
        for place in 0..19 {
            let stamp = Stamp { number: 7 * 10u64.pow(place) + 1, sent: 3 * 10u64.pow(place) };
            assert_eq!(read(&stamp.digits()), Some(stamp));
        }
    }

    #[test]
    fn a_byte_that_is_no_digit_is_no_number() {
        let whole = Stamp { number: 12_345_678_901_234_567_890, sent: 0 }.digits();
        for at in 0..LEAST {
            for byte in (0..=255).filter(|byte: &u8| !byte.is_ascii_digit()) {
                let mut bytes: [u8; LEAST] = *whole.as_bytes().first_chunk().unwrap();
                bytes[at] = byte;
                assert_eq!(Stamp::of(&bytes), None, "{byte} at {at}");
            }
        }
    }
}
