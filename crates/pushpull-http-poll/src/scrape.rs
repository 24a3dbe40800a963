//! Polling any URL, as a Prometheus server does.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{
        ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
        LOCATION,
    },
};
use pushpull_core::{
    Context, DEFAULT_CONTENT_TYPE, ErrorKind, Message, Problem, Producer, PublishError, Retry, Topic,
};
use pushpull_http::{Answer, BaseUrl, HttpClient};
use tokio::time::{Instant, sleep_until};

const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
/// What a Prometheus server asks for.
const FORMATS: &str =
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
const DEADLINE: Duration = Duration::from_secs(10);
const LIMIT: usize = 16 * 1024 * 1024;

/// Polls a URL, ours or anybody's, and makes a [`Message`] of each body that changed.
///
/// The first scrape comes at once, each next one an interval later, jittered; one that took longer than that
/// delays the next, and none is made up for. Redirects are not followed: they are failures that name their
/// target. The server's `Retry-After` is honoured.
///
/// ```no_run
/// # async fn scrape() -> Result<(), pushpull_core::Problem> {
/// use pushpull_http_poll::{Scrape, Scraped};
/// let mut scrape = Scrape::new("http://127.0.0.1:9100/metrics")?;
/// loop {
///     match scrape.next().await {
///         Scraped::Changed(message) => println!("{} bytes", message.payload().len()),
///         Scraped::Failed(problem) => eprintln!("down: {problem}"),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Scrape {
    http: HttpClient,
    path: String,
    interval: Duration,
    jitter: f64,
    deadline: Duration,
    limit: usize,
    accept: HeaderValue,
    due: Instant,
    known: Option<Known>,
}

/// What one scrape found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Scraped {
    /// The target is up, and its body is another than before.
    Changed(Message),
    /// The target is up, and its body is the same as before.
    Unchanged,
    /// The target is down, or its answer cannot be used.
    Failed(Problem),
}

/// The last body that was told, and by what the server knows it.
#[derive(Debug)]
struct Known {
    body: Bytes,
    content_type: String,
    validators: HeaderMap,
}

impl Scrape {
    /// Scrapes `url`, which is `http://` or `https://`, with any path and query, every 15 s.
    ///
    /// # Errors
    /// If `url` is none, or is `https` without the feature for it.
    pub fn new(url: &str) -> Result<Self, Problem> {
        let wrong = || Problem::invalid("url", format!("{url:?} is no URL"));
        let uri: Uri = url.parse().ok().filter(|_| !url.contains('#')).ok_or_else(wrong)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(wrong)?;
        let base: BaseUrl = format!("{scheme}://{authority}").parse()?;
        Ok(Self::over(HttpClient::new(base)?, path))
    }

    /// Scrapes `path` (with its query) below the base of `http`, every 15 s.
    pub fn over(http: HttpClient, path: impl Into<String>) -> Self {
        Self {
            http,
            path: path.into(),
            interval: Duration::from_secs(15),
            jitter: 0.1,
            deadline: DEADLINE,
            limit: LIMIT,
            accept: HeaderValue::from_static(FORMATS),
            due: Instant::now(),
            known: None,
        }
    }

    /// Sets the time from one scrape to the next. Default: 15 s; at least 1 ms.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Sets the part of the interval by which each is randomly shortened or lengthened, 0..=1. Default: 0.1.
    #[must_use]
    pub fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
        self
    }

    /// Sets how long one scrape may take. Default: 10 s; never longer than the interval. The target is told by
    /// `X-Prometheus-Scrape-Timeout-Seconds`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the largest body, in bytes. Default: 16 MiB.
    #[must_use]
    pub fn with_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Sets `Accept`. Default: what a Prometheus server sends, OpenMetrics first.
    ///
    /// # Errors
    /// If `accept` cannot stand in a header.
    pub fn with_accept(mut self, accept: &str) -> Result<Self, Problem> {
        self.accept = HeaderValue::from_str(accept)
            .map_err(|_| Problem::invalid("accept", "it cannot stand in a header"))?;
        Ok(self)
    }

    /// The same, bearing `token`.
    ///
    /// # Errors
    /// If `token` cannot stand in a header.
    pub fn with_token(mut self, token: &str) -> Result<Self, Problem> {
        self.http = self.http.with_token(token)?;
        Ok(self)
    }

    /// Waits until the next scrape is due, makes it, and says what it found.
    ///
    /// # Cancel safety
    /// Dropping the future gives a scrape under way up; the next is due an interval after that one began.
    pub async fn next(&mut self) -> Scraped {
        sleep_until(self.due).await;
        self.due = Instant::now() + self.pause();
        match self.scrape().await {
            Ok(Some(message)) => Scraped::Changed(message),
            Ok(None) => Scraped::Unchanged,
            Err(problem) => {
                if let Retry::After(delay) = problem.retry() {
                    self.due = self.due.max(Instant::now() + delay);
                }
                Scraped::Failed(problem)
            }
        }
    }

    /// Publishes every changed body to `topic`, and tells `report` of every scrape, and of every publish that
    /// failed (as [`Scraped::Failed`]), whose body is then scraped anew. Returns only when a publish fails for a
    /// reason that trying again cannot mend.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the body at hand was published.
    pub async fn run(
        &mut self,
        producer: &dyn Producer,
        topic: &Topic,
        mut report: impl FnMut(&Scraped),
    ) -> PublishError {
        let cx = Context::default();
        loop {
            let scraped = self.next().await;
            report(&scraped);
            let Scraped::Changed(message) = scraped else { continue };
            if let Err(error) = producer.publish(&cx, topic, &[message]).await {
                self.known = None;
                if !error.is_retryable() {
                    return error;
                }
                report(&Scraped::Failed(error.problem().clone()));
            }
        }
    }

    fn pause(&self) -> Duration {
        self.interval.mul_f64(1.0 + self.jitter * (fastrand::f64() * 2.0 - 1.0))
    }

    async fn scrape(&mut self) -> Result<Option<Message>, Problem> {
        let patience = self.deadline.min(self.interval);
        let deadline = Instant::now() + patience;
        let answer = self.http.get(&self.path, self.headers(patience), deadline).await?;
        match answer.status {
            StatusCode::OK => self.take(answer, deadline).await,
            StatusCode::NOT_MODIFIED if self.known.is_some() => Ok(None),
            status if status.is_redirection() => Err(redirected(&answer)),
            _ => Err(answer.problem(deadline).await),
        }
    }

    fn headers(&self, patience: Duration) -> HeaderMap {
        let mut headers = self.known.as_ref().map(|known| known.validators.clone()).unwrap_or_default();
        headers.insert(ACCEPT, self.accept.clone());
        if let Ok(seconds) = HeaderValue::from_str(&patience.as_secs_f64().to_string()) {
            headers.insert(SCRAPE_TIMEOUT, seconds);
        }
        headers
    }

    async fn take(&mut self, answer: Answer, deadline: Instant) -> Result<Option<Message>, Problem> {
        let content_type = content_type(&answer.headers)?;
        let validators = validators(&answer.headers);
        let body = answer.bytes(self.limit, deadline).await?;
        let is_same = |known: &Known| known.body == body && known.content_type == content_type;
        if let Some(known) = self.known.as_mut().filter(|known| is_same(known)) {
            known.validators = validators;
            return Ok(None);
        }
        let message = Message::new(body.clone()).with_content_type(content_type.clone()).check()?;
        self.known = Some(Known { body, content_type, validators });
        Ok(Some(message))
    }
}

fn redirected(answer: &Answer) -> Problem {
    let target = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let detail = format!("redirects are not followed: {} to {target:?}", answer.status);
    Problem::new(ErrorKind::Protocol, detail)
}

fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    // None was asked for: what is coded all the same would not be what its type says.
    if let Some(coding) = headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(Problem::new(ErrorKind::Protocol, format!("the body is coded as {coding:?}")));
    }
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok(given.unwrap_or(DEFAULT_CONTENT_TYPE).to_owned())
}

/// What the next request says it has (RFC 9110, 13.1.2 and 13.1.3).
///
/// A date counts only if the answer is at least a second younger (8.8.2.2): else the body may change once more
/// within that second, and the next answer would hide it.
fn validators(headers: &HeaderMap) -> HeaderMap {
    let at = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let age = at(DATE).zip(at(LAST_MODIFIED)).and_then(|(now, then)| now.duration_since(then).ok());
    let is_strong = age.is_some_and(|age| age >= Duration::from_secs(1));
    let date = headers.get(LAST_MODIFIED).filter(|_| is_strong);
    let pairs = [(IF_NONE_MATCH, headers.get(ETAG)), (IF_MODIFIED_SINCE, date)];
    pairs.into_iter().filter_map(|(asked, told)| Some((asked, told?.clone()))).collect()
}
