//! Events: messages that have their place.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    Cursor, FormatKey, Message, PayloadKind, Topic,
    encoding::{EncodingAccount, Encodings},
};

/// A message that has its place in the sequence. Cheap to clone (shared).
///
/// An event also holds its encodings ([`Event::encoded`]): a wire form is made once and shared by every
/// subscriber.
#[derive(Clone)]
pub struct Event {
    shared: Arc<Shared>,
    view: View,
}

#[derive(Debug)]
struct Shared {
    body: EventParts,
    encodings: Encodings,
}

/// What an [`Event`] is made of.
#[derive(Debug, Clone)]
pub struct EventParts {
    /// The topic it was published to.
    pub topic: Topic,
    /// Its place.
    pub cursor: Cursor,
    /// The event before it on its topic.
    pub prev: Prev,
    /// When the broker took it: Unix milliseconds.
    pub time_ms: u64,
    /// What the producer handed in.
    pub message: Message,
}

/// What came before an event on its topic: the proof that nothing was lost in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prev {
    /// It is the topic's first.
    First,
    /// The cursor of the event before it on its topic.
    At(Cursor),
    /// The node cannot know.
    Unknown,
}

/// How an event is shown to one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum View {
    /// As it is, with its `prev`.
    #[default]
    Plain,
    /// Without `prev`, since events before it were left out on purpose (conflation).
    Thinned,
    /// As part of a snapshot: without `prev`, and no place to resume from.
    Snapshot,
}

impl Event {
    /// An event that keeps no encodings: what a client half makes of what it received.
    pub fn new(parts: EventParts) -> Self {
        Self { shared: Arc::new(Shared { body: parts, encodings: Encodings::default() }), view: View::Plain }
    }

    /// An event that keeps its encodings, counted in `account`, until [`Event::forget_encodings`].
    pub fn keeping_encodings(parts: EventParts, account: EncodingAccount) -> Self {
        let encodings = Encodings::counted_in(account);
        Self { shared: Arc::new(Shared { body: parts, encodings }), view: View::Plain }
    }

    /// Drops the kept encodings, and keeps none from now on, whoever holds the event: what a store does with
    /// its older part.
    pub fn forget_encodings(&self) {
        self.shared.encodings.forget();
    }

    /// The same event, shown as `view` says.
    #[must_use]
    pub fn shown(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    /// How this event is shown to its consumer.
    pub fn view(&self) -> View {
        self.view
    }

    /// Whether it is part of a snapshot.
    pub fn is_snapshot(&self) -> bool {
        self.view == View::Snapshot
    }

    /// The topic it was published to.
    pub fn topic(&self) -> &Topic {
        &self.shared.body.topic
    }

    /// Its place.
    pub fn cursor(&self) -> Cursor {
        self.shared.body.cursor
    }

    /// The event before it on its topic; [`Prev::Unknown`] in any view but [`View::Plain`].
    pub fn prev(&self) -> Prev {
        if self.view == View::Plain { self.shared.body.prev } else { Prev::Unknown }
    }

    /// When the broker took it: Unix milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.shared.body.time_ms
    }

    /// What the producer handed in.
    pub fn message(&self) -> &Message {
        &self.shared.body.message
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        self.message().payload()
    }

    /// The payload's content type.
    pub fn content_type(&self) -> &str {
        self.message().content_type()
    }

    /// What kind of payload the content type makes it.
    pub fn payload_kind(&self) -> PayloadKind {
        self.message().payload_kind()
    }

    /// The event name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.message().name()
    }

    /// The key, if it has one: what conflation and snapshots go by.
    pub fn key(&self) -> Option<&str> {
        self.message().key()
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// If it is not JSON, or not of this shape.
    pub fn json<'de, T: serde::Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.payload())
    }

    /// Its wire form `key`: the kept one, or the one `make` makes. Kept only for [`View::Plain`].
    ///
    /// `make` must be a pure function of the event.
    pub fn encoded(&self, key: &FormatKey, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        match self.view {
            View::Plain => self.shared.encodings.get_or_make(key, || make(self)),
            View::Thinned | View::Snapshot => make(self),
        }
    }

    /// Bytes this event takes in a store, its encodings aside.
    pub fn weight(&self) -> usize {
        self.message().weight() + size_of::<Shared>()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("topic", self.topic())
            .field("cursor", &self.cursor())
            .field("prev", &self.prev())
            .field("view", &self.view)
            .field("message", self.message())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    static LENGTH: FormatKey = FormatKey::new("length");

    fn event(account: &EncodingAccount) -> Event {
        let parts = EventParts {
            topic: "a".parse().unwrap(),
            cursor: Cursor::new(Epoch::from_random(7), 3),
            prev: Prev::First,
            time_ms: 1,
            message: Message::text("abc"),
        };
        Event::keeping_encodings(parts, account.clone())
    }

    #[test]
    fn an_encoding_is_made_once_and_counted() {
        let account = EncodingAccount::default();
        let event = event(&account);
        let made = std::cell::Cell::new(0);
        let encode = |e: &Event| {
            made.set(made.get() + 1);
            Bytes::copy_from_slice(e.payload())
        };
        assert_eq!(event.encoded(&LENGTH, encode), "abc");
        assert_eq!(event.clone().encoded(&LENGTH, encode), "abc");
        assert_eq!((made.get(), account.bytes()), (1, 3));
        event.forget_encodings();
        assert_eq!(account.bytes(), 0);
        assert_eq!(event.encoded(&LENGTH, encode), "abc");
        assert_eq!((made.get(), account.bytes()), (2, 0));
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn an_event_stays_small() {
        assert!(size_of::<Shared>() <= 168, "{}", size_of::<Shared>());
        assert_eq!(size_of::<Event>(), 16);
    }

    #[test]
    fn of_two_made_at_the_same_time_one_is_kept() {
        let account = EncodingAccount::default();
        let event = event(&account);
        let second = |e: &Event| {
            e.encoded(&LENGTH, |_| Bytes::from_static(b"first"));
            Bytes::from_static(b"second")
        };
        assert_eq!(event.encoded(&LENGTH, second), "first");
        assert_eq!(account.bytes(), 5);
    }

    #[test]
    fn what_is_made_while_it_is_forgotten_is_not_kept() {
        let account = EncodingAccount::default();
        let event = event(&account);
        let encode = |e: &Event| {
            e.forget_encodings();
            Bytes::from_static(b"late")
        };
        assert_eq!(event.encoded(&LENGTH, encode), "late");
        assert_eq!(account.bytes(), 0);
    }

    #[test]
    fn an_encoding_may_be_made_of_another() {
        static OUTER: FormatKey = FormatKey::new("outer");
        let event = event(&EncodingAccount::default());
        let outer = |e: &Event| {
            let inner = e.encoded(&LENGTH, |e| e.payload().clone());
            [&b"<"[..], &inner, b">"].concat().into()
        };
        assert_eq!(event.encoded(&OUTER, outer), "<abc>");
        assert_eq!(event.encoded(&LENGTH, |_| panic!("it was kept")), "abc");
    }

    #[test]
    fn a_dropped_event_leaves_the_account() {
        let account = EncodingAccount::default();
        let event = event(&account);
        event.encoded(&LENGTH, |_| Bytes::from_static(b"12345"));
        assert_eq!(account.bytes(), 5);
        drop(event);
        assert_eq!(account.bytes(), 0);
    }

    #[test]
    fn a_thinned_event_hides_its_prev_and_shares_no_encoding() {
        let event = event(&EncodingAccount::default());
        assert_eq!(event.prev(), Prev::First);
        event.encoded(&LENGTH, |_| Bytes::from_static(b"plain"));
        let thinned = event.shown(View::Thinned);
        assert_eq!(thinned.prev(), Prev::Unknown);
        assert_eq!(thinned.encoded(&LENGTH, |_| Bytes::from_static(b"thin")), "thin");
    }
}
