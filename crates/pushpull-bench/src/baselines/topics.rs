//! What is published, by topic.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::broadcast;

/// How many messages a subscriber may be behind before it loses the oldest.
const CAPACITY: usize = 1024;

/// A broadcast a topic, made when it is first asked for and kept.
pub(crate) struct Topics<T>(Arc<RwLock<HashMap<String, broadcast::Sender<T>>>>);

impl<T: Clone> Topics<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Tells all subscribers of `topic`; it is of no account if there are none.
    pub(crate) fn publish(&self, topic: &str, message: T) {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = topics.get(topic) {
            let _ = sender.send(message);
        }
    }

    /// What is published to `topic` from now on.
    pub(crate) fn subscribe(&self, topic: String) -> broadcast::Receiver<T> {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic).or_insert_with(|| broadcast::channel(CAPACITY).0).subscribe()
    }
}

/// Derived, it would demand that a message can be cloned.
impl<T> Clone for Topics<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// `?topic=`.
#[derive(serde::Deserialize)]
pub(crate) struct Asked {
    pub(crate) topic: String,
}
