//! What the messages of a connection are written in.

/// A subprotocol of the wire contract, section 4: the same frames, written in one way or the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subprotocol {
    /// `pushpull.v1.json`: text messages, each one JSON object or an array of them. For browsers, and for people.
    #[default]
    Json,
    /// `pushpull.v1.proto`: binary messages, each one frame of the package `pushpull.v1`. Smaller, and cheaper to read
    /// and write; payloads that are no text travel as they are.
    Proto,
}

impl Subprotocol {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Json, Self::Proto];

    /// Its name in `Sec-WebSocket-Protocol`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "pushpull.v1.json",
            Self::Proto => "pushpull.v1.proto",
        }
    }

    /// The one of that name, to the letter.
    #[cfg(feature = "server")]
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}
