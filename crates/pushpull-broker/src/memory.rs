//! The memory engine: the hub's ring is the store, and history ends with the process.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use pushpull_core::{Epoch, ErrorKind, Message, Problem, PublishError, Topic};
use tokio::time::Instant;

use crate::{
    Append, Appended, Capabilities, Engine, Retention, Tail,
    hub::Ingested,
    idempotency::{Verdict, Window},
};

/// An [`Engine`] of one process: a new epoch at every start, and a cursor survives as long as the process.
#[derive(Debug)]
pub struct MemoryEngine {
    tail: OnceLock<Tail>,
    /// Held by appends that bring an id, so that of two with the same one is the first.
    window: Mutex<Window>,
}

impl MemoryEngine {
    /// An engine with the idempotency window that `retention` asks for.
    pub fn new(retention: &Retention) -> Self {
        let window = Window::new(retention.idempotency_window, retention.idempotency_ids);
        Self { tail: OnceLock::new(), window: Mutex::new(window) }
    }

    pub(crate) fn start(&self, tail: Tail) {
        tail.begin(Epoch::from_random(getrandom::u64().unwrap_or_else(|_| clock_ms())), 0);
        tail.engine_up(true);
        // Opened a second time it goes on feeding the first tail.
        let _ = self.tail.set(tail);
    }

    /// Appends `messages`, checked, all or none.
    pub(crate) fn append_now<M>(&self, topic: &Topic, messages: M) -> Result<Appended, PublishError>
    where
        M: AsRef<[Message]> + IntoIterator<Item = Message>,
    {
        let closed = || Problem::new(ErrorKind::Unavailable, "the engine is not open");
        let tail = self.tail.get().ok_or_else(|| PublishError::not_applied(closed()))?;
        let (appended, ingested) = match messages.as_ref().first().and_then(Message::idempotency) {
            None => tail.append(topic, messages, clock_ms()),
            Some(_) => self.append_once(tail, topic, messages).map_err(PublishError::not_applied)?,
        };
        tail.announce(&ingested);
        Ok(appended)
    }

    fn append_once<M>(&self, tail: &Tail, topic: &Topic, messages: M) -> Result<(Appended, Ingested), Problem>
    where
        M: AsRef<[Message]> + IntoIterator<Item = Message>,
    {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = match window.judge(topic, messages.as_ref(), now)? {
            Verdict::Repeat(appended) => return Ok((appended, Ingested::default())),
            Verdict::New(known) => known,
        };
        let (appended, ingested) = tail.append(topic, messages, clock_ms());
        if let Some((key, fingerprint)) = known {
            window.remember(key, fingerprint, appended, now);
        }
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
        self.append_now(&append.topic, append.messages)
    }

    async fn probe(&self) -> Result<(), Problem> {
        Ok(())
    }
}
