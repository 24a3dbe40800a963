//! What a broker keeps, and for how long.

use std::time::Duration;

/// What a broker keeps, and for how long. Every bound has a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retention {
    /// Most events of a topic. Default: 10,000; at least 1.
    pub messages: usize,
    /// Most bytes of events and their kept encodings in all. Default: 256 MiB.
    pub bytes: u64,
    /// Most bytes of one topic's events, so that none can evict all the others' history. Default: 64 MiB.
    pub topic_bytes: u64,
    /// How long an event is kept, by monotonic time: never shorter for its age, and longer by at most a 256th of it, so
    /// that what comes close together goes together. Default: no limit.
    pub age: Option<Duration>,
    /// Most keys of a topic whose newest events are kept apart for snapshots. Default: 10,000.
    pub keys: usize,
    /// Most bytes of the newest events kept apart (of each key, of each topic) in all; beyond it the topics
    /// that were published to longest ago are forgotten. Default: 256 MiB.
    pub kept_bytes: u64,
    /// Most topic records; beyond it the topics that were published to longest ago are forgotten.
    /// Default: 1,000,000; at least 1.
    pub topics: usize,
    /// Largest payload, in bytes. Default: 1 MiB. A server in front has a limit of its own, of the same default.
    pub payload: usize,
    /// How long an idempotency id is remembered. Default: 2 minutes.
    pub idempotency_window: Duration,
    /// Most idempotency ids remembered; a full window refuses, it never forgets early. Default: 1,000,000.
    pub idempotency_ids: usize,
    /// The newest events that keep their encodings, and at most a 64th more. Default: 4,096.
    pub encoded_messages: usize,
    /// Most bytes of kept encodings. Default: 16 MiB.
    pub encoded_bytes: u64,
    /// Most events of one snapshot; a larger one is refused. Default: 1,000,000.
    pub snapshot_messages: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            messages: 10_000,
            bytes: 256 << 20,
            topic_bytes: 64 << 20,
            age: None,
            keys: 10_000,
            kept_bytes: 256 << 20,
            topics: 1_000_000,
            payload: 1 << 20,
            idempotency_window: Duration::from_secs(120),
            idempotency_ids: 1_000_000,
            encoded_messages: 4096,
            encoded_bytes: 16 << 20,
            snapshot_messages: 1_000_000,
        }
    }
}

impl Retention {
    /// Sets the most events of a topic (at least 1).
    #[must_use]
    pub fn with_messages(mut self, messages: usize) -> Self {
        self.messages = messages.max(1);
        self
    }

    /// Sets the most bytes in all.
    #[must_use]
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets the most bytes of one topic.
    #[must_use]
    pub fn with_topic_bytes(mut self, bytes: u64) -> Self {
        self.topic_bytes = bytes;
        self
    }

    /// Sets the age of the oldest event.
    #[must_use]
    pub fn with_age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Sets the most keys of a topic.
    #[must_use]
    pub fn with_keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    /// Sets the most bytes of events kept apart.
    #[must_use]
    pub fn with_kept_bytes(mut self, bytes: u64) -> Self {
        self.kept_bytes = bytes;
        self
    }

    /// Sets the most topic records (at least 1).
    #[must_use]
    pub fn with_topics(mut self, topics: usize) -> Self {
        self.topics = topics.max(1);
        self
    }

    /// Sets the largest payload.
    #[must_use]
    pub fn with_payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// Sets how long, and how many, idempotency ids are remembered.
    #[must_use]
    pub fn with_idempotency(mut self, window: Duration, ids: usize) -> Self {
        self.idempotency_window = window;
        self.idempotency_ids = ids;
        self
    }

    /// Sets how many of the newest events keep their encodings, and in how many bytes.
    #[must_use]
    pub fn with_encodings(mut self, messages: usize, bytes: u64) -> Self {
        self.encoded_messages = messages;
        self.encoded_bytes = bytes;
        self
    }
}
