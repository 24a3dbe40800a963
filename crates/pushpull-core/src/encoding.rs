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
pub struct EncodingAccount(Arc<Account>);

#[derive(Debug, Default)]
struct Account {
    bytes: AtomicU64,
    /// Events that keep some.
    holding: AtomicUsize,
    /// Events before this seq begin to keep none.
    from: AtomicU64,
}

impl EncodingAccount {
    /// Bytes kept now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// From now on no event before `seq` keeps encodings that has kept none so far. Returns whether any may have kept
    /// some: then the store is to have those before `seq` forgotten ([`Event::forget_encodings`]).
    ///
    /// [`Event::forget_encodings`]: crate::Event::forget_encodings
    #[must_use]
    pub fn keep_from(&self, seq: u64) -> bool {
        // Who begins to keep some is counted before he looks whether he may, so one of both sees the other.
        self.0.from.store(seq, Ordering::SeqCst);
        self.0.holding.load(Ordering::SeqCst) > 0
    }

    /// Events from `seq` on keep encodings again: the sequence has gone back to there.
    pub fn keep_again_from(&self, seq: u64) {
        self.0.from.fetch_min(seq, Ordering::SeqCst);
    }

    /// Counts the event at `seq` among those that keep some, if it may.
    fn admit(&self, seq: u64) -> bool {
        self.0.holding.fetch_add(1, Ordering::SeqCst);
        let may_keep = self.0.from.load(Ordering::SeqCst) <= seq;
        if !may_keep {
            self.0.holding.fetch_sub(1, Ordering::SeqCst);
        }
        may_keep
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

    /// None yet, counted as these.
    pub(crate) fn alike(&self) -> Self {
        let mut encodings = Self::default();
        encodings.account.clone_from(&self.account);
        encodings
    }

    /// Drops what is kept; what is made from now on is kept again.
    pub(crate) fn empty(&mut self) {
        if std::mem::take(self.stage.get_mut()) == HOLDING {
            let made = self.lock().take();
            self.settle(made.as_deref());
        }
    }

    /// The kept encoding, or the one `make` makes, which is kept from then on. Nothing is locked while it is made,
    /// since one encoding may be made of another; of two made at the same time one is kept.
    /// `seq` is that of the event.
    pub(crate) fn get_or_make(&self, seq: u64, key: &FormatKey, make: impl FnOnce() -> Bytes) -> Bytes {
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
        self.keep(account, seq, kind, make())
    }

    /// Drops what is kept; what is made from now on is not kept.
    pub(crate) fn forget(&self) {
        let is_forgotten = self.stage.load(Ordering::Acquire) == FORGOTTEN;
        if !is_forgotten && self.stage.swap(FORGOTTEN, Ordering::AcqRel) == HOLDING {
            let made = self.lock().take();
            self.settle(made.as_deref());
        }
    }

    fn keep(&self, account: &EncodingAccount, seq: u64, kind: usize, bytes: Bytes) -> Bytes {
        let mut made = self.lock();
        match self.stage.compare_exchange(EMPTY, HOLDING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) if !account.admit(seq) => {
                self.stage.store(FORGOTTEN, Ordering::Release);
                return bytes;
            }
            Err(FORGOTTEN) => return bytes,
            _ => {}
        }
        if let Some(known) = find(&made, kind) {
            return known;
        }
        account.0.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let before = made.take();
        *made = Some(Box::new(Made { kind, bytes: bytes.clone(), before }));
        bytes
    }

    fn settle(&self, made: Option<&Made>) {
        // Who was not let keep any was not counted.
        if let (Some(account), Some(_)) = (&self.account, made) {
            let bytes: usize = all(made).map(|made| made.bytes.len()).sum();
            account.0.holding.fetch_sub(1, Ordering::SeqCst);
            account.0.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
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
