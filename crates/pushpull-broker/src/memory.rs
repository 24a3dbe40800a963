//! The memory engine: the hub's ring is the store, and history ends with the process.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use pushpull_core::{Epoch, ErrorKind, Problem, PublishError};
use tokio::time::Instant;

use crate::{
    Append, Appended, Capabilities, Engine, Entry, Retention, Tail,
    hub::Ingested,
    idempotency::{Verdict, Window},
};

/// An [`Engine`] of one process: a new epoch at every start, and a cursor survives as long as the process.
#[derive(Debug)]
pub struct MemoryEngine {
    tail: OnceLock<Tail>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: u64,
    window: Window,
}

impl MemoryEngine {
    /// An engine with the idempotency window that `retention` asks for.
    pub fn new(retention: &Retention) -> Self {
        let window = Window::new(retention.idempotency_window, retention.idempotency_ids);
        Self { tail: OnceLock::new(), state: Mutex::new(State { last: 0, window }) }
    }

    pub(crate) fn start(&self, tail: Tail) {
        tail.begin(Epoch::from_random(getrandom::u64().unwrap_or_else(|_| clock_ms())), 0);
        tail.engine_up(true);
        // Opened a second time it goes on feeding the first tail.
        let _ = self.tail.set(tail);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Appends under the lock that orders appends; whoever waits is woken behind it.
    fn append(&mut self, tail: &Tail, append: Append) -> Result<(Appended, Ingested), Problem> {
        let now = Instant::now();
        let fingerprint = match self.window.judge(&append, now)? {
            Verdict::Repeat(appended) => return Ok((appended, Ingested::default())),
            Verdict::New(fingerprint) => fingerprint,
        };
        let appended = Appended::new(self.last + 1, self.last + append.messages.len() as u64);
        if let Some(fingerprint) = fingerprint {
            self.window.remember(&append, fingerprint, appended, now);
        }
        let time_ms = clock_ms();
        let seqs = appended.first..;
        let entry = |(seq, message)| Entry::new(seq, time_ms, append.topic.clone(), message);
        let ingested = tail.take(seqs.zip(append.messages).map(entry).collect());
        self.last = appended.last;
        Ok((appended, ingested))
    }
}

fn clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_batch: true, ..Capabilities::NONE }
    }

    async fn open(&self, tail: Tail) -> Result<(), Problem> {
        self.start(tail);
        Ok(())
    }

    async fn append(&self, append: Append) -> Result<Appended, PublishError> {
        let closed = || Problem::new(ErrorKind::Unavailable, "the engine is not open");
        let tail = self.tail.get().ok_or_else(|| PublishError::not_applied(closed()))?;
        let appended = self.lock().append(tail, append);
        let (appended, ingested) = appended.map_err(PublishError::not_applied)?;
        tail.announce(&ingested);
        Ok(appended)
    }

    async fn probe(&self) -> Result<(), Problem> {
        Ok(())
    }
}
