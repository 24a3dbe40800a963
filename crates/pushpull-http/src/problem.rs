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

/// Most messages of one batch in a frame, and frames of one WebSocket message: 10,000. Each costs memory and the
/// broker's time whatever its length, so that bytes alone do not bound a batch.
pub const MAX_BATCH: usize = 10_000;

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

impl Members<'_> {
    /// Whether a server of ours wrote them: others describe their problems by the same media type.
    fn is_ours(&self) -> bool {
        let slug = self.kind.as_deref().and_then(|kind| kind.strip_prefix(TYPE_PREFIX));
        slug.and_then(ErrorKind::from_slug).is_some()
    }
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

/// The status of a problem; with `outcome` it is that of a publish.
pub fn status_of(problem: &Problem, outcome: Option<Outcome>) -> StatusCode {
    if outcome.is_some() { publish_status(problem) } else { status(problem) }
}

/// The problem as a response: with `outcome` it is that of a publish.
///
/// 429 and 503 bear `Retry-After` (1 s where the problem says nothing), 401 a `Bearer` challenge.
pub fn problem_response(problem: &Problem, outcome: Option<Outcome>) -> Response<Body> {
    problem_response_as(status_of(problem, outcome), problem, outcome)
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

/// Reads the problem that a response means, by its body if that is a problem, else by its status. Without a body that a
/// server of ours writes it is [in doubt](Problem::is_doubtful).
pub fn parse_problem(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Problem {
    parse_problem_of("the server", status, headers, body)
}

/// The same; where the answer does not describe itself, `who` is said to have given it.
pub(crate) fn parse_problem_of(who: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Problem {
    let members = parse_members(headers, body);
    let slug = members.as_ref().and_then(|members| members.kind.as_deref()?.rsplit('/').next());
    let kind = slug.and_then(ErrorKind::from_slug).unwrap_or_else(|| kind_of(status));
    let text = members.as_ref().and_then(|members| members.detail.as_deref().or(members.title.as_deref()));
    let detail = text.map_or_else(|| format!("{who} answered {status}"), str::to_owned);
    let mut problem = Problem::new(kind, detail);
    if !members.as_ref().is_some_and(Members::is_ours) {
        problem = problem.with_doubt();
    }
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

/// The word on the wire.
pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
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

/// What a problem's `title` says: the same for all of a kind.
pub fn title(kind: ErrorKind) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    const KINDS: [(ErrorKind, u16, &str); 13] = [
        (ErrorKind::Invalid, 400, "bad-request"),
        (ErrorKind::Unauthenticated, 401, "unauthenticated"),
        (ErrorKind::Forbidden, 403, "forbidden"),
        (ErrorKind::NotFound, 404, "not-found"),
        (ErrorKind::TooLarge, 413, "too-large"),
        (ErrorKind::UnsupportedType, 415, "unsupported-media-type"),
        (ErrorKind::Conflict, 422, "idempotency-conflict"),
        (ErrorKind::Busy, 503, "overloaded"),
        (ErrorKind::Unavailable, 503, "unavailable"),
        (ErrorKind::Unsupported, 501, "unsupported"),
        (ErrorKind::Timeout, 504, "timeout"),
        (ErrorKind::Protocol, 502, "protocol"),
        (ErrorKind::Internal, 500, "internal"),
    ];

    async fn taken_apart(response: Response<Body>) -> (u16, HeaderMap, Vec<u8>) {
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn every_kind_has_its_status_and_slug_and_reads_back() {
        for (kind, expected, slug) in KINDS {
            let problem = Problem::new(kind, "de \"tail\"").with_parameter("p");
            let (status, headers, body) = taken_apart(problem_response(&problem, None)).await;
            assert_eq!((status, headers[CONTENT_TYPE].to_str().unwrap()), (expected, MEDIA_TYPE));
            let members: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(members["type"], format!("{TYPE_PREFIX}{slug}"));
            assert_eq!((&members["status"], &members["detail"]), (&json!(expected), &json!("de \"tail\"")));
            assert_eq!((&members["parameter"], members.get("outcome")), (&json!("p"), None));
            assert!(members["title"].as_str().is_some_and(|title| !title.is_empty()));
            assert_eq!(headers.contains_key(RETRY_AFTER), expected == 503, "{slug}");
            assert_eq!(headers.contains_key(WWW_AUTHENTICATE), expected == 401, "{slug}");
            let read = parse_problem(StatusCode::from_u16(status).unwrap(), &headers, &body);
            assert_eq!((read.kind(), read.detail(), read.parameter()), (kind, "de \"tail\"", Some("p")));
        }
    }

    #[tokio::test]
    async fn a_publish_says_its_outcome() {
        for (kind, expected, _) in KINDS {
            let expected = if kind == ErrorKind::Busy { 429 } else { expected };
            for (outcome, word) in [(Outcome::NotApplied, "not-applied"), (Outcome::Unknown, "unknown")] {
                let problem = Problem::new(kind, "x");
                let (status, headers, body) = taken_apart(problem_response(&problem, Some(outcome))).await;
                assert_eq!(status, expected);
                let members: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!((&members["outcome"], members.get("parameter")), (&json!(word), None));
                let read = parse_publish_error(StatusCode::from_u16(status).unwrap(), &headers, &body);
                assert_eq!((read.kind(), read.outcome()), (kind, outcome));
            }
        }
    }

    #[tokio::test]
    async fn retry_after_is_in_whole_seconds_and_never_zero() {
        for (delay, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            let problem = Problem::new(ErrorKind::Unavailable, "x").with_retry(Duration::from_millis(delay));
            let (_, headers, body) = taken_apart(problem_response(&problem, None)).await;
            assert_eq!(headers[RETRY_AFTER], expected);
            let read = parse_problem(StatusCode::SERVICE_UNAVAILABLE, &headers, &body);
            assert_eq!(read.retry(), Retry::After(Duration::from_secs(expected.parse().unwrap())));
        }
        let (_, headers, _) = taken_apart(problem_response(&Problem::new(ErrorKind::Busy, "x"), None)).await;
        assert_eq!(headers[RETRY_AFTER], "1");
    }

    #[test]
    fn answers_of_others_are_understood_by_their_status() {
        let html = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
        let problem = HeaderMap::from_iter([(
            CONTENT_TYPE,
            HeaderValue::from_static("Application/Problem+JSON; charset=utf-8"),
        )]);
        for (status, headers, body, kind, outcome) in [
            (404, &html, "<h1>no</h1>", ErrorKind::NotFound, Outcome::NotApplied),
            (429, &html, "", ErrorKind::Busy, Outcome::NotApplied),
            (408, &html, "", ErrorKind::Timeout, Outcome::NotApplied),
            (502, &html, r#"{"type":"x/forbidden"}"#, ErrorKind::Unavailable, Outcome::Unknown),
            (504, &html, "", ErrorKind::Timeout, Outcome::Unknown),
            (418, &problem, "{", ErrorKind::Invalid, Outcome::NotApplied),
            (400, &problem, "{}", ErrorKind::Invalid, Outcome::NotApplied),
            (
                400,
                &problem,
                r#"{"type":"about:blank","status":400}"#,
                ErrorKind::Invalid,
                Outcome::NotApplied,
            ),
            (
                409,
                &problem,
                r#"{"type":"https://elsewhere.example/forbidden"}"#,
                ErrorKind::Forbidden,
                Outcome::NotApplied,
            ),
            (500, &problem, r#"{"outcome":"not-applied"}"#, ErrorKind::Unavailable, Outcome::NotApplied),
            (302, &html, "", ErrorKind::Protocol, Outcome::Unknown),
        ] {
            let read = parse_publish_error(StatusCode::from_u16(status).unwrap(), headers, body.as_bytes());
            assert_eq!((read.kind(), read.outcome()), (kind, outcome), "{status} {body}");
        }
    }

    #[tokio::test]
    async fn only_what_a_server_of_ours_wrote_is_beyond_doubt() {
        let (_, headers, body) =
            taken_apart(problem_response(&Problem::new(ErrorKind::Forbidden, "no"), None)).await;
        let status = StatusCode::FORBIDDEN;
        assert!(!parse_problem(status, &headers, &body).is_doubtful());
        for body in
            ["", "{}", r#"{"type":"about:blank"}"#, r#"{"type":"https://elsewhere.example/forbidden"}"#]
        {
            assert!(parse_problem(status, &headers, body.as_bytes()).is_doubtful(), "{body}");
        }
        assert!(
            parse_problem(status, &HeaderMap::new(), &body).is_doubtful(),
            "it is no problem by its type"
        );
    }

    #[test]
    fn a_delay_may_be_a_date() {
        let at =
            |text: &str| parse_retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(at("120"), Some(Duration::from_secs(120)));
        assert_eq!(at("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(100));
        assert!(at(&soon).is_some_and(|delay| (98..=100).contains(&delay.as_secs())));
        for bad in ["", "-1", "1.5", "soon", "99999999999"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
