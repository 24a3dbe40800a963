//! The client half.

use std::time::Duration;

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use pushpull_core::{
    Backoff, Context, Dial, Dialing, ErrorKind, Feed, Message, Problem, Producer, PublishError, Published,
    Push, Subscribe, SubscribeError, Subscription, Topic,
};
use pushpull_http::{BaseUrl, Endpoint, HttpClient, StreamClient, Transport, encode_query};

use crate::feed::{EndedFeed, SseFeed};

/// A [`Push`] over a server's `/sse`, and a [`Producer`] by `POST /topics/{topic}`.
///
/// A subscription reconnects, resumes from its place, and tells every change of the link. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SseClient {
    stream: StreamClient,
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
        Self { stream: StreamClient::over(http) }
    }

    /// The same, bearing `token`.
    ///
    /// # Errors
    /// If `token` cannot stand in a header.
    pub fn with_token(self, token: &str) -> Result<Self, Problem> {
        Ok(Self { stream: self.stream.with_token(token)? })
    }

    /// Sets after how long without a byte a connection counts as dead. Default: 37.5 s, two and a half of a
    /// server's keep-alive intervals; at most a year.
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        Self { stream: self.stream.with_silence(silence) }
    }

    /// Sets the delays between two attempts to connect.
    #[must_use]
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { stream: self.stream.with_backoff(backoff) }
    }

    async fn connect(self, request: Subscribe) -> Result<Box<dyn Feed>, SubscribeError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let path = format!("/sse?{}", encode_query(&request, Endpoint::Sse));
        let answer = self.stream.http().get(&path, headers, self.stream.deadline()).await?;
        match answer.status {
            StatusCode::OK if is_event_stream(&answer.headers) => {
                Ok(Box::new(SseFeed::new(answer.body, self.stream.silence(), &request)))
            }
            StatusCode::OK => Err(Problem::new(ErrorKind::Protocol, "the answer is no event stream").into()),
            StatusCode::NO_CONTENT => Ok(Box::new(EndedFeed::default())),
            _ => Err(answer.problem(self.stream.deadline()).await.into()),
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
        self.stream.subscribe(self.clone(), request).await
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
        self.stream.publish(cx, topic, messages).await
    }
}
