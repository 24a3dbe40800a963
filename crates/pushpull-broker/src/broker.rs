//! The broker: a producer, a push and a pull over one sequence.

use std::{fmt, future::poll_fn, sync::Arc, task, time::Duration};

use async_trait::async_trait;
use pushpull_core::{
    Batch, Checked, Context, Cursor, CursorStanding, ErrorKind, Fetch, FetchError, Message, Problem,
    Producer, PublishError, Published, Pull, Push, Start, StartAt, Subscribe, SubscribeError, Subscription,
    Topic, silent_waker,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    Append, Appended, Engine, MemoryEngine, Retention, Tail, answer::Answer, feed::BrokerFeed, hub::Hub,
};

#[cfg(test)]
mod tests;

/// How long a consumer is asked to wait for an engine that has not been reached yet.
const NOT_BEGUN_RETRY: Duration = Duration::from_secs(1);

/// The in-process hub. Cheap to clone (shared).
///
/// Its subscriptions end by [`Broker::close`], not when the last handle is dropped.
#[derive(Clone)]
pub struct Broker {
    hub: Arc<Hub>,
    store: Store,
}

#[derive(Clone)]
enum Store {
    /// Publishing waits for nothing.
    Memory(Arc<MemoryEngine>),
    Engine(Arc<dyn Engine>),
}

/// What a broker holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events retained.
    pub retained_events: u64,
    /// Bytes of events and their kept encodings.
    pub retained_bytes: u64,
    /// Topics on record.
    pub topics: u64,
    /// Events published so far.
    pub published: u64,
    /// Whether the engine can be reached.
    pub engine_up: bool,
}

impl Broker {
    /// A broker over the [`MemoryEngine`], with the default [`Retention`].
    pub fn memory() -> Self {
        Self::memory_with(Retention::default())
    }

    /// A broker over the [`MemoryEngine`].
    pub fn memory_with(retention: Retention) -> Self {
        let engine = MemoryEngine::new(&retention);
        let hub = Arc::new(Hub::new(retention));
        engine.start(Tail::new(hub.clone()));
        Self { hub, store: Store::Memory(Arc::new(engine)) }
    }

    /// A broker over `engine`.
    ///
    /// # Errors
    /// If the engine cannot be opened.
    pub async fn open(engine: impl Engine, retention: Retention) -> Result<Self, Problem> {
        let hub = Arc::new(Hub::new(retention));
        engine.open(Tail::new(hub.clone())).await?;
        Ok(Self { hub, store: Store::Engine(Arc::new(engine)) })
    }

    /// The newest place.
    pub fn place(&self) -> Cursor {
        self.hub.place()
    }

    /// What it holds now.
    pub fn stats(&self) -> Stats {
        if let Some(engine) = self.memory_engine() {
            engine.forget_old_ids();
        }
        self.hub.stats()
    }

    /// The engine's name: `memory`, `disk`, ...
    pub fn engine_name(&self) -> &'static str {
        self.engine().name()
    }

    /// Checks the engine by the path that delivers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn probe(&self) -> Result<(), Problem> {
        self.engine().probe().await
    }

    /// Ends every subscription with [`Link::Ended`](pushpull_core::Link::Ended) and refuses what comes from now on.
    pub fn close(&self) {
        self.hub.close();
    }

    pub(crate) fn memory_engine(&self) -> Option<&MemoryEngine> {
        match &self.store {
            Store::Memory(engine) => Some(engine),
            Store::Engine(_) => None,
        }
    }

    fn engine(&self) -> &dyn Engine {
        match &self.store {
            Store::Memory(engine) => &**engine,
            Store::Engine(engine) => &**engine,
        }
    }

    fn check_open(&self) -> Result<(), Problem> {
        if self.hub.is_closed() {
            return Err(Problem::new(ErrorKind::Unavailable, "the broker is closed"));
        }
        match self.hub.has_begun() {
            true => Ok(()),
            false => {
                let detail = "the engine has not been reached yet";
                Err(Problem::new(ErrorKind::Unavailable, detail).with_retry(NOT_BEGUN_RETRY))
            }
        }
    }

    /// A feed of what `request` asks for. What the hub does not know of its cursor, the engine does. All of it is
    /// asked of one history: again if that became another meanwhile.
    async fn attach(&self, request: &Subscribe) -> Result<BrokerFeed, Problem> {
        self.check_open()?;
        self.hub.check_scope(&request.topics)?;
        loop {
            let generation = self.hub.settled();
            let verdict = match request.start {
                StartAt::After(cursor) if self.hub.judge(cursor) == CursorStanding::Unknown => {
                    self.engine().judge(cursor).await?
                }
                _ => CursorStanding::Unknown,
            };
            if let Some(feed) = BrokerFeed::attach(&self.hub, request, verdict, generation)? {
                return Ok(feed);
            }
        }
    }

    fn check_count(&self, count: usize) -> Result<(), Problem> {
        match count {
            0 => Err(Problem::invalid("messages", "there is no message to publish")),
            1 => Ok(()),
            _ if self.engine().capabilities().atomic_batch => Ok(()),
            _ => {
                let detail = "this engine cannot publish several messages at once";
                Err(Problem::new(ErrorKind::Unsupported, detail))
            }
        }
    }

    fn check_payload(&self, message: &Message) -> Result<(), Problem> {
        let (size, most) = (message.payload().len(), self.hub.retention.payload);
        match size <= most {
            true => Ok(()),
            false => {
                let detail = format!("a payload has at most {most} bytes, not {size}");
                Err(Problem::new(ErrorKind::TooLarge, detail))
            }
        }
    }

    /// Checks everything that can be refused before the engine is asked.
    fn check(&self, topic: &Topic, messages: &[Message]) -> Result<(), Problem> {
        self.check_open()?;
        self.hub.check_topic(topic)?;
        self.check_count(messages.len())?;
        messages.iter().try_for_each(|message| self.check_payload(message))
    }

    async fn append(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Appended, PublishError> {
        match (&self.store, messages) {
            (Store::Memory(engine), [message]) => engine.append_now(topic, &[checked(message)?]),
            (Store::Memory(engine), _) => engine.append_now(topic, &all_checked(messages)?),
            (Store::Engine(engine), _) => {
                let messages = all_checked(messages)?.iter().map(Message::from).collect();
                let append = Append::new(topic.clone(), messages);
                engine.append(append.with_deadline(cx.deadline)).await
            }
        }
    }

    /// The answer to `request`, with what is there at once. By itself: who waits is to keep nothing of this.
    async fn begin(&self, request: Fetch) -> Result<Answer, Problem> {
        let mut subscribe =
            Subscribe::new(request.topics.clone()).from(request.start).on_overflow(request.overflow);
        subscribe.conflate = request.conflate;
        let mut answer = Answer::new(self.attach(&subscribe).await?.in_answers(), &request);
        answer.gather(&mut task::Context::from_waker(silent_waker()));
        Ok(answer)
    }

    /// The place alone: an event published since would come before the place it begins at is known.
    fn newest(&self) -> Batch {
        let mut batch = Batch::default();
        batch.place = Some(self.place());
        batch
    }

    /// The answer to a poller who goes on from his place, does not wait, and has missed nothing for certain. `None` in
    /// any doubt.
    fn nothing_new(&self, request: &Fetch) -> Option<Batch> {
        let StartAt::After(cursor) = request.start else { return None };
        if !request.wait.is_zero() {
            return None;
        }
        let mut batch = Batch::default();
        batch.place = Some(self.hub.place_without_news(&request.topics, cursor)?);
        batch.stale = self.is_stale(request.start);
        Some(batch)
    }

    /// Whether a place is so far behind that its poller should be given the new one.
    fn is_stale(&self, start: StartAt) -> bool {
        let StartAt::After(cursor) = start else { return false };
        let head = self.hub.head();
        if head <= cursor.seq() {
            return false;
        }
        // A place must move before the evidence ends, too: below it, nobody knows what an unknown topic lost.
        let floor = self.hub.floor().max(self.hub.topics.forgotten_to());
        self.hub.judge(cursor) == CursorStanding::Good
            && head.saturating_sub(cursor.seq()) > head.saturating_sub(floor) / 4
    }
}

fn checked(message: &Message) -> Result<Checked<'_>, PublishError> {
    message.checked().map_err(|refused| PublishError::not_applied(refused.into()))
}

pub(crate) fn all_checked(messages: &[Message]) -> Result<Vec<Checked<'_>>, PublishError> {
    messages.iter().map(checked).collect()
}

#[async_trait]
impl Producer for Broker {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        self.check(topic, messages).map_err(PublishError::not_applied)?;
        let Appended { first, last, epochs } = self.append(cx, topic, messages).await?;
        let (first, last) = match epochs {
            Some((epoch, last_epoch)) => (Cursor::new(epoch, first), Cursor::new(last_epoch, last)),
            None => (self.hub.cursor(first), self.hub.cursor(last)),
        };
        Ok(Published::new(first, last, messages.len() as u64))
    }
}

#[async_trait]
impl Push for Broker {
    async fn subscribe(&self, _cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        Ok(Subscription::new(self.attach(&request).await?, &request))
    }
}

#[async_trait]
impl Pull for Broker {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        self.check_open()?;
        self.hub.check_scope(&request.topics)?;
        if request.start == Start::Latest.into() && request.wait.is_zero() {
            return Ok(self.newest());
        }
        if let Some(nothing) = self.nothing_new(&request) {
            return Ok(nothing);
        }
        let (start, wait) = (request.start, request.wait.min(Fetch::MAX_WAIT));
        let mut answer = self.begin(request).await?;
        if !answer.is_worth_sending() && !wait.is_zero() {
            let until = Instant::now() + wait;
            let until = cx.deadline.map_or(until, |deadline| deadline.min(until));
            // Nothing is lost if the wait ends first: the answer is built from what was gathered.
            let _ = timeout_at(until, poll_fn(|cx| answer.poll_worth_sending(cx))).await;
        }
        Ok(answer.finish(self.is_stale(start)))
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("engine", &self.engine())
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}
