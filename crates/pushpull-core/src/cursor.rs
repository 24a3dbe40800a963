//! Cursors and epochs: places in a broker's one sequence.

use std::{fmt, str::FromStr};

/// Names one unbroken history of a broker's sequence. Random, never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

/// A place in a broker's one sequence, the same on every transport and node. On the wire: `6qz3k1-1042`.
///
/// A cursor serves a subscription to any set of topics and patterns. Compare [`Cursor::seq`] only between
/// cursors of one epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    epoch: Epoch,
    seq: u64,
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor has the form <epoch>-<seq>, as in 6qz3k1-1042")]
pub struct CursorError;

/// The epochs of a sequence, oldest first, each with the seq at which it starts.
///
/// An event's epoch follows from its position. A cursor is good iff its seq lies before the start of the
/// epoch after its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs(Vec<(Epoch, u64)>);

/// Where a cursor stands against a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It names a place of this history.
    Good,
    /// It lies on a branch that was lost; the last common place is given.
    Rewound(u64),
    /// Its epoch is unknown, or it lies ahead of anything there is.
    Unknown,
}

impl Epoch {
    /// The epoch that is never issued: a cursor in it is unknown everywhere.
    pub const NEVER: Self = Self(0);

    /// An epoch from a random number. 0 is taken as 1, since 0 is never issued.
    pub fn from_random(random: u64) -> Self {
        Self(random.max(1))
    }

    /// The number behind the name.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl Cursor {
    /// A cursor that every broker answers with a `reset`: what a malformed `Last-Event-ID` counts as.
    pub const UNKNOWN: Self = Self { epoch: Epoch::NEVER, seq: 0 };

    /// The place `seq` in `epoch`.
    pub fn new(epoch: Epoch, seq: u64) -> Self {
        Self { epoch, seq }
    }

    /// Its history's name.
    pub fn epoch(self) -> Epoch {
        self.epoch
    }

    /// Its place in the sequence.
    pub fn seq(self) -> u64 {
        self.seq
    }
}

impl Epochs {
    /// A history whose first epoch starts at `start`.
    pub fn new(first: Epoch, start: u64) -> Self {
        Self(vec![(first, start)])
    }

    /// Begins `epoch` at `start`. Starts must rise.
    pub fn begin(&mut self, epoch: Epoch, start: u64) {
        debug_assert!(
            self.0.last().is_none_or(|(_, before)| *before <= start),
            "epochs start in rising order"
        );
        self.0.push((epoch, start));
    }

    /// Forgets the epochs that ended at or before `floor`: no place behind it is retained.
    pub fn forget_before(&mut self, floor: u64) {
        let keep = self.0.iter().skip(1).take_while(|(_, start)| *start <= floor).count();
        self.0.drain(..keep);
    }

    /// The cursor of a place.
    pub fn cursor(&self, seq: u64) -> Cursor {
        let mut entries = self.0.iter().rev();
        let found = entries.find(|(_, start)| *start <= seq).or(self.0.first());
        Cursor::new(found.map_or(Epoch::NEVER, |(epoch, _)| *epoch), seq)
    }

    /// Where `cursor` stands, `head` being the newest place there is.
    pub fn judge(&self, cursor: Cursor, head: u64) -> Standing {
        let Some(at) = self.0.iter().rposition(|(epoch, _)| *epoch == cursor.epoch) else {
            return Standing::Unknown;
        };
        match self.0.get(at + 1) {
            Some((_, next)) if cursor.seq >= *next => Standing::Rewound(next.saturating_sub(1)),
            None if cursor.seq > head => Standing::Unknown,
            _ => Standing::Good,
        }
    }
}

/// A text that is made from its end on: every answer bears a cursor, which is not worth a formatter for each part.
struct Text {
    /// 13 digits of an epoch, a hyphen and 20 digits of a number, at most.
    bytes: [u8; 34],
    taken: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; 34], taken: 0 }
    }

    fn put<const RADIX: u64>(&mut self, mut number: u64) {
        loop {
            self.put_byte(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % RADIX) as usize]);
            number /= RADIX;
            if number == 0 {
                return;
            }
        }
    }

    fn put_byte(&mut self, byte: u8) {
        self.taken += 1;
        let at = self.bytes.len() - self.taken;
        self.bytes[at] = byte;
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[self.bytes.len() - self.taken..]).unwrap_or_default()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::new();
        text.put::<36>(self.0);
        f.write_str(text.as_str())
    }
}

impl FromStr for Epoch {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let plain = !text.is_empty() && (text == "0" || !text.starts_with('0'));
        if !plain || !text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
            return Err(CursorError);
        }
        u64::from_str_radix(text, 36).map(Self).map_err(|_| CursorError)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::new();
        text.put::<10>(self.seq);
        text.put_byte(b'-');
        text.put::<36>(self.epoch.0);
        f.write_str(text.as_str())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, seq) = text.split_once('-').ok_or(CursorError)?;
        let plain = seq == "0" || !seq.starts_with('0');
        if seq.is_empty() || !plain || !seq.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CursorError);
        }
        Ok(Self { epoch: epoch.parse()?, seq: seq.parse().map_err(|_| CursorError)? })
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        let cursor: Cursor = "6qz3k1-1042".parse().unwrap();
        assert_eq!((cursor.to_string().as_str(), cursor.seq()), ("6qz3k1-1042", 1042));
        for (epoch, seq, text) in [(u64::MAX, u64::MAX, "3w5e11264sgsf-18446744073709551615"), (0, 0, "0-0")]
        {
            let cursor = Cursor::new(Epoch(epoch), seq);
            assert_eq!((cursor.to_string().as_str(), text.parse()), (text, Ok(cursor)));
        }
        for bad in [
            "",
            "-",
            "a-",
            "-1",
            "A-1",
            "a-01",
            "0a-1",
            "a-1-",
            "a--1",
            "a-+1",
            "a-99999999999999999999",
            "zzzzzzzzzzzzzzz-1",
            "a-1 ",
            "a 1",
            "ü-1",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad:?}");
        }
    }

    #[test]
    fn a_cursor_is_good_before_the_next_epoch() {
        let [a, b, c] = [1, 2, 3].map(Epoch::from_random);
        let mut epochs = Epochs::new(a, 0);
        epochs.begin(b, 100);
        let judge = |epoch, seq| epochs.judge(Cursor::new(epoch, seq), 150);
        assert_eq!(judge(a, 99), Standing::Good);
        assert_eq!(judge(a, 100), Standing::Rewound(99));
        assert_eq!(judge(b, 50), Standing::Good);
        assert_eq!(judge(b, 150), Standing::Good);
        assert_eq!(judge(b, 151), Standing::Unknown);
        assert_eq!(judge(c, 1), Standing::Unknown);
        assert_eq!(epochs.cursor(99).epoch(), a);
        assert_eq!(epochs.cursor(100).epoch(), b);
        epochs.forget_before(99);
        assert_eq!(epochs.judge(Cursor::new(a, 5), 150), Standing::Good);
        epochs.forget_before(100);
        assert_eq!(epochs.judge(Cursor::new(a, 5), 150), Standing::Unknown);
    }

    proptest! {
        #[test]
        fn text_and_back(epoch: u64, seq: u64) {
            let cursor = Cursor::new(Epoch::from_random(epoch), seq);
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_refused_or_canonical(text in "[0-9a-z]{0,14}-[0-9]{0,21}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
