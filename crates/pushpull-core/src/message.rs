//! Messages: what a producer hands in.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::de::IgnoredAny;

/// The content type of a message that names none.
pub const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

const MAX_NAME: usize = 64;
const MAX_KEY: usize = 255;
const MAX_CONTENT_TYPE: usize = 255;

/// What a producer hands in: a payload, its content type, and optionally an event name, a key and an
/// idempotency id.
///
/// Setters take any text; [`Message::check`], which every broker calls at publish, refuses what the wire
/// contract (section 1) does not allow.
#[derive(Clone, Debug)]
pub struct Message {
    payload: Bytes,
    content_type: Cow<'static, str>,
    /// Most messages have none of them.
    labels: Option<Arc<Labels>>,
    checked: bool,
}

#[derive(Clone, Debug, Default)]
struct Labels {
    name: Option<Arc<str>>,
    key: Option<Arc<str>>,
    idempotency: Option<Arc<str>>,
}

/// What a content type makes of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadKind {
    /// `application/json` or `+json`.
    Json,
    /// `text/*` that is valid UTF-8.
    Text,
    /// All else.
    Binary,
}

/// Why a message is refused. Nothing was published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The payload's type says JSON, but it is not.
    #[error("the payload is not valid JSON: {0}")]
    Json(String),
    /// The payload's type says text, but it is not UTF-8.
    #[error("a payload of type text/* must be UTF-8")]
    Text,
    /// Not 1..=64 bytes, a control character, or a reserved name.
    #[error(
        "an event name has 1 to 64 bytes, no control characters, and is not open, error, message or pushpull-…"
    )]
    Name,
    /// Not 1..=255 bytes, or a control character.
    #[error("a key has 1 to 255 bytes and no control characters")]
    Key,
    /// Not 1..=255 bytes, or a control character.
    #[error("an idempotency id has 1 to 255 bytes and no control characters")]
    Idempotency,
    /// Not `type/subtype`, longer than 255 bytes, or a control character.
    #[error("a content type has the form type/subtype, at most 255 bytes")]
    ContentType,
}

impl Message {
    /// A message with a payload of [`DEFAULT_CONTENT_TYPE`].
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            content_type: Cow::Borrowed(DEFAULT_CONTENT_TYPE),
            labels: None,
            checked: false,
        }
    }

    /// A message whose payload is `value` as JSON (`application/json`).
    ///
    /// # Errors
    /// If `value` cannot be serialized.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new(serde_json::to_vec(value)?).with_content_type("application/json"))
    }

    /// A message whose payload is text (`text/plain; charset=utf-8`).
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into().into_bytes()).with_content_type("text/plain; charset=utf-8")
    }

    /// Sets the payload's content type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> Self {
        self.content_type = content_type.into();
        self.checked = false;
        self
    }

    /// Sets the event name: 1..=64 bytes, no control characters; `open`, `error`, `message` and
    /// `pushpull-…` are refused.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.labels_mut().name = Some(name.into());
        self
    }

    /// Sets the key, what conflation and snapshots go by: 1..=255 bytes, no control characters. A keyed
    /// message with an empty payload removes its key, whatever its content type.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.labels_mut().key = Some(key.into());
        self
    }

    /// Sets the idempotency id (1..=255 bytes): a repeat on the same topic within the window returns the
    /// first cursor and publishes nothing.
    #[must_use]
    pub fn with_idempotency(mut self, id: impl Into<Arc<str>>) -> Self {
        self.labels_mut().idempotency = Some(id.into());
        self
    }

    fn labels_mut(&mut self) -> &mut Labels {
        self.checked = false;
        Arc::make_mut(self.labels.get_or_insert_default())
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload's content type.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The event name.
    pub fn name(&self) -> Option<&str> {
        self.labels.as_ref()?.name.as_deref()
    }

    /// The key.
    pub fn key(&self) -> Option<&str> {
        self.shared_key().map(|key| &**key)
    }

    /// The key, shared.
    pub fn shared_key(&self) -> Option<&Arc<str>> {
        self.labels.as_ref()?.key.as_ref()
    }

    /// The idempotency id.
    pub fn idempotency(&self) -> Option<&str> {
        self.labels.as_ref()?.idempotency.as_deref()
    }

    /// What the content type makes of the payload.
    pub fn payload_kind(&self) -> PayloadKind {
        match essence_kind(&self.content_type) {
            PayloadKind::Text if !self.checked && std::str::from_utf8(&self.payload).is_err() => {
                PayloadKind::Binary
            }
            kind => kind,
        }
    }

    /// Bytes it takes in a store.
    pub fn weight(&self) -> usize {
        let texts = |labels: &Labels| {
            let texts = [&labels.name, &labels.key, &labels.idempotency];
            let texts = texts.iter().filter_map(|text| text.as_ref());
            size_of::<Labels>() + texts.map(|text| text.len()).sum::<usize>()
        };
        self.payload.len() + self.labels.as_deref().map_or(0, texts)
    }

    /// Checks it against the wire contract; CR and LF between the tokens of a JSON payload become spaces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(mut self) -> Result<Self, MessageError> {
        if let Some(payload) = self.mended()? {
            self.payload = payload;
        }
        self.checked = true;
        Ok(self)
    }

    /// The same, of a message that somebody else keeps.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checked(&self) -> Result<Checked<'_>, MessageError> {
        Ok(Checked(match self.mended()? {
            None => Sound::AsItIs(self),
            Some(payload) => Sound::Mended(Box::new(Self { payload, ..self.clone() })),
        }))
    }

    /// Checks it. Returns the payload that it is to have, if that is another.
    fn mended(&self) -> Result<Option<Bytes>, MessageError> {
        if self.checked {
            return Ok(None);
        }
        self.labels.as_deref().map_or(Ok(()), Labels::check)?;
        match self.content_type == DEFAULT_CONTENT_TYPE {
            true => Ok(None),
            false => self.mended_typed(),
        }
    }

    /// Checks the content type, and the payload against it.
    fn mended_typed(&self) -> Result<Option<Bytes>, MessageError> {
        let typed = self.content_type.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        check_text(Some(&self.content_type), MAX_CONTENT_TYPE)
            .filter(|()| typed)
            .ok_or(MessageError::ContentType)?;
        match essence_kind(&self.content_type) {
            // A producer of JSON removes a key without changing the type.
            PayloadKind::Json if self.payload.is_empty() && self.key().is_some() => Ok(None),
            PayloadKind::Json => mended_json(&self.payload),
            PayloadKind::Text if std::str::from_utf8(&self.payload).is_err() => Err(MessageError::Text),
            _ => Ok(None),
        }
    }
}

/// A message that was checked ([`Message::checked`]), to be copied once, to where it is to stay.
#[derive(Clone, Debug)]
pub struct Checked<'a>(Sound<'a>);

#[derive(Clone, Debug)]
enum Sound<'a> {
    AsItIs(&'a Message),
    Mended(Box<Message>),
}

impl Checked<'_> {
    /// The message.
    pub fn message(&self) -> &Message {
        match &self.0 {
            Sound::AsItIs(message) => message,
            Sound::Mended(message) => message,
        }
    }
}

impl From<&Checked<'_>> for Message {
    fn from(checked: &Checked<'_>) -> Self {
        let Self { payload, content_type, labels, checked: _ } = checked.message();
        let (payload, content_type, labels) = (payload.clone(), content_type.clone(), labels.clone());
        Self { payload, content_type, labels, checked: true }
    }
}

impl Labels {
    fn check(&self) -> Result<(), MessageError> {
        check_text(self.name.as_deref(), MAX_NAME).ok_or(MessageError::Name)?;
        if self.name.as_deref().is_some_and(is_reserved) {
            return Err(MessageError::Name);
        }
        check_text(self.key.as_deref(), MAX_KEY).ok_or(MessageError::Key)?;
        check_text(self.idempotency.as_deref(), MAX_KEY).ok_or(MessageError::Idempotency)
    }
}

fn is_reserved(name: &str) -> bool {
    matches!(name, "open" | "error" | "message") || name.starts_with("pushpull-")
}

fn check_text(text: Option<&str>, max: usize) -> Option<()> {
    let Some(text) = text else { return Some(()) };
    (!text.is_empty() && text.len() <= max && !has_control(text)).then_some(())
}

fn has_control(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    !is_plain && text.chars().any(char::is_control)
}

fn essence_kind(content_type: &str) -> PayloadKind {
    let essence = content_type.split(';').next().unwrap_or_default().trim_ascii();
    let ends_with = |suffix: &str| {
        essence.len() >= suffix.len()
            && essence.as_bytes()[essence.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
    };
    if essence.eq_ignore_ascii_case("application/json") || ends_with("+json") {
        PayloadKind::Json
    } else if essence.as_bytes().get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/")) {
        PayloadKind::Text
    } else {
        PayloadKind::Binary
    }
}

fn mended_json(payload: &Bytes) -> Result<Option<Bytes>, MessageError> {
    let text = std::str::from_utf8(payload).map_err(|e| MessageError::Json(e.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| MessageError::Json(e.to_string()))?;
    if !payload.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Ok(None);
    }
    // In valid JSON a raw CR or LF stands only between tokens: strings carry them escaped.
    let on_one_line = payload.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte });
    Ok(Some(on_one_line.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_alone_makes_the_kind() {
        for (content_type, kind) in [
            ("application/json", PayloadKind::Json),
            ("Application/JSON; charset=utf-8", PayloadKind::Json),
            ("application/problem+json", PayloadKind::Json),
            ("text/html", PayloadKind::Text),
            ("TEXT/plain", PayloadKind::Text),
            ("application/jsonl", PayloadKind::Binary),
            ("image/png", PayloadKind::Binary),
        ] {
            let message = Message::new("1").with_content_type(content_type).check().unwrap();
            assert_eq!(message.payload_kind(), kind, "{content_type}");
        }
    }

    #[test]
    fn a_message_that_stays_where_it_is_is_checked_as_one_that_is_handed_over() {
        let messages = [
            Message::new("x"),
            Message::text("x").with_key("k").with_name("n"),
            Message::new("{\n}").with_content_type("application/json").with_idempotency("i"),
            Message::new("{").with_content_type("application/json"),
            Message::new("x").with_name("open"),
        ];
        for message in messages {
            let kept = message.checked().map(|checked| Message::from(&checked));
            let handed_over = message.check();
            assert_eq!(format!("{kept:?}"), format!("{handed_over:?}"));
        }
    }

    #[test]
    fn json_is_checked_and_put_on_one_line() {
        let json = |text: &'static str| Message::new(text).with_content_type("application/json").check();
        assert_eq!(json("{\r\n \"a\" : \"x\\ny\"\n}").unwrap().payload(), "{   \"a\" : \"x\\ny\" }");
        for bad in ["", "{", "{\"a\":}", "1 2", "nul", "\"a\nb\""] {
            assert!(matches!(json(bad), Err(MessageError::Json(_))), "{bad:?}");
        }
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        let checked = Message::new(deep.clone()).with_content_type("application/json").check();
        assert_eq!(checked.unwrap().payload(), &deep, "nesting costs no stack");
        let broken = Message::new(&b"\"\xff\""[..]).with_content_type("application/json");
        assert!(matches!(broken.check(), Err(MessageError::Json(_))));
    }

    #[test]
    fn a_key_is_removed_by_an_empty_payload_of_any_type() {
        for content_type in ["application/json", "text/plain", "image/png"] {
            let removal = Message::new("").with_content_type(content_type).with_key("k");
            assert_eq!(removal.check().unwrap().payload(), "", "{content_type}");
        }
        let blank = Message::new(" ").with_content_type("application/json").with_key("k");
        assert!(matches!(blank.check(), Err(MessageError::Json(_))), "it is not empty");
    }

    #[test]
    fn texts_are_checked() {
        let m = || Message::text("x");
        for name in ["", "open", "error", "message", "pushpull-x", "a\nb", &"x".repeat(65)] {
            assert_eq!(m().with_name(name).check().unwrap_err(), MessageError::Name, "{name:?}");
        }
        for key in ["", "a\rb", &"x".repeat(256)] {
            assert_eq!(m().with_key(key).check().unwrap_err(), MessageError::Key, "{key:?}");
            assert_eq!(m().with_idempotency(key).check().unwrap_err(), MessageError::Idempotency);
        }
        for content_type in ["", "text", "/x", "text/", "text/a\nb"] {
            let refused = m().with_content_type(content_type).check();
            assert_eq!(refused.unwrap_err(), MessageError::ContentType, "{content_type:?}");
        }
        assert_eq!(
            Message::new(&b"\xff"[..]).with_content_type("text/plain").check().unwrap_err(),
            MessageError::Text
        );
        assert!(m().with_name("trade").with_key("Ünïcode key").check().unwrap().name() == Some("trade"));
    }
}
