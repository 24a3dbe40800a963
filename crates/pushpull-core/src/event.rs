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

    /// The event that takes the place of this one on its topic, and counts its encodings as this one did. This one's
    /// memory is used again, unless somebody else holds it: then it keeps no encodings from now on.
    #[must_use]
    pub fn replaced(mut self, cursor: Cursor, prev: Prev, time_ms: u64, message: impl Into<Message>) -> Self {
        self.view = View::Plain;
        if let Some(Shared { body, encodings }) = Arc::get_mut(&mut self.shared) {
            (body.cursor, body.prev, body.time_ms, body.message) = (cursor, prev, time_ms, message.into());
            encodings.empty();
            return self;
        }
        self.forget_encodings();
        let (topic, message) = (self.topic().clone(), message.into());
        let body = EventParts { topic, cursor, prev, time_ms, message };
        Self { shared: Arc::new(Shared { body, encodings: self.shared.encodings.alike() }), view: self.view }
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
            View::Plain => self.shared.encodings.get_or_make(self.cursor().seq(), key, || make(self)),
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
    fn an_event_takes_the_memory_of_another_that_nobody_holds() {
        let account = EncodingAccount::default();
        for is_held in [false, true] {
            let before = event(&account);
            before.encoded(&LENGTH, |_| Bytes::from_static(b"12345"));
            let (held, at) = (is_held.then(|| before.clone()), Arc::as_ptr(&before.shared));
            let cursor = Cursor::new(Epoch::from_random(7), 4);
            let after = before.shown(View::Thinned).replaced(cursor, Prev::Unknown, 2, Message::text("d"));
            assert_eq!(account.bytes(), 0);
            assert_eq!((after.topic().as_str(), after.cursor(), after.time_ms()), ("a", cursor, 2));
            assert_eq!(
                (after.prev(), after.view(), &after.payload()[..]),
                (Prev::Unknown, View::Plain, &b"d"[..])
            );
            assert_eq!(Arc::as_ptr(&after.shared) == at, !is_held);
            after.encoded(&LENGTH, |_| Bytes::from_static(b"123"));
            assert_eq!(account.bytes(), 3, "it is counted as the one before");
            if let Some(held) = held {
                assert_eq!((held.cursor().seq(), &held.payload()[..]), (3, &b"abc"[..]));
                held.encoded(&LENGTH, |_| Bytes::from_static(b"12345"));
                assert_eq!(account.bytes(), 3, "it keeps nothing any more");
            }
        }
    }

    #[test]
    fn an_event_before_the_first_that_may_keeps_nothing() {
        let account = EncodingAccount::default();
        let (before, after) = (event(&account), event(&account));
        let keep = |event: &Event| _ = event.encoded(&LENGTH, |_| Bytes::from_static(b"123"));
        assert!(!account.keep_from(3), "none has kept any");
        keep(&before);
        assert!(account.keep_from(4));
        keep(&after);
        assert_eq!(account.bytes(), 3, "what is kept stays until it is forgotten");
        before.forget_encodings();
        assert!(!account.keep_from(5), "who was refused is not counted");
        after.forget_encodings();
        account.keep_again_from(3);
        let again = event(&account);
        keep(&after);
        keep(&again);
        assert_eq!(account.bytes(), 3, "`after` was refused for good");
        drop((after, again));
        assert!(!account.keep_from(9));
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
