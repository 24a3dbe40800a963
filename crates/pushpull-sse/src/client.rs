//! The client half.

use std::time::Duration;

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use pushpull_core::{
    Backoff, Context, Dial, Dialing, ErrorKind, Feed, Message, Problem, Producer, PublishError, Published,
    Push, Reconnecting, Subscribe, SubscribeError, Subscription, Topic,
};
use pushpull_http::{BaseUrl, Endpoint, HttpClient, HttpProducer, Transport, encode_query};
use tokio::time::Instant;

use crate::feed::{EndedFeed, SseFeed};

/// How long a connection may take: 10 s.
const CONNECT: Duration = Duration::from_secs(10);
/// Two and a half of a server's keep-alive intervals.
const SILENCE: Duration = Duration::from_millis(37_500);
/// No silence is longer: what a clock can still add.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A [`Push`] over a server's `/sse`, and a [`Producer`] by `POST /topics/{topic}`.
///
/// A subscription reconnects, resumes from its place, and tells every change of the link. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SseClient {
    http: HttpClient,
    silence: Duration,
    backoff: Backoff,
}

impl SseClient {
    /// A client of the server at `url`, as in `http://host:port/prefix`.
    ///
    /// # Errors
    /// If `url` is none, or is `https` without the feature for it.
    pub fn new(url: &str) -> Result<Self, Problem> {
        Ok(Self::over(HttpClient::new(url.parse::<BaseUrl>()?)?))
    }

    /// A client over `http`.
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
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence.min(LONGEST);
        self
    }

    /// Sets the delays between two attempts to connect.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    async fn connect(self, request: Subscribe) -> Result<Box<dyn Feed>, SubscribeError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let path = format!("/sse?{}", encode_query(&request, Endpoint::Sse));
        let answer = self.http.get(&path, headers, Instant::now() + CONNECT).await?;
        match answer.status {
            StatusCode::OK if is_event_stream(&answer.headers) => {
                Ok(Box::new(SseFeed::new(answer.body, self.silence, &request)))
            }
            StatusCode::OK => Err(Problem::new(ErrorKind::Protocol, "the answer is no event stream").into()),
            StatusCode::NO_CONTENT => Ok(Box::new(EndedFeed::default())),
            _ => Err(answer.problem(Instant::now() + CONNECT).await.into()),
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

impl Dial for SseClient {
    fn dial(&self, request: Subscribe) -> Dialing {
        Box::pin(self.clone().connect(request))
    }

    fn transport(&self) -> Option<&'static str> {
        Some(Transport::Sse.as_str())
    }
}

#[async_trait]
impl Push for SseClient {
    async fn subscribe(&self, _cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        Reconnecting::start(self.clone(), request, self.backoff.clone()).await
    }
}

#[async_trait]
impl Producer for SseClient {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        HttpProducer::new(self.http.clone()).publish(cx, topic, messages).await
    }
}
