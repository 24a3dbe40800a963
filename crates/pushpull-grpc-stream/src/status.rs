//! Problems as gRPC statuses, and back.
//!
//! A status bears the slug of the problem's `type` in its details, as the reason of an `ErrorInfo`; the field at fault
//! in a `BadRequest`; when to come back in a `RetryInfo`.

#[cfg(feature = "server")]
use std::collections::HashMap;
#[cfg(feature = "client")]
use std::time::Duration;

use pushpull_core::{Cursor, ErrorKind, Outcome, Problem};
use tonic::{Code, Status};
use tonic_types::StatusExt;
#[cfg(feature = "server")]
use {pushpull_core::Retry, tonic::metadata::MetadataMap, tonic_types::ErrorDetails};

/// The trailer that says where to resume.
pub(crate) const CURSOR: &str = "pushpull-cursor";
/// Whose slugs they are.
const DOMAIN: &str = "pushpull.v1";
const OUTCOME: &str = "outcome";

/// The status that says `problem`; with `outcome` it is that of a publish.
#[cfg(feature = "server")]
pub(crate) fn status_of(problem: &Problem, outcome: Option<Outcome>, place: Option<Cursor>) -> Status {
    let mut facts =
        HashMap::from([("type".to_owned(), pushpull_http::problem::TYPE_PREFIX.to_owned() + slug(problem))]);
    if let Some(outcome) = outcome {
        facts.insert(OUTCOME.to_owned(), outcome_word(outcome).to_owned());
    }
    let mut details = ErrorDetails::with_error_info(slug(problem), DOMAIN, facts);
    let message = match problem.parameter() {
        Some(parameter) => {
            details.add_bad_request_violation(parameter, problem.detail());
            format!("{parameter}: {}", problem.detail())
        }
        None => problem.detail().to_owned(),
    };
    if let Retry::After(delay) = problem.retry() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details_and_metadata(code_of(problem.kind()), message, details, resume_at(place))
}

/// The end of a stream that nobody is to come back to.
#[cfg(feature = "server")]
pub(crate) fn ended_at(place: Option<Cursor>) -> Status {
    Status::with_metadata(Code::Ok, "", resume_at(place))
}

#[cfg(feature = "server")]
fn resume_at(place: Option<Cursor>) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    if let Some(Ok(place)) = place.map(|place| place.to_string().parse()) {
        metadata.insert(CURSOR, place);
    }
    metadata
}

#[cfg(feature = "server")]
fn slug(problem: &Problem) -> &'static str {
    problem.kind().slug()
}

/// The word on the wire.
#[cfg(feature = "server")]
pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not-applied",
        _ => "unknown",
    }
}

#[cfg(feature = "server")]
fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid | ErrorKind::UnsupportedType => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::TooLarge | ErrorKind::Busy => Code::ResourceExhausted,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Protocol => Code::Unknown,
        _ => Code::Internal,
    }
}

/// What a status means: by its slug, else by its code.
#[cfg(feature = "client")]
pub(crate) fn problem_of(status: &Status) -> Problem {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let kind =
        info.and_then(|info| ErrorKind::from_slug(&info.reason)).unwrap_or_else(|| kind_of(status.code()));
    let violation = details.bad_request().and_then(|bad| bad.field_violations.first());
    let mut problem = match violation {
        Some(violation) => {
            Problem::new(kind, violation.description.clone()).with_parameter(violation.field.clone())
        }
        None => Problem::new(kind, detail(status)),
    };
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        problem = problem.with_retry(delay);
    }
    problem
}

/// Whether a publish that ended so was applied. Where the server does not say, a code by which it refuses means not.
#[cfg(feature = "client")]
pub(crate) fn outcome_of(status: &Status) -> Outcome {
    let details = status.get_error_details();
    let said = details.error_info().and_then(|info| info.metadata.get(OUTCOME));
    match said.map(String::as_str) {
        Some("not-applied") => Outcome::NotApplied,
        Some(_) => Outcome::Unknown,
        None => match status.code() {
            Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unimplemented
            | Code::ResourceExhausted => Outcome::NotApplied,
            _ => Outcome::Unknown,
        },
    }
}

/// When the server announced that it goes away, how long it asks to stay away.
#[cfg(feature = "client")]
pub(crate) fn announced(status: &Status) -> Option<(Duration, Option<Cursor>)> {
    let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    let retry = retry.filter(|_| status.code() == Code::Unavailable)?;
    let place = status.metadata().get(CURSOR).and_then(|value| value.to_str().ok()?.parse().ok());
    Some((retry, place))
}

/// The kind of a status that others gave. What no server of ours says, such as a broken connection, may pass.
#[cfg(feature = "client")]
fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition => ErrorKind::Invalid,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::Forbidden,
        Code::NotFound => ErrorKind::NotFound,
        Code::OutOfRange => ErrorKind::TooLarge,
        Code::ResourceExhausted => ErrorKind::Busy,
        Code::AlreadyExists => ErrorKind::Conflict,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(feature = "client")]
fn detail(status: &Status) -> String {
    let mut innermost: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(source) = innermost.and_then(std::error::Error::source) {
        innermost = Some(source);
    }
    match (innermost, status.message()) {
        (Some(cause), message) => format!("{message}: {cause}"),
        (None, "") => format!("the server answered {:?}", status.code()),
        (None, message) => message.to_owned(),
    }
}

#[cfg(all(test, feature = "server", feature = "client"))]
mod tests {
    use super::*;

    #[test]
    fn a_problem_survives_its_status() {
        for (kind, code) in [
            (ErrorKind::Invalid, Code::InvalidArgument),
            (ErrorKind::Unauthenticated, Code::Unauthenticated),
            (ErrorKind::Forbidden, Code::PermissionDenied),
            (ErrorKind::NotFound, Code::NotFound),
            (ErrorKind::TooLarge, Code::ResourceExhausted),
            (ErrorKind::UnsupportedType, Code::InvalidArgument),
            (ErrorKind::Conflict, Code::AlreadyExists),
            (ErrorKind::Busy, Code::ResourceExhausted),
            (ErrorKind::Unavailable, Code::Unavailable),
            (ErrorKind::Unsupported, Code::Unimplemented),
            (ErrorKind::Timeout, Code::DeadlineExceeded),
            (ErrorKind::Protocol, Code::Unknown),
            (ErrorKind::Internal, Code::Internal),
        ] {
            let problem =
                Problem::new(kind, "why").with_parameter("field").with_retry(Duration::from_millis(1500));
            for outcome in [Outcome::NotApplied, Outcome::Unknown] {
                let status = status_of(&problem, Some(outcome), None);
                assert_eq!((status.code(), status.message()), (code, "field: why"));
                assert_eq!(status.get_error_details().error_info().unwrap().reason, kind.slug());
                let read = problem_of(&status);
                assert_eq!((read.kind(), read.detail(), read.parameter()), (kind, "why", Some("field")));
                assert_eq!((read.retry(), outcome_of(&status)), (problem.retry(), outcome));
            }
        }
    }

    #[test]
    fn the_statuses_of_others_are_understood_by_their_code() {
        for (status, kind, outcome) in [
            (Status::unknown("h2"), ErrorKind::Unavailable, Outcome::Unknown),
            (Status::cancelled(""), ErrorKind::Unavailable, Outcome::Unknown),
            (Status::internal(""), ErrorKind::Unavailable, Outcome::Unknown),
            (Status::unavailable(""), ErrorKind::Unavailable, Outcome::Unknown),
            (Status::resource_exhausted(""), ErrorKind::Busy, Outcome::NotApplied),
            (Status::unimplemented(""), ErrorKind::Unsupported, Outcome::NotApplied),
            (Status::deadline_exceeded(""), ErrorKind::Timeout, Outcome::Unknown),
        ] {
            assert_eq!((problem_of(&status).kind(), outcome_of(&status)), (kind, outcome), "{status:?}");
        }
    }
}
