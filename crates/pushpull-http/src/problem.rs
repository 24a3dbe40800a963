//! Problems as `application/problem+json` (RFC 9457), and back.

use std::{borrow::Cow, time::Duration};

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use pushpull_core::{ErrorKind, Outcome, Problem, PublishError, Retry};
use serde::{Deserialize, Serialize};

use crate::Body;

/// What stands before the slug in a problem's `type`.
pub const TYPE_PREFIX: &str = "https://pushpull-rs.github.io/problems/";

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// The members of a problem, as JSON has them.
#[derive(Debug, Serialize, Deserialize)]
struct Members<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    title: Option<Cow<'a, str>>,
    #[serde(default)]
    status: Option<u16>,
    #[serde(borrow, default)]
    detail: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    parameter: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Cow<'a, str>>,
}

/// The status of a problem where nothing is published. [`publish_status`] for a publish.
pub fn status(problem: &Problem) -> StatusCode {
    match problem.kind() {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::Conflict => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Busy | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Protocol => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The status of a problem of a publish: [`ErrorKind::Busy`] is the producer's rate, a 429.
pub fn publish_status(problem: &Problem) -> StatusCode {
    match problem.kind() {
        ErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        _ => status(problem),
    }
}

/// The problem as a response: with `outcome` it is that of a publish.
///
/// 429 and 503 bear `Retry-After` (1 s where the problem says nothing), 401 a `Bearer` challenge.
pub fn problem_response(problem: &Problem, outcome: Option<Outcome>) -> Response<Body> {
    let status = if outcome.is_some() { publish_status(problem) } else { status(problem) };
    problem_response_as(status, problem, outcome)
}

/// The same, with a status of the caller's choice.
pub fn problem_response_as(
    status: StatusCode,
    problem: &Problem,
    outcome: Option<Outcome>,
) -> Response<Body> {
    let mut response = Response::new(Body::full(problem_json(status, problem, outcome)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(RETRY_AFTER, retry_after(problem).into());
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pushpull\""));
    }
    response
}

/// The problem as JSON.
pub fn problem_json(status: StatusCode, problem: &Problem, outcome: Option<Outcome>) -> String {
    let members = Members {
        kind: Some(format!("{TYPE_PREFIX}{}", problem.kind().slug()).into()),
        title: Some(title(problem.kind()).into()),
        status: Some(status.as_u16()),
        detail: Some(problem.detail().into()),
        parameter: problem.parameter().map(Cow::from),
        outcome: outcome.map(|outcome| outcome_word(outcome).into()),
    };
    // A struct of texts and a number always serializes.
    serde_json::to_string(&members).unwrap_or_default()
}

/// Reads the problem that a response means, by its body if that is a problem, else by its status.
pub fn parse_problem(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Problem {
    let members = parse_members(headers, body);
    let slug = members.as_ref().and_then(|members| members.kind.as_deref()?.rsplit('/').next());
    let kind = slug.and_then(ErrorKind::from_slug).unwrap_or_else(|| kind_of(status));
    let text = members.as_ref().and_then(|members| members.detail.as_deref().or(members.title.as_deref()));
    let detail = text.map_or_else(|| format!("the server answered {status}"), str::to_owned);
    let mut problem = Problem::new(kind, detail);
    if let Some(parameter) = members.and_then(|members| members.parameter) {
        problem = problem.with_parameter(parameter.into_owned());
    }
    match parse_retry_after(headers) {
        Some(delay) => problem.with_retry(delay),
        None => problem,
    }
}

/// Reads the error that the answer to a publish means. Where it does not say the outcome, a status from
/// 400 to 499 means that nothing was published.
pub fn parse_publish_error(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> PublishError {
    let problem = parse_problem(status, headers, body);
    let said = parse_members(headers, body).and_then(|members| members.outcome);
    let applied = match said.as_deref() {
        Some("not-applied") => false,
        Some(_) => true,
        None => !status.is_client_error(),
    };
    if applied { PublishError::unknown(problem) } else { PublishError::not_applied(problem) }
}

/// The delay that `Retry-After` asks for: seconds, or until a date (RFC 9110, 10.2.3).
pub fn parse_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

fn parse_members<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<Members<'a>> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = content_type.split(';').next()?.trim();
    essence.eq_ignore_ascii_case(MEDIA_TYPE).then(|| serde_json::from_slice(body).ok())?
}

fn retry_after(problem: &Problem) -> u64 {
    let delay = match problem.retry() {
        Retry::After(delay) => delay,
        _ => DEFAULT_RETRY,
    };
    delay.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u64
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not-applied",
        _ => "unknown",
    }
}

fn kind_of(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Forbidden,
        404 | 410 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        415 => ErrorKind::UnsupportedType,
        422 => ErrorKind::Conflict,
        429 => ErrorKind::Busy,
        501 => ErrorKind::Unsupported,
        500 | 502 | 503 => ErrorKind::Unavailable,
        400..=499 => ErrorKind::Invalid,
        500..=599 => ErrorKind::Internal,
        _ => ErrorKind::Protocol,
    }
}

fn title(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "The request is at fault",
        ErrorKind::Unauthenticated => "Who asks is not known",
        ErrorKind::Forbidden => "Not allowed",
        ErrorKind::NotFound => "There is no such thing",
        ErrorKind::TooLarge => "Too large",
        ErrorKind::UnsupportedType => "The content type does not fit",
        ErrorKind::Conflict => "The idempotency key came with another payload",
        ErrorKind::Busy => "A limit is reached",
        ErrorKind::Unavailable => "Not available now",
        ErrorKind::Unsupported => "Not supported",
        ErrorKind::Timeout => "Timed out",
        ErrorKind::Protocol => "The other side broke the protocol",
        _ => "Internal error",
    }
}
