//! The relay engine: a broker whose sequence is another broker's, over any transport.

mod follow;
mod intake;
mod judge;
mod lane;
mod link;
mod probe;
mod void;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use pushpull_core::{
    Context, Cursor, CursorStanding, ErrorKind, FailFast, Problem, Producer, PublishError, Published, Push,
    Topics,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{Append, Appended, Capabilities, Engine, Tail};

use link::{Link, State};

/// How long the engine of an upstream that cannot be reached is asked to be left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the sequence of another broker by exactly one subscription: the same epochs, the same seqs, so that a
/// cursor of any node of a tree is one of all of them.
///
/// It begins with all that the upstream retains of its topics, told apart from what is gone; from then on it goes by
/// what the upstream says. A broker over it refuses topics that it does not follow. Publishing is the upstream's, and
/// is acknowledged here once what was published has come back by the subscription. What the upstream refuses is refused
/// here at once ([`FailFast`]).
///
/// That the subscription stands does not say that the upstream reaches what it follows itself. It is probed every 5 s,
/// each second while it does not, and whenever a publish finds it unavailable; until it does, the engine is down.
///
/// ```
/// # use pushpull_broker::{Broker, RelayEngine, Retention};
/// # use pushpull_core::{Message, ProducerExt};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let root = Broker::memory(); // or what `pushpull::connect` gives
/// let engine = RelayEngine::new(root.clone()).with_producer(root.clone());
/// let relay = Broker::open(engine, Retention::default()).await?;
/// let cursor = relay.publish_one(&"a".parse()?, Message::text("x")).await?;
/// assert_eq!((relay.place(), root.place()), (cursor, cursor));
/// # Ok(()) }
/// ```
///
/// Dropping the last handle of the broker ends its subscription.
pub struct RelayEngine {
    link: Arc<Link>,
    producer: Option<Arc<dyn Producer>>,
    publish_timeout: Duration,
    open_timeout: Duration,
    following: Mutex<Option<AbortHandle>>,
}

impl RelayEngine {
    /// Follows everything (`>`) that `push` has.
    pub fn new(push: impl Push) -> Self {
        Self {
            link: Arc::new(Link::new(Arc::new(push), everything())),
            producer: None,
            publish_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(5),
            following: Mutex::default(),
        }
    }

    /// Follows `topics` alone. Default: `>`.
    #[must_use]
    pub fn with_topics(mut self, topics: Topics) -> Self {
        self.link = Arc::new(Link::new(self.link.push(), topics));
        self
    }

    /// Publishes by `producer`, which leads to the same upstream. Default: nothing can be published here.
    #[must_use]
    pub fn with_producer(mut self, producer: impl Producer) -> Self {
        self.producer = Some(Arc::new(producer));
        self
    }

    /// Sets how long a publish may take, until it has come back by the subscription; a deadline of who publishes
    /// holds if it is earlier. Default: 10 s.
    #[must_use]
    pub fn with_publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// Sets how long opening waits for the upstream's first word. Behind it the broker opens all the same, and
    /// refuses everything as unavailable until the upstream is reached. Default: 5 s.
    #[must_use]
    pub fn with_open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    fn following(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn publish(&self, append: &Append, until: Instant) -> Result<Published, PublishError> {
        self.link.check_up().map_err(PublishError::not_applied)?;
        let Some(producer) = &self.producer else {
            let detail = "this relay has no way to publish upstream";
            return Err(PublishError::not_applied(Problem::new(ErrorKind::Unsupported, detail)));
        };
        let mut cx = Context::default().with_deadline(until);
        cx.extensions.insert(FailFast);
        let Append { topic, messages, .. } = append;
        let late = |_| PublishError::unknown(late("the upstream did not answer in time"));
        let published = timeout_at(until, producer.publish(&cx, topic, messages)).await.map_err(late)?;
        if published.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            self.link.doubt();
        }
        published
    }
}

fn everything() -> Topics {
    #[allow(clippy::expect_used, reason = "`>` is a pattern")]
    pushpull_core::Pattern::new(">").expect("`>` is a pattern").into()
}

fn late(detail: &'static str) -> Problem {
    Problem::new(ErrorKind::Timeout, detail)
}

#[async_trait]
impl Engine for RelayEngine {
    fn name(&self) -> &'static str {
        "relay"
    }

    /// Batches are the upstream's to refuse.
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_batch: true, ..Capabilities::NONE }
    }

    /// # Errors
    /// If the upstream refuses to be followed. One that cannot be reached is tried again and again.
    async fn open(&self, tail: Tail) -> Result<(), Problem> {
        tail.limit_to(self.link.topics().clone());
        self.link.attach(&tail);
        let following = tokio::spawn(follow::follow(self.link.clone(), tail)).abort_handle();
        if let Some(before) = self.following().replace(following) {
            before.abort();
        }
        match timeout(self.open_timeout, self.link.reached()).await {
            Ok(State::Refused(problem)) => Err(problem),
            _ => Ok(()),
        }
    }

    async fn append(&self, append: Append) -> Result<Appended, PublishError> {
        let own = Instant::now() + self.publish_timeout;
        let until = append.deadline.map_or(own, |deadline| deadline.min(own));
        let Published { first, last, .. } = self.publish(&append, until).await?;
        let late = |_| PublishError::unknown(late("what was published did not come back in time"));
        timeout_at(until, self.link.passed(&[last])).await.map_err(late)?;
        Ok(Appended::at(first, last))
    }

    /// Asks the upstream, by a subscription like the one that delivers, for a cursor that a relay answers only where it
    /// is up.
    async fn probe(&self) -> Result<(), Problem> {
        self.link.probe().await
    }

    async fn judge(&self, cursor: Cursor) -> Result<CursorStanding, Problem> {
        self.link.judge(cursor).await
    }
}

impl Drop for RelayEngine {
    fn drop(&mut self) {
        if let Some(following) = self.following().take() {
            following.abort();
        }
    }
}

impl fmt::Debug for RelayEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayEngine")
            .field("topics", self.link.topics())
            .field("state", &self.link.state())
            .field("publishes", &self.producer.is_some())
            .finish_non_exhaustive()
    }
}
