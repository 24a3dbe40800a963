//! The frames of one message, read one at a time out of its bytes: as values they would take many times as much.

use bytes::Bytes;
use pushpull_http::problem::MAX_BATCH;
use serde_json::value::RawValue;

use super::{ClientFrame, Unread, json, proto};
use crate::{Subprotocol, decoder::Message};

/// What is left of a message. Of an array in which one is no frame, or of more than [`MAX_BATCH`], none counts: all are
/// looked at before the first is given.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Bytes,
    form: Form,
    /// Where the next one begins; `None` behind the last.
    at: Option<usize>,
}

#[derive(Debug)]
enum Form {
    Proto,
    Object,
    Array(Array),
}

#[derive(Debug)]
struct Array {
    first: usize,
    /// How many were looked at.
    count: usize,
    is_checked: bool,
}

impl Frames {
    /// Those of `message`.
    ///
    /// # Errors
    /// If it is of the wrong kind, or an array that is none.
    pub(crate) fn of(message: Message, subprotocol: Subprotocol) -> Result<Self, Unread> {
        match (subprotocol, message) {
            (Subprotocol::Json, Message::Text(text)) => Self::of_json(text),
            (Subprotocol::Proto, Message::Binary(bytes)) => {
                Ok(Self { bytes, form: Form::Proto, at: Some(0) })
            }
            _ => Err(Unread::Kind),
        }
    }

    fn of_json(text: Bytes) -> Result<Self, Unread> {
        let begin = skip_space(&text, 0);
        if text.get(begin) != Some(&b'[') {
            return Ok(Self { bytes: text, form: Form::Object, at: Some(0) });
        }
        let first = skip_space(&text, begin + 1);
        let is_empty = text.get(first) == Some(&b']');
        if is_empty && skip_space(&text, first + 1) < text.len() {
            return Err(Unread::NoFrame);
        }
        let array = Array { first, count: 0, is_checked: false };
        Ok(Self { bytes: text, form: Form::Array(array), at: (!is_empty).then_some(first) })
    }

    /// The bytes it keeps.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.at.is_none()
    }

    /// The next frame; `None` also where one more of an array was looked at. `spent` grows by the work it was, in bytes.
    ///
    /// # Errors
    /// If it is no frame: then nothing is left.
    pub(crate) fn next(&mut self, spent: &mut usize) -> Result<Option<ClientFrame>, Unread> {
        let Some(at) = self.at.take() else { return Ok(None) };
        let (bytes, frame) = match &mut self.form {
            Form::Proto => (self.bytes.len(), proto::parse(&self.bytes)?),
            Form::Object => (self.bytes.len(), json::parse(&self.bytes)?),
            Form::Array(array) => {
                let (text, next) = element(&self.bytes, at)?;
                let frame = json::parse(text)?;
                *spent += text.len() + frame.weight();
                self.at = array.behind(next)?;
                return Ok(array.is_given().then_some(frame));
            }
        };
        *spent += bytes + frame.weight();
        Ok(Some(frame))
    }
}

impl Array {
    /// Notes that a frame was read, behind which the next one begins at `next`, and says where to go on.
    fn behind(&mut self, next: Option<usize>) -> Result<Option<usize>, Unread> {
        self.count += 1;
        if !self.is_checked && self.count > MAX_BATCH {
            return Err(Unread::TooLarge);
        }
        if self.is_checked || next.is_some() {
            return Ok(next);
        }
        (self.is_checked, self.count) = (true, 0);
        Ok(Some(self.first))
    }

    /// Whether the frame that was just noted is one of the second look.
    fn is_given(&self) -> bool {
        self.is_checked && self.count > 0
    }
}

/// The element that begins at `at`, and where the one behind it does.
fn element(text: &[u8], at: usize) -> Result<(&[u8], Option<usize>), Unread> {
    let mut values = serde_json::Deserializer::from_slice(&text[at..]).into_iter::<&RawValue>();
    let Some(Ok(value)) = values.next() else { return Err(Unread::NoFrame) };
    let end = skip_space(text, at + values.byte_offset());
    let next = match text.get(end) {
        Some(b',') => Some(end + 1),
        Some(b']') if skip_space(text, end + 1) == text.len() => None,
        _ => return Err(Unread::NoFrame),
    };
    Ok((value.get().as_bytes(), next))
}

fn skip_space(text: &[u8], at: usize) -> usize {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    at + text[at..].iter().take_while(|byte| is_space(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids of all frames, and how many steps it took to get them.
    fn read(text: &str) -> Result<(Vec<String>, usize), Unread> {
        let mut frames = Frames::of(Message::Text(text.to_owned().into()), Subprotocol::Json)?;
        let (mut ids, mut steps) = (Vec::new(), 0);
        while !frames.is_done() {
            let mut spent = 0;
            let frame = frames.next(&mut spent)?;
            assert!(spent > size_of::<ClientFrame>(), "{spent}");
            ids.extend(frame.map(|frame| frame.id.map_or(String::new(), |id| id.to_string())));
            steps += 1;
        }
        Ok((ids, steps))
    }

    #[test]
    fn an_array_is_read_one_by_one_once_all_of_it_is_known_to_be_frames() {
        let one = r#"{"credit":{"id":1,"events":"]"}}"#;
        let ids = |count: usize| vec!["1".to_owned(); count];
        for (text, count, steps) in [
            (one.to_owned(), 1, 1),
            (format!(" \n{one}\t"), 1, 1),
            ("[]".to_owned(), 0, 0),
            (" [ ] ".to_owned(), 0, 0),
            (format!("[{one}]"), 1, 2),
            (format!("\r[ {one} ,\n{one}\t, {one} ] "), 3, 6),
        ] {
            assert_eq!(read(&text), Ok((ids(count), steps)), "{text}");
        }
    }

    #[test]
    fn of_an_array_that_is_none_nothing_is_given() {
        let one = r#"{"credit":{}}"#;
        for text in [
            "[".to_owned(),
            "[] x".to_owned(),
            "[,]".to_owned(),
            format!("[{one}"),
            format!("[{one},]"),
            format!("[{one}]]"),
            format!("[{one} {one}]"),
            format!("[{one}],{one}"),
            format!("[[{one}]]"),
            format!("[{one},1]"),
            format!("[{one},{{\"credit\":{{\"more\":1}}}}]"),
        ] {
            let mut frames = match Frames::of(Message::Text(text.clone().into()), Subprotocol::Json) {
                Ok(frames) => frames,
                Err(unread) => {
                    assert_eq!(unread, Unread::NoFrame, "{text}");
                    continue;
                }
            };
            let unread = loop {
                match frames.next(&mut 0) {
                    Ok(None) => assert!(!frames.is_done(), "{text}"),
                    Ok(given) => panic!("{text} gave {given:?}"),
                    Err(unread) => break unread,
                }
            };
            assert_eq!((unread, frames.is_done()), (Unread::NoFrame, true), "{text}");
        }
    }

    #[test]
    fn an_array_has_no_more_frames_than_a_batch_has_messages() {
        let array = |count: usize| format!("[{}]", vec![r#"{"credit":{}}"#; count].join(","));
        assert_eq!(read(&array(MAX_BATCH)).map(|(ids, _)| ids.len()), Ok(10_000));
        assert_eq!(read(&array(MAX_BATCH + 1)), Err(Unread::TooLarge));
    }
}
