//! Encodings kept with an event: made by the first subscriber that needs one, shared by all others.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use bytes::Bytes;

/// Most kinds of encoding an event keeps: those of this workspace are ten.
const KINDS: usize = 16;
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Names one wire form of an event, registered by an adapter as a `static`.
///
/// The encodings of the first sixteen keys used in a process are kept; further ones work but are made anew each time.
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

    fn kind(&self) -> Option<usize> {
        let index = *self.index.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed));
        (index < KINDS).then_some(index)
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
    /// By kind. An event is seldom asked for more than two or three.
    made: Vec<(usize, Bytes)>,
    account: Option<EncodingAccount>,
}

impl Encodings {
    pub(crate) fn counted_in(account: EncodingAccount) -> Self {
        Self(Mutex::new(Kept { made: Vec::new(), account: Some(account) }))
    }

    /// The kept encoding, or the one `make` makes, which is kept from then on. Nothing is locked while it is made,
    /// since one encoding may be made of another; of two made at the same time one is kept.
    pub(crate) fn get_or_make(&self, key: &FormatKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let Some(kind) = key.kind() else { return make() };
        let known = self.lock().find(kind);
        match known {
            Some(known) => known,
            None => {
                let made = make();
                self.lock().keep(kind, made)
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
    fn find(&self, kind: usize) -> Option<Bytes> {
        self.made.iter().find(|(known, _)| *known == kind).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&mut self, kind: usize, made: Bytes) -> Bytes {
        let Some(account) = &self.account else { return made };
        if let Some(known) = self.find(kind) {
            return known;
        }
        account.0.fetch_add(made.len() as u64, Ordering::Relaxed);
        self.made.push((kind, made.clone()));
        made
    }

    fn settle(&self) {
        let bytes: usize = self.made.iter().map(|(_, bytes)| bytes.len()).sum();
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
