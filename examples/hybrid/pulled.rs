//! A pull that remembers what it brought.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pushpull::{Batch, Context, Cursor, Delivery, Fetch, FetchError, Pull, async_trait};

/// Remembers the newest answer. That is enough, since a hybrid asks again only when its consumer has taken all of the
/// answer before.
pub(crate) struct Pulled<P> {
    pull: P,
    newest: Mutex<HashSet<Cursor>>,
}

impl<P> Pulled<P> {
    pub(crate) fn new(pull: P) -> Self {
        Self { pull, newest: Mutex::default() }
    }

    /// Whether the event just taken came by the pull.
    pub(crate) fn brought(&self, cursor: Cursor) -> bool {
        self.newest().contains(&cursor)
    }

    fn newest(&self) -> MutexGuard<'_, HashSet<Cursor>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<P: Pull> Pull for Pulled<P> {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let batch = self.pull.fetch(cx, request).await?;
        let cursors = batch.deliveries.iter().filter_map(|delivery| match delivery {
            Delivery::Event(event) => Some(event.cursor()),
            _ => None,
        });
        *self.newest() = cursors.collect();
        Ok(batch)
    }
}
