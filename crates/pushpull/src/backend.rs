//! What a server serves.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use pushpull_broker::Broker;
use pushpull_core::{Fetching, Problem, Producer, Pull, Push, Whole};
use pushpull_http::{Observation, Observed};

/// What a server serves: a [`Push`], a [`Pull`], a [`Producer`], or any part of them. A [`Broker`] is all three.
///
/// What is missing is answered by 501. Cheap to clone (shared).
///
/// Any server half serves any client half: over what [`connect`](crate::connect) gives, one upstream subscription a
/// consumer (for a poll a short one), places, gaps and refusals passed on as they are.
///
/// ```
/// # #[cfg(feature = "client")]
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let upstream = pushpull::connect("http://127.0.0.1:8080").await?;
/// let server = pushpull::Server::new(upstream).bind("127.0.0.1:0").await?;
/// # Ok(()) }
/// ```
///
/// For a tree, where one upstream subscription serves all consumers, a [`Broker`] over the
/// [`RelayEngine`](crate::RelayEngine) is the backend.
#[derive(Clone, Default)]
pub struct Backend {
    pub(crate) push: Option<Arc<dyn Push>>,
    pub(crate) pull: Option<Arc<dyn Pull>>,
    pub(crate) producer: Option<Arc<dyn Producer>>,
    pub(crate) observed: Option<Arc<dyn Observed>>,
}

impl Backend {
    /// Serves nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves streams from `push`. A snapshot that breaks off there is passed on as [`Whole`] does.
    #[must_use]
    pub fn with_push(mut self, push: impl Push) -> Self {
        self.push = Some(Arc::new(Whole::new(push)));
        self
    }

    /// Answers polls, and `GET /topics/{topic}`, from `push`, each by a short subscription: see [`Fetching`].
    #[must_use]
    pub fn with_pull_over(self, push: impl Push) -> Self {
        self.with_pull(Fetching::over(push))
    }

    /// Answers polls, and `GET /topics/{topic}`, from `pull`.
    #[must_use]
    pub fn with_pull(mut self, pull: impl Pull) -> Self {
        self.pull = Some(Arc::new(pull));
        self
    }

    /// Publishes to `producer`.
    #[must_use]
    pub fn with_producer(mut self, producer: impl Producer) -> Self {
        self.producer = Some(Arc::new(producer));
        self
    }
}

impl From<Broker> for Backend {
    fn from(broker: Broker) -> Self {
        let shared = Arc::new(broker.clone());
        Self {
            push: Some(shared.clone()),
            pull: Some(shared.clone()),
            producer: Some(shared),
            observed: Some(Arc::new(ObservedBroker(broker))),
        }
    }
}

#[cfg(feature = "client")]
impl From<crate::Source> for Backend {
    /// All three roles over one upstream.
    fn from(source: crate::Source) -> Self {
        Self::new().with_push(source.clone()).with_pull_over(source.clone()).with_producer(source)
    }
}

struct ObservedBroker(Broker);

#[async_trait]
impl Observed for ObservedBroker {
    fn observe(&self) -> Observation {
        let stats = self.0.stats();
        Observation::new(stats.retained_events, stats.retained_bytes, stats.topics, stats.engine_up)
            .of_engine(self.0.engine_name())
            .having_published(stats.published)
    }

    async fn probe(&self) -> Result<(), Problem> {
        self.0.probe().await
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("push", &self.push.is_some())
            .field("pull", &self.pull.is_some())
            .field("producer", &self.producer.is_some())
            .finish_non_exhaustive()
    }
}
