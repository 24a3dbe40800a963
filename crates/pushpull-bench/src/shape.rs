//! What payloads look like, and whether one is as it was sent.

use std::{fmt::Write as _, io};

use clap::ValueEnum;

use crate::stamp::{LEAST, Stamp};

/// How many documents differ in more than their stamps, so that no compressor sees one text again and again.
const VARIANTS: usize = 16;

/// The least bytes of a document, in which all have one length.
const DOCUMENT: usize = 200;

/// What a payload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Content {
    /// Text: the stamp, then filler.
    #[default]
    Text,
    /// A JSON document of quotes, as a ticker sends it.
    Json,
    /// A JSON string, the stamp and then filler.
    #[value(skip)]
    Line,
}

/// All payloads of a run: a stamp in a text that is known but for it.
#[derive(Debug)]
pub(crate) struct Shape {
    content: Content,
    length: usize,
    before: &'static [u8],
    /// What stands behind the stamp, by the message's number.
    after: Vec<Vec<u8>>,
}

impl Shape {
    /// Payloads of `length` bytes, or of as many as the content needs at least.
    pub(crate) fn new(content: Content, length: usize) -> Self {
        let (before, after) = match content {
            Content::Text => ("", vec![filled(String::new(), length.saturating_sub(LEAST))]),
            Content::Line => ("\"", vec![filled(String::new(), length.saturating_sub(LEAST + 2)) + "\""]),
            Content::Json => {
                ("{\"stamp\":\"", (0..VARIANTS).map(|variant| quotes(variant, length)).collect())
            }
        };
        let after: Vec<Vec<u8>> = after.into_iter().map(String::into_bytes).collect();
        let length = before.len() + LEAST + after[0].len();
        Self { content, length, before: before.as_bytes(), after }
    }

    /// The same where the content has room in so many bytes.
    ///
    /// # Errors
    ///
    /// It needs more.
    pub(crate) fn fitting(content: Content, length: usize) -> io::Result<Self> {
        let (name, least) = match content {
            Content::Text => ("text", LEAST),
            Content::Line => ("a line of JSON", LEAST + 2),
            Content::Json => ("JSON", DOCUMENT),
        };
        if length < least {
            return Err(io::Error::other(format!("a payload that is {name} has at least {least} bytes")));
        }
        Ok(Self::new(content, length))
    }

    /// Bytes of a payload.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Whether a payload is JSON, and so stands as it is in an event object.
    pub(crate) fn is_json(&self) -> bool {
        self.content != Content::Text
    }

    /// What a payload is published as.
    pub(crate) fn content_type(&self) -> &'static str {
        if self.is_json() { "application/json" } else { "text/plain" }
    }

    /// Writes the payload of `stamp`.
    pub(crate) fn put(&self, into: &mut Vec<u8>, stamp: Stamp) {
        into.extend_from_slice(self.before);
        into.extend_from_slice(stamp.digits().as_bytes());
        into.extend_from_slice(self.after(stamp));
    }

    /// The payload of `stamp`.
    #[cfg(test)]
    pub(crate) fn payload(&self, stamp: Stamp) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.length);
        self.put(&mut payload, stamp);
        payload
    }

    /// Reads a payload back. None if a single byte is not as it was sent.
    pub(crate) fn read(&self, payload: &[u8]) -> Option<Stamp> {
        // Comparing nothing is dear: the C library's compare then loads what is not there under an empty mask.
        let stamped = if self.before.is_empty() { payload } else { payload.strip_prefix(self.before)? };
        let (digits, after) = stamped.split_first_chunk()?;
        Stamp::of(digits).filter(|stamp| after == self.after(*stamp))
    }

    fn after(&self, stamp: Stamp) -> &[u8] {
        match &self.after[..] {
            [only] => only,
            after => &after[stamp.number as usize % after.len()],
        }
    }
}

fn filled(mut text: String, length: usize) -> String {
    text.extend(std::iter::repeat_n('x', length));
    text
}

/// What follows the stamp in a document of `length` bytes: as many quotes as fit, then filler.
fn quotes(variant: usize, length: usize) -> String {
    const SYMBOLS: [&str; 8] = ["AAPL", "MSFT", "NVDA", "AMZN", "TSLA", "GOOG", "NFLX", "INTC"];
    const LONGEST: usize = 100;
    let room = length.saturating_sub("{\"stamp\":\"".len() + LEAST + "\"}],\"note\":\"\"}".len());
    let mut text = String::from("\",\"quotes\":[");
    // Numbers that look like prices: a linear congruence, the same in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(variant as u64 + 1);
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    for at in 0.. {
        let (symbol, cents) = (SYMBOLS[at % SYMBOLS.len()], 10_000 + below(40_000));
        let (bid, ask) = (cents as f64 / 100.0, (cents + 1 + below(9)) as f64 / 100.0);
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}{{\"symbol\":\"{symbol}\",\"bid\":{bid:.2},\"ask\":{ask:.2},\"size\":{},\"venue\":\"X{}\"}}",
            100 * (1 + below(50)),
            below(4)
        );
        if text.len() + LONGEST > room {
            break;
        }
    }
    text.push_str("],\"note\":\"");
    let missing = length.saturating_sub("{\"stamp\":\"".len() + LEAST + text.len() + 2);
    filled(text, missing) + "\"}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_length_and_is_read_back() {
        for (content, length) in [(Content::Text, 128), (Content::Json, 1024), (Content::Line, 128)] {
            let shape = Shape::new(content, length);
            for number in 0..40 {
                let stamp = Stamp { number, sent: 77 };
                let payload = shape.payload(stamp);
                assert_eq!((payload.len(), shape.length()), (length, length), "{content:?}");
                assert_eq!(shape.read(&payload), Some(stamp));
            }
        }
    }

    #[test]
    fn a_payload_too_short_for_what_it_is_is_refused() {
        for (content, least) in [(Content::Text, 40), (Content::Line, 42), (Content::Json, 200)] {
            let shape = Shape::fitting(content, least).unwrap();
            for number in 0..VARIANTS as u64 {
                assert_eq!(shape.payload(Stamp { number, sent: 7 }).len(), least, "{content:?}");
            }
            let error = Shape::fitting(content, least - 1).unwrap_err().to_string();
            assert!(error.ends_with(&format!("at least {least} bytes")), "{error}");
        }
    }

    #[test]
    fn one_byte_that_is_another_is_seen() {
        for content in [Content::Text, Content::Json, Content::Line] {
            let shape = Shape::new(content, 300);
            let stamp = Stamp { number: 3, sent: 77 };
            let whole = shape.payload(stamp);
            for at in 0..whole.len() {
                let mut payload = whole.clone();
                payload[at] ^= 1;
                assert_ne!(shape.read(&payload), Some(stamp), "{content:?} at {at}");
            }
            assert_eq!(shape.read(&whole[..whole.len() - 1]), None);
            assert_eq!(shape.read(&[&whole[..], b" "].concat()), None);
        }
    }

    #[test]
    fn documents_are_json_and_differ() {
        let shape = Shape::new(Content::Json, 1024);
        let document = |number| String::from_utf8(shape.payload(Stamp { number, sent: 0 })).unwrap();
        let value: serde_json::Value = serde_json::from_str(&document(5)).unwrap();
        assert!(value["quotes"].as_array().unwrap().len() >= 8, "{value}");
        assert_ne!(document(5)[60..], document(6)[60..]);
        let line = Shape::new(Content::Line, 64).payload(Stamp { number: 1, sent: 2 });
        assert!(serde_json::from_slice::<String>(&line).unwrap().ends_with("xx"));
    }

    #[test]
    fn text_is_what_a_stamp_alone_would_write() {
        let stamp = Stamp { number: 4, sent: 5 };
        assert_eq!(Shape::new(Content::Text, 90).payload(stamp), stamp.payload(90).into_bytes());
        assert_eq!(Shape::new(Content::Text, 3).length(), LEAST);
    }
}
