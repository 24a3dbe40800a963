//! Encodings kept with an event: made by the first subscriber that needs one, shared by all others.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
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

/// The encodings of one event. Without an account none are kept.
#[derive(Debug, Default)]
pub(crate) struct Encodings(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    slots: Option<Box<[Option<Bytes>; SLOTS]>>,
    account: Option<EncodingAccount>,
}

impl Encodings {
    pub(crate) fn counted_in(account: EncodingAccount) -> Self {
        Self(Mutex::new(Kept { slots: None, account: Some(account) }))
    }

    /// The kept encoding, or the one `make` makes, which is kept from then on. Nothing is locked while it is made,
    /// since one encoding may be made of another; of two made at the same time one is kept.
    pub(crate) fn get_or_make(&self, key: &FormatKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let Some(slot) = key.slot() else { return make() };
        let known = self.lock().slots.as_ref().and_then(|slots| slots[slot].clone());
        match known {
            Some(known) => known,
            None => {
                let made = make();
                self.lock().keep(slot, made)
            }
        }
    }

    /// Drops what is kept; what is made from now on is not kept.
    pub(crate) fn forget(&self) {
        let mut kept = self.lock();
        kept.settle();
        *kept = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, slot: usize, made: Bytes) -> Bytes {
        let Some(account) = &self.account else { return made };
        let place = &mut self.slots.get_or_insert_default()[slot];
        let kept = place.get_or_insert_with(|| {
            account.0.fetch_add(made.len() as u64, Ordering::Relaxed);
            made
        });
        kept.clone()
    }

    fn settle(&self) {
        let bytes: usize = self.slots.iter().flat_map(|slots| slots.iter().flatten()).map(Bytes::len).sum();
        if let Some(account) = &self.account {
            account.0.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Encodings {
    fn drop(&mut self) {
        self.lock().settle();
    }
}
