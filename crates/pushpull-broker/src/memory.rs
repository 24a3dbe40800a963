//! The memory engine: the hub's ring is the store, and history ends with the process.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use pushpull_core::{Checked, Epoch, ErrorKind, Problem, PublishError, Topic};
use tokio::time::Instant;

use crate::{
    Append, Appended, Capabilities, Engine, Retention, Tail,
    broker::all_checked,
    hub::Ingested,
    idempotency::{Verdict, Window},
};

/// Appends without an id between two looks at the ids that have been remembered for long enough.
const UNLOOKED: u64 = 1024;

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

    /// Appends `messages`, all or none.
    pub(crate) fn append_now(
        &self,
        topic: &Topic,
        messages: &[Checked<'_>],
    ) -> Result<Appended, PublishError> {
        let closed = || Problem::new(ErrorKind::Unavailable, "the engine is not open");
        let tail = self.tail.get().ok_or_else(|| PublishError::not_applied(closed()))?;
        let id = messages.first().and_then(|first| first.message().idempotency()).map(Arc::from);
        let (appended, ingested) = match id {
            None => tail.append(topic, messages, clock_ms),
            Some(id) => self.append_once(tail, topic, id, messages).map_err(PublishError::not_applied)?,
        };
        tail.announce(&ingested);
        if appended.last.is_multiple_of(UNLOOKED) {
            self.forget_old_ids();
        }
        Ok(appended)
    }

    /// Lets the ids go that have been remembered for long enough, though none is brought any more.
    pub(crate) fn forget_old_ids(&self) {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).expire(Instant::now());
    }

    fn append_once(
        &self,
        tail: &Tail,
        topic: &Topic,
        id: Arc<str>,
        messages: &[Checked<'_>],
    ) -> Result<(Appended, Ingested), Problem> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (key, fingerprint) = match window.judge(topic, id, messages.iter().map(Checked::message), now)? {
            Verdict::Repeat(appended) => return Ok((appended, Ingested::default())),
            Verdict::New(key, fingerprint) => (key, fingerprint),
        };
        let (appended, ingested) = tail.append(topic, messages, clock_ms);
        window.remember(key, fingerprint, appended, now);
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
        self.append_now(&append.topic, &all_checked(&append.messages)?)
    }

    async fn probe(&self) -> Result<(), Problem> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pushpull_core::{Message, ProducerExt};

    use super::*;
    use crate::{Broker, hub::Hub};

    const SPAN: Duration = Duration::from_secs(120);

    fn engine() -> MemoryEngine {
        let retention = Retention::default().with_idempotency(SPAN, 1);
        let engine = MemoryEngine::new(&retention);
        engine.start(Tail::new(Arc::new(Hub::new(retention))));
        engine
    }

    fn append(engine: &MemoryEngine, topic: &Topic, message: Message) -> Result<Appended, PublishError> {
        engine.append_now(topic, &all_checked(&[message])?)
    }

    fn ids(engine: &MemoryEngine) -> usize {
        engine.window.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn ids_go_though_nobody_brings_one_any_more() {
        let (engine, topic) = (engine(), "a".parse().unwrap());
        append(&engine, &topic, Message::text("x").with_idempotency("1")).unwrap();
        tokio::time::advance(SPAN / 2).await;
        let plain = |count| (0..count).for_each(|_| _ = append(&engine, &topic, Message::text("x")).unwrap());
        plain(UNLOOKED);
        assert_eq!(ids(&engine), 1, "not early");
        tokio::time::advance(SPAN / 2).await;
        plain(UNLOOKED);
        assert_eq!(ids(&engine), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn ids_go_when_somebody_asks_how_much_is_held() {
        let broker = Broker::memory_with(Retention::default().with_idempotency(SPAN, 1));
        let topic = "a".parse().unwrap();
        broker.publish_one(&topic, Message::text("x").with_idempotency("1")).await.unwrap();
        let engine = broker.memory_engine().unwrap();
        broker.stats();
        assert_eq!(ids(engine), 1, "not early");
        tokio::time::advance(SPAN).await;
        broker.stats();
        assert_eq!(ids(engine), 0);
    }

    #[tokio::test]
    async fn who_brings_no_id_is_not_refused_by_a_full_window() {
        let (engine, topic) = (engine(), "a".parse().unwrap());
        append(&engine, &topic, Message::text("x").with_idempotency("1")).unwrap();
        append(&engine, &topic, Message::text("x").with_idempotency("2")).unwrap_err();
        append(&engine, &topic, Message::text("x")).unwrap();
    }
}
