//! Encodings kept with an event: made by the first subscriber that needs one, shared by all others.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
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
pub(crate) struct Encodings {
    account: Option<EncodingAccount>,
    /// One of [`EMPTY`], [`HOLDING`] and [`FORGOTTEN`], so that nothing is locked where nothing is kept.
    stage: AtomicU8,
    /// An event is seldom asked for more than two or three.
    made: Mutex<Option<Box<Made>>>,
}

/// Nothing was kept yet.
const EMPTY: u8 = 0;
/// Something may be kept. Set under the lock.
const HOLDING: u8 = 1;
/// Nothing is kept from now on.
const FORGOTTEN: u8 = 2;

#[derive(Debug)]
struct Made {
    kind: usize,
    bytes: Bytes,
    before: Option<Box<Self>>,
}

impl Encodings {
    pub(crate) fn counted_in(account: EncodingAccount) -> Self {
        let mut encodings = Self::default();
        encodings.account = Some(account);
        encodings
    }

    /// The kept encoding, or the one `make` makes, which is kept from then on. Nothing is locked while it is made,
    /// since one encoding may be made of another; of two made at the same time one is kept.
    pub(crate) fn get_or_make(&self, key: &FormatKey, make: impl FnOnce() -> Bytes) -> Bytes {
        let (Some(kind), Some(account)) = (key.kind(), &self.account) else { return make() };
        match self.stage.load(Ordering::Acquire) {
            EMPTY => {}
            HOLDING => {
                let known = find(&self.lock(), kind);
                if let Some(known) = known {
                    return known;
                }
            }
            _ => return make(),
        }
        self.keep(account, kind, make())
    }

    /// Drops what is kept; what is made from now on is not kept.
    pub(crate) fn forget(&self) {
        let is_forgotten = self.stage.load(Ordering::Acquire) == FORGOTTEN;
        if !is_forgotten && self.stage.swap(FORGOTTEN, Ordering::AcqRel) == HOLDING {
            let made = self.lock().take();
            self.settle(made.as_deref());
        }
    }

    fn keep(&self, account: &EncodingAccount, kind: usize, bytes: Bytes) -> Bytes {
        let mut made = self.lock();
        let stage = self.stage.compare_exchange(EMPTY, HOLDING, Ordering::AcqRel, Ordering::Acquire);
        if stage == Err(FORGOTTEN) {
            return bytes;
        }
        if let Some(known) = find(&made, kind) {
            return known;
        }
        account.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let before = made.take();
        *made = Some(Box::new(Made { kind, bytes: bytes.clone(), before }));
        bytes
    }

    fn settle(&self, made: Option<&Made>) {
        if let Some(account) = &self.account {
            let bytes: usize = all(made).map(|made| made.bytes.len()).sum();
            account.0.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Made>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(made: &Option<Box<Made>>, kind: usize) -> Option<Bytes> {
    all(made.as_deref()).find(|made| made.kind == kind).map(|made| made.bytes.clone())
}

fn all(made: Option<&Made>) -> impl Iterator<Item = &Made> {
    std::iter::successors(made, |made| made.before.as_deref())
}

impl Drop for Encodings {
    fn drop(&mut self) {
        if *self.stage.get_mut() == HOLDING {
            let made = self.lock().take();
            self.settle(made.as_deref());
        }
    }
}
