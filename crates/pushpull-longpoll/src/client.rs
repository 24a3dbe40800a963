//! The client half.

use async_trait::async_trait;
use pushpull_core::{
    Batch, Context, Fetch, FetchError, Message, Problem, Producer, PublishError, Published, Pull, Push,
    Schedule, Subscribe, SubscribeError, Subscription, Topic,
};
use pushpull_http::{BaseUrl, HttpClient, HttpProducer, HttpPull};

/// A [`Pull`] over a server's `/longpoll`, a [`Push`] by asking again and again, and a [`Producer`] by
/// `POST /topics/{topic}`. Cheap to clone.
///
/// A place goes as `If-None-Match`, so that an answer with nothing new is a 304 of no bytes. A
/// wait goes in whole seconds, rounded down.
#[derive(Clone, Debug)]
pub struct LongpollClient {
    pull: HttpPull,
    producer: HttpProducer,
}

impl LongpollClient {
    /// A client of the server at `url`, as in `http://host:port/prefix`.
    ///
    /// # Errors
    /// If `url` is none, or is `https` without the feature for it.
    pub fn new(url: &str) -> Result<Self, Problem> {
        Ok(Self::over(HttpClient::new(url.parse::<BaseUrl>()?)?))
    }

    /// A client over `http`.
    pub fn over(http: HttpClient) -> Self {
        Self { pull: HttpPull::long_polling(http.clone()), producer: HttpProducer::new(http) }
    }

    /// The same, bearing `token`.
    ///
    /// # Errors
    /// If `token` cannot stand in a header.
    pub fn with_token(self, token: &str) -> Result<Self, Problem> {
        let http = self.pull.client().clone().with_token(token)?;
        Ok(Self { producer: HttpProducer::new(http.clone()), pull: self.pull.with_client(http) })
    }

    /// Sets when it asks as a [`Push`]. Default: again at once, each time waiting up to 25 s.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.pull = self.pull.with_schedule(schedule);
        self
    }

    /// Sets the longest answer it takes, in bytes. Default: 64 MiB.
    #[must_use]
    pub fn with_max_answer(mut self, bytes: usize) -> Self {
        self.pull = self.pull.with_max_answer(bytes);
        self
    }
}

#[async_trait]
impl Pull for LongpollClient {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        self.pull.fetch(cx, request).await
    }
}

#[async_trait]
impl Push for LongpollClient {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.pull.subscribe(cx, request).await
    }
}

#[async_trait]
impl Producer for LongpollClient {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        self.producer.publish(cx, topic, messages).await
    }
}
