//! Who waits for which topics: a signal a topic, and one a pattern.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use pushpull_core::{Pattern, Signal, Topic, Waiter};

use crate::{
    topics::{Reader, TopicSlot, Topics},
    trie::Trie,
};

/// The patterns that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    /// Rises with every change of the table. 0: nobody ever waited for a pattern.
    version: AtomicU64,
    table: RwLock<Trie<Watched>>,
}

#[derive(Debug)]
struct Watched {
    post: Arc<Post>,
    watchers: usize,
}

/// Where the watchers of one pattern stand.
#[derive(Debug, Default)]
pub(crate) struct Post {
    signal: Arc<Signal>,
    /// Up to here records of topics that match may have been dropped: before the pattern was watched any
    /// topic's, from then on those that are known to match.
    forgotten_to: AtomicU64,
    /// When, by the number of the loss, such a topic last lost something. 0: before the pattern was watched.
    forgotten_at: AtomicU64,
}

/// The posts of the patterns that match one topic, as of a version of the table.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<(u64, Arc<[Arc<Post>]>)>);

/// Holds a pattern in the table.
#[derive(Debug)]
pub(crate) struct Watch {
    pattern: Pattern,
    post: Arc<Post>,
    patterns: Arc<Patterns>,
}

impl Patterns {
    pub(crate) fn watch(self: &Arc<Self>, pattern: &Pattern, topics: &Topics) -> Watch {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let entry = table.entry(pattern);
        let post = match entry {
            Some(watched) => {
                watched.watchers += 1;
                watched.post.clone()
            }
            None => {
                let post = Arc::<Post>::default();
                *entry = Some(Watched { post: post.clone(), watchers: 1 });
                self.version.fetch_add(1, Ordering::SeqCst);
                // Behind the version: what is forgotten from now on either finds the post or is seen here.
                post.forgotten_to.fetch_max(topics.forgotten_to(), Ordering::SeqCst);
                post
            }
        };
        Watch { pattern: pattern.clone(), post, patterns: self.clone() }
    }

    /// Notes at the posts that match the topic of `slot` that its record is dropped, by which it lost all up to `seq`.
    /// Call it after [`Topics::forget_to`], and after the loss was dated.
    pub(crate) fn forget_to(&self, seq: u64, slot: &TopicSlot) {
        let version = self.version.load(Ordering::SeqCst);
        if version == 0 {
            return;
        }
        let at = slot.lost_at.load(Ordering::Acquire);
        for post in slot.watchers.current(version, &slot.topic, self).iter() {
            post.forgotten_to.fetch_max(seq, Ordering::SeqCst);
            post.forgotten_at.fetch_max(at, Ordering::SeqCst);
        }
    }

    /// Lets `change` the place up to which records may have been dropped, and when the last one was, of every pattern.
    pub(crate) fn forget_all(&self, change: impl Fn(u64, u64) -> (u64, u64)) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.all(|watched| {
            let Post { forgotten_to, forgotten_at, .. } = &*watched.post;
            let (to, at) = change(forgotten_to.load(Ordering::SeqCst), forgotten_at.load(Ordering::SeqCst));
            forgotten_to.store(to, Ordering::SeqCst);
            forgotten_at.store(at, Ordering::SeqCst);
        });
    }

    /// Whether anybody ever waited for a pattern. To be asked under the lock of the ring, after the head was raised: who
    /// begins to wait from then on takes that lock before he looks, and sees the head as it is.
    pub(crate) fn is_used(&self) -> bool {
        self.version.load(Ordering::SeqCst) > 0
    }

    /// Raises the signals of the patterns that match `topic`. Call it after the head was raised under the lock of the
    /// ring.
    pub(crate) fn raise(&self, topic: &Topic, watchers: &Watchers) {
        let version = self.version.load(Ordering::SeqCst);
        if version > 0 {
            watchers.current(version, topic, self).iter().for_each(|post| post.signal.raise());
        }
    }

    /// Raises every pattern's signal.
    pub(crate) fn raise_all(&self) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut posts = Vec::new();
        table.all(|watched| posts.push(watched.post.clone()));
        drop(table);
        posts.iter().for_each(|post| post.signal.raise());
    }

    fn matching(&self, topic: &Topic) -> Arc<[Arc<Post>]> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut posts = Vec::new();
        table.matching(topic, |watched| posts.push(watched.post.clone()));
        posts.into()
    }
}

impl Watchers {
    fn current(&self, version: u64, topic: &Topic, patterns: &Patterns) -> Arc<[Arc<Post>]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version {
            *known = (version, patterns.matching(topic));
        }
        known.1.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.patterns.table.write().unwrap_or_else(PoisonError::into_inner);
        let entry = table.entry(&self.pattern);
        let Some(watched) = entry else { return };
        watched.watchers -= 1;
        if watched.watchers == 0 {
            *entry = None;
            table.prune(&self.pattern);
            self.patterns.version.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What one subscription waits for. Most wait for one topic: that needs no memory of its own.
#[derive(Debug)]
pub(crate) enum Interest {
    One(Reader, Waiter),
    Many(Box<Many>),
}

/// Several topics, or a pattern.
#[derive(Debug)]
pub(crate) struct Many {
    readers: Vec<Reader>,
    watches: Vec<Watch>,
    waiters: Vec<Waiter>,
}

impl Interest {
    pub(crate) fn new(
        wanted: &pushpull_core::Topics,
        topics: &Arc<Topics>,
        patterns: &Arc<Patterns>,
    ) -> Self {
        if let Some(topic) = wanted.single() {
            let reader = topics.read(&topic);
            let waiter = Waiter::new(reader.slot.signal.clone());
            return Self::One(reader, waiter);
        }
        let mut readers = Vec::new();
        let mut watches = Vec::new();
        for entry in wanted {
            match entry.to_topic() {
                Some(topic) => readers.push(topics.read(&topic)),
                None => watches.push(patterns.watch(entry, topics)),
            }
        }
        let signals = readers.iter().map(|reader| &reader.slot.signal);
        let waiters =
            signals.chain(watches.iter().map(|watch| &watch.post.signal)).cloned().map(Waiter::new).collect();
        Self::Many(Box::new(Many { readers, watches, waiters }))
    }

    /// The topics that it names.
    pub(crate) fn readers(&self) -> &[Reader] {
        match self {
            Self::One(reader, _) => std::slice::from_ref(reader),
            Self::Many(many) => &many.readers,
        }
    }

    fn watches(&self) -> &[Watch] {
        match self {
            Self::One(..) => &[],
            Self::Many(many) => &many.watches,
        }
    }

    /// Whether every entry names one topic.
    pub(crate) fn is_exact(&self) -> bool {
        self.watches().is_empty()
    }

    /// Up to here records of topics that its patterns match may have been dropped; if `since` a loss of that number,
    /// only by losses behind it.
    pub(crate) fn forgotten_to(&self, since: Option<u64>) -> u64 {
        let posts = self.watches().iter().map(|watch| &watch.post);
        let counts =
            |post: &&Arc<Post>| since.is_none_or(|noted| post.forgotten_at.load(Ordering::SeqCst) > noted);
        posts.filter(counts).map(|post| post.forgotten_to.load(Ordering::SeqCst)).max().unwrap_or(0)
    }

    /// The one signal it waits for, if it is one.
    pub(crate) fn single_signal(&self) -> Option<&Arc<Signal>> {
        match self {
            Self::One(_, waiter) => Some(waiter.signal()),
            Self::Many(many) => match &many.waiters[..] {
                [one] => Some(one.signal()),
                _ => None,
            },
        }
    }

    pub(crate) fn register(&mut self, waker: &Waker) {
        match self {
            Self::One(_, waiter) => waiter.register(waker),
            Self::Many(many) => many.waiters.iter_mut().for_each(|waiter| waiter.register(waker)),
        }
    }
}
