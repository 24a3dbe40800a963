//! Encodings kept with an event: made by the first subscriber that needs one, shared by all others.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use bytes::Bytes;

const SLOTS: usize = 8;
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Names one wire form of an event, registered by an adapter as a `static`.
///
/// The first eight keys used in a process get a slot in every event; further ones work but are not kept.
///
/// ```
/// use pushpull_core::FormatKey;
/// static LINES: FormatKey = FormatKey::new("lines");
/// assert_eq!(LINES.name(), "lines");
/// ```
#[derive(Debug)]
pub struct FormatKey {
    name: &'static str,
    index: OnceLock<usize>,
}

impl FormatKey {
    /// A key of the given name (for people only).
    pub const fn new(name: &'static str) -> Self {
        Self { name, index: OnceLock::new() }
    }

    /// The name given to [`FormatKey::new`].
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn slot(&self) -> Option<usize> {
        let index = *self.index.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed));
        (index < SLOTS).then_some(index)
    }
}

/// Counts the bytes that kept encodings take, for a store that bounds them. Cheap to clone (shared).
#[derive(Clone, Debug, Default)]
pub struct EncodingAccount(Arc<AtomicU64>);

impl EncodingAccount {
    /// Bytes kept now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Encodings {
    slots: [OnceLock<Bytes>; SLOTS],
    account: EncodingAccount,
}

impl Encodings {
    pub(crate) fn new(account: EncodingAccount) -> Self {
        Self { slots: Default::default(), account }
    }

    pub(crate) fn get_or_make(&self, key: &FormatKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let Some(slot) = key.slot() else { return make() };
        let kept = self.slots[slot].get_or_init(|| {
            let made = make();
            self.account.0.fetch_add(made.len() as u64, Ordering::Relaxed);
            made
        });
        kept.clone()
    }
}

impl Drop for Encodings {
    fn drop(&mut self) {
        let kept: usize = self.slots.iter().filter_map(OnceLock::get).map(Bytes::len).sum();
        self.account.0.fetch_sub(kept as u64, Ordering::Relaxed);
    }
}
