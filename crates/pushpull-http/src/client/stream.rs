//! What the client halves of streams share.

use std::time::Duration;

use pushpull_core::{Backoff, Context, Dial, Message, Problem, Producer as _, PublishError, Published};
use pushpull_core::{Reconnecting, Subscribe, SubscribeError, Subscription, Topic};
use tokio::time::Instant;

use super::{HttpClient, HttpProducer};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Two and a half of a server's keep-alive intervals.
const SILENCE: Duration = Duration::from_millis(37_500);
/// No silence is longer: what a clock can still add.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a client half over streams goes by: the server, after how much silence a connection counts as dead, and the
/// delays between two attempts to connect. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StreamClient {
    http: HttpClient,
    silence: Duration,
    backoff: Backoff,
}

impl StreamClient {
    /// Every default, over `http`.
    pub fn over(http: HttpClient) -> Self {
        Self { http, silence: SILENCE, backoff: Backoff::default() }
    }

    /// The same, bearing `token`.
    ///
    /// # Errors
    /// If `token` cannot stand in a header.
    pub fn with_token(self, token: &str) -> Result<Self, Problem> {
        Ok(Self { http: self.http.with_token(token)?, ..self })
    }

    /// Sets after how long without a byte a connection counts as dead. Default: 37.5 s, two and a half of a
    /// server's keep-alive intervals; at most a year.
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        Self { silence: silence.min(LONGEST), ..self }
    }

    /// Sets the delays between two attempts to connect.
    #[must_use]
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// The client it connects by.
    pub fn http(&self) -> &HttpClient {
        &self.http
    }

    /// After how long without a byte a connection counts as dead.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// Until when a connection begun now has to stand: for 10 s.
    pub fn deadline(&self) -> Instant {
        Instant::now() + CONNECT
    }

    /// Keeps a subscription alive over the connections that `dial` makes.
    ///
    /// # Errors
    /// As [`Reconnecting::start`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn subscribe(
        &self,
        dial: impl Dial,
        request: Subscribe,
    ) -> Result<Subscription, SubscribeError> {
        Reconnecting::start(dial, request, self.backoff.clone()).await
    }

    /// Publishes by `POST`: see [`HttpProducer`].
    ///
    /// # Errors
    /// As [`HttpProducer`]'s.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether they were published.
    pub async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        HttpProducer::new(self.http.clone()).publish(cx, topic, messages).await
    }
}
