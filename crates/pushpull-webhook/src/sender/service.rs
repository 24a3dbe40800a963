//! Registering endpoints over HTTP: `POST /webhooks`, `GET` and `DELETE /webhooks/{id}`.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION},
    request::Parts,
};
use pushpull_core::{Cursor, ErrorKind, Pattern, Problem, Start, StartAt, Topics};
use pushpull_http::{Body, BoxError, Endpoint, Entry, Gate, Paths, Rejection, problem::problem_response};
use serde_json::{Map, Value, json};
use tower_service::Service;

use super::{Registration, State, Status, Webhooks};
use crate::{Secret, body::read_body};

/// Most bytes of a registration.
const MAX_BODY: usize = 64 * 1024;

/// Lets endpoints be registered over HTTP (wire contract, section 6) by whom the gate lets subscribe to their topics.
/// Cheap to clone.
///
/// An endpoint belongs to the identity that registered it: others are told that it is not there. It outlives the
/// token it was registered with. Mount it at `/webhooks` and what lies below.
#[derive(Clone)]
pub struct WebhookService {
    webhooks: Webhooks,
    gate: Gate,
    paths: Paths,
}

impl WebhookService {
    /// Registers with `webhooks` for whom `gate` lets in.
    pub fn new(webhooks: Webhooks, gate: Gate) -> Self {
        Self { webhooks, gate, paths: Paths::default() }
    }

    /// Is mounted under the prefix of `paths`. Default: none.
    #[must_use]
    pub fn with_paths(mut self, paths: Paths) -> Self {
        self.paths = paths;
        self
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let (parts, body) = request.into_parts();
        let entry = match self.gate.enter(&parts, Endpoint::Webhooks).await {
            Ok(entry) => entry,
            Err(response) => return response,
        };
        let response = self.respond(&parts, &entry, body).await.unwrap_or_else(|problem| {
            self.gate.metrics().rejected(Rejection::from(&problem));
            problem_response(&problem, None)
        });
        entry.finish(response)
    }

    async fn respond<B>(&self, parts: &Parts, entry: &Entry, body: B) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let id = self.id_in(parts.uri.path());
        match (&parts.method, id) {
            (&Method::POST, "") => self.register(parts, entry, body).await,
            (&Method::GET | &Method::HEAD, id) if !id.is_empty() => {
                Ok(json_response(StatusCode::OK, &shown(&self.find(entry, id).await?)))
            }
            (&Method::DELETE, id) if !id.is_empty() => {
                let status = self.find(entry, id).await?;
                self.webhooks.remove(status.id).await?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            _ => {
                let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
                let allow = if id.is_empty() { "POST, OPTIONS" } else { "GET, HEAD, DELETE, OPTIONS" };
                response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static(allow));
                Ok(response)
            }
        }
    }

    /// What stands behind `/webhooks/`; where the path does not begin so (mounted by `nest_service`), the whole path.
    fn id_in<'a>(&self, path: &'a str) -> &'a str {
        let path = path.strip_prefix(self.paths.prefix()).unwrap_or(path);
        path.strip_prefix("/webhooks").unwrap_or(path).trim_matches('/')
    }

    async fn find(&self, entry: &Entry, id: &str) -> Result<Status, Problem> {
        let missing = || Problem::new(ErrorKind::NotFound, "there is no such endpoint");
        let status = self.webhooks.status(id.parse()?).ok_or_else(missing)?;
        if status.owner.as_deref() != owner(entry) {
            return Err(missing());
        }
        self.gate.authorize_topics(&entry.cx, &topics_of(status.topics.iter().map(String::as_str))?).await?;
        Ok(status)
    }

    async fn register<B>(&self, parts: &Parts, entry: &Entry, body: B) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        check_json(parts)?;
        let body = read_body(pin!(body), MAX_BODY, self.gate.limits().body_time).await?;
        let mut registration = parse(&body)?;
        self.gate.authorize_topics(&entry.cx, &registration.topics).await?;
        registration.owner = owner(entry).map(str::to_owned);
        let registered = self.webhooks.register(registration).await?;
        let (id, secret) = (registered.id, registered.secret.reveal());
        let cursor = registered.cursor.map(|cursor| cursor.to_string());
        let object = json!({ "id": id, "secret": secret, "cursor": cursor });
        let mut response = json_response(StatusCode::CREATED, &object);
        if let Ok(location) = HeaderValue::try_from(format!("{}/webhooks/{id}", self.paths.prefix())) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }
}

fn owner(entry: &Entry) -> Option<&str> {
    entry.cx.identity.as_ref().map(|identity| &*identity.subject)
}

fn check_json(parts: &Parts) -> Result<(), Problem> {
    let given = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => {
            let problem =
                Problem::new(ErrorKind::UnsupportedType, "a registration comes as application/json");
            Err(problem.with_parameter("Content-Type"))
        }
    }
}

fn parse(body: &[u8]) -> Result<Registration, Problem> {
    let members: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| Problem::new(ErrorKind::Invalid, "the body is no JSON object"))?;
    let known = ["url", "topics", "secret", "after", "start", "format"];
    if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
        let shown: String = name.chars().take(64).collect();
        return Err(Problem::invalid(shown, "there is no such member"));
    }
    let url = text(&members, "url")?.ok_or_else(|| Problem::invalid("url", "it is required"))?;
    let mut registration = Registration::new(url, topics(&members)?).from(start(&members)?);
    registration.secret = match text(&members, "secret")? {
        Some(secret) => {
            Some(secret.parse::<Secret>().map_err(|error| Problem::invalid("secret", error.to_string()))?)
        }
        None => None,
    };
    registration.is_raw = match text(&members, "format")? {
        None | Some("json") => false,
        Some("raw") => true,
        Some(_) => return Err(Problem::invalid("format", "it must be raw or json")),
    };
    Ok(registration)
}

fn topics(members: &Map<String, Value>) -> Result<Topics, Problem> {
    let wrong = || Problem::invalid("topics", "they must be a list of 1 to 64 topics and patterns");
    let listed = members.get("topics").and_then(Value::as_array).ok_or_else(wrong)?;
    let texts: Option<Vec<&str>> = listed.iter().map(Value::as_str).collect();
    topics_of(texts.ok_or_else(wrong)?)
}

fn topics_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Topics, Problem> {
    let named = |error: pushpull_core::TopicError| Problem::from(error).with_parameter("topics");
    let patterns: Result<Vec<_>, _> = texts.into_iter().map(Pattern::new).collect();
    Topics::new(patterns.map_err(named)?).map_err(named)
}

fn start(members: &Map<String, Value>) -> Result<StartAt, Problem> {
    match (text(members, "after")?, text(members, "start")?) {
        (Some(_), Some(_)) => Err(Problem::invalid("start", "it excludes `after`")),
        (Some(after), None) => {
            let cursor =
                after.parse::<Cursor>().map_err(|error| Problem::invalid("after", error.to_string()))?;
            Ok(cursor.into())
        }
        (None, Some(start)) => Start::from_name(start)
            .map(StartAt::Start)
            .ok_or_else(|| Problem::invalid("start", "it must be latest, earliest, last or snapshot")),
        (None, None) => Ok(StartAt::default()),
    }
}

/// A member that is a string if it is there.
fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, Problem> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::invalid(name, "it must be a string")),
    }
}

fn shown(status: &Status) -> Value {
    let because = match status.state {
        State::Disabled(because) => Some(because.as_str()),
        State::Active => None,
    };
    json!({
        "id": status.id,
        "url": status.url,
        "topics": status.topics,
        "state": status.state.as_str(),
        "reason": because,
        "cursor": status.cursor.map(|cursor| cursor.to_string()),
        "failures": status.failures,
        "next_attempt": status.next_attempt,
    })
}

fn json_response(status: StatusCode, object: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(object.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

impl<B> Service<Request<B>> for WebhookService
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl fmt::Debug for WebhookService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookService").field("webhooks", &self.webhooks).finish_non_exhaustive()
    }
}
