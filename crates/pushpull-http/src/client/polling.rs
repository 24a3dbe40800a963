//! The client half of both polls.

use std::{fmt, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use pushpull_core::{
    Batch, Context, Dial, Dialing, Fetch, FetchError, Message, Overflow, Polling, Problem, Producer,
    PublishError, Published, Pull, Push, Schedule, Subscribe, SubscribeError, Subscription, Topic,
};

use super::{BaseUrl, HttpClient, HttpProducer, HttpPull};

/// Which poll a [`PollingClient`] asks by.
pub trait PollPath: Send + Sync + 'static {
    /// What asks by it over `http`, on its default schedule.
    fn pull(http: HttpClient) -> HttpPull;
}

/// A [`Pull`] over one of a server's polls, a [`Push`] by asking again and again, and a [`Producer`] by
/// `POST /topics/{topic}`. Cheap to clone.
///
/// A place goes as `If-None-Match`, so that an answer with nothing new is a 304 of no bytes.
///
/// As a [`Dial`] a connection is opened by a first answer, and lost with the first question that fails. There
/// `overflow=latest`, which polls do not know, is asked for as `gap`: nothing is skipped.
pub struct PollingClient<P> {
    pull: HttpPull,
    path: PhantomData<fn() -> P>,
}

impl<P: PollPath> PollingClient<P> {
    /// A client of the server at `url`, as in `http://host:port/prefix`.
    ///
    /// # Errors
    /// If `url` is none, or is `https` without the feature for it.
    pub fn new(url: &str) -> Result<Self, Problem> {
        Ok(Self::over(HttpClient::new(url.parse::<BaseUrl>()?)?))
    }

    /// A client over `http`.
    pub fn over(http: HttpClient) -> Self {
        Self::by(P::pull(http))
    }

    fn by(pull: HttpPull) -> Self {
        Self { pull, path: PhantomData }
    }

    /// The same, bearing `token`.
    ///
    /// # Errors
    /// If `token` cannot stand in a header.
    pub fn with_token(self, token: &str) -> Result<Self, Problem> {
        let http = self.pull.client().clone().with_token(token)?;
        Ok(Self::by(self.pull.with_client(http)))
    }

    /// Sets when it asks as a [`Push`].
    #[must_use]
    pub fn with_schedule(self, schedule: Schedule) -> Self {
        Self::by(self.pull.with_schedule(schedule))
    }

    /// Sets the longest answer it takes, in bytes. Default: 64 MiB.
    #[must_use]
    pub fn with_max_answer(self, bytes: usize) -> Self {
        Self::by(self.pull.with_max_answer(bytes))
    }
}

impl<P: PollPath> Dial for PollingClient<P> {
    fn dial(&self, mut request: Subscribe) -> Dialing {
        if request.overflow == Overflow::Latest {
            request.overflow = Overflow::Gap;
        }
        Polling::dial(Arc::new(self.pull.clone()), request, self.pull.schedule().clone())
    }

    fn transport(&self) -> Option<&'static str> {
        Some(self.pull.transport().as_str())
    }
}

#[async_trait]
impl<P: PollPath> Pull for PollingClient<P> {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        self.pull.fetch(cx, request).await
    }
}

#[async_trait]
impl<P: PollPath> Push for PollingClient<P> {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.pull.subscribe(cx, request).await
    }
}

#[async_trait]
impl<P: PollPath> Producer for PollingClient<P> {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        HttpProducer::new(self.pull.client().clone()).publish(cx, topic, messages).await
    }
}

// By hand, since a path need be neither.
impl<P> Clone for PollingClient<P> {
    fn clone(&self) -> Self {
        Self { pull: self.pull.clone(), path: PhantomData }
    }
}

impl<P> fmt::Debug for PollingClient<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PollingClient").field(&self.pull).finish()
    }
}
