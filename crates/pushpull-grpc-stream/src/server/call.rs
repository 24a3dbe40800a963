//! One call: its deadline, its message, its answer.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, request::Parts};
use http_body::Frame;
use pushpull_core::{ErrorKind, Outcome, Problem, PublishError};
use pushpull_http::{
    Body, Gate, Refusal, Rejection,
    proto::{Counted, is_bounded},
};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{
    Code, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::{Incoming, streaming_response};
use crate::{proto::ServerFrame, status};

const TIMEOUT: &str = "grpc-timeout";
const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Why a call is not served.
#[derive(Debug)]
pub(super) struct Failure {
    problem: Problem,
    outcome: Option<Outcome>,
    is_counted: bool,
    /// The message encodings to name, where another one came.
    accepts: Option<&'static str>,
}

impl Failure {
    /// The same, of a publish; where it does not say, nothing was published.
    pub(super) fn of_publish(mut self) -> Self {
        self.outcome = self.outcome.or(Some(match self.problem.kind() {
            ErrorKind::Timeout => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }));
        self
    }

    pub(super) fn into_response(self, gate: &Gate) -> Response<Body> {
        if !self.is_counted {
            gate.metrics().rejected(Rejection::from(&self.problem));
        }
        let mut response = status::status_of(&self.problem, self.outcome, None).into_http::<Body>();
        if let Some(accepts) = self.accepts {
            response.headers_mut().insert(ACCEPT_ENCODING, http::HeaderValue::from_static(accepts));
        }
        response
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, outcome: None, is_counted: false, accepts: None }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { is_counted: true, ..refusal.problem.into() }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self { outcome: Some(error.outcome()), ..error.problem().clone().into() }
    }
}

/// Messages come as they are, or not at all: nobody is made to inflate what a stranger compressed.
pub(super) fn check_encoding(head: &Parts) -> Result<(), Failure> {
    match head.headers.get(ENCODING).map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(()),
        Some(_) => {
            let problem = Problem::new(ErrorKind::Unsupported, "messages must not be compressed");
            Err(Failure { accepts: Some("identity"), ..problem.into() })
        }
    }
}

/// When the caller stops waiting, by `grpc-timeout`.
pub(super) fn deadline_of(head: &Parts) -> Result<Option<Instant>, Problem> {
    let Some(value) = head.headers.get(TIMEOUT) else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(parse_timeout);
    let timeout = timeout.ok_or_else(|| {
        Problem::invalid(TIMEOUT, "it must be at most 8 digits and one of H, M, S, m, u, n")
    })?;
    Ok(Instant::now().checked_add(timeout))
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// What `work` gives, if it does so before `deadline`.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match deadline {
        None => work.await,
        Some(deadline) => timeout_at(deadline, work).await.unwrap_or_else(|_| Err(too_late().into())),
    }
}

pub(crate) fn too_late() -> Problem {
    Problem::new(ErrorKind::Timeout, "the deadline passed")
}

/// The messages of a request, of at most `limit` bytes each.
pub(crate) fn streaming<Q: prost::Message + Default + 'static>(
    body: Incoming,
    limit: usize,
    counted: Counted,
) -> Streaming<Q> {
    let inner = ProstCodec::<ServerFrame, Q>::default().decoder();
    Streaming::new_request(Bounded { inner, counted }, body, None, Some(limit))
}

/// Reads messages, but none that would become many times what it is on the wire.
struct Bounded<Q> {
    inner: ProstDecoder<Q>,
    counted: Counted,
}

impl<Q: prost::Message + Default> Decoder for Bounded<Q> {
    type Item = Q;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Q>, Status> {
        // A message lies in one piece.
        if !is_bounded(bytes.chunk(), self.counted) {
            return Err(Status::resource_exhausted("the message has too many fields"));
        }
        self.inner.decode(bytes)
    }
}

/// The one message of a request.
pub(super) async fn read_one<Q: prost::Message + Default + 'static>(
    gate: &Gate,
    body: Incoming,
    limit: usize,
) -> Result<Q, Problem> {
    let mut messages = streaming::<Q>(body, limit, Counted::Own);
    match timeout(gate.limits().body_time, messages.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Problem::invalid("request", "it bears no message")),
        Ok(Err(status)) => Err(unread(&status)),
        Err(_) => Err(Problem::new(ErrorKind::Timeout, "the request did not come in time")),
    }
}

/// Why a message could not be read.
pub(crate) fn unread(status: &Status) -> Problem {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Problem::new(ErrorKind::TooLarge, status.message().to_owned())
        }
        _ => Problem::invalid("request", status.message().to_owned()),
    }
}

/// The answer to a unary call: one message, and that all went well.
pub(super) fn unary_response(message: &Bytes) -> Response<Body> {
    streaming_response(Body::new(Unary { message: Some(message.clone()), is_ended: false }))
}

struct Unary {
    message: Option<Bytes>,
    is_ended: bool,
}

impl http_body::Body for Unary {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        let was_ended = std::mem::replace(&mut self.is_ended, true);
        Poll::Ready((!was_ended).then(|| Ok(Frame::trailers(trailers(&Status::new(Code::Ok, ""))))))
    }
}

/// A status as the end of a stream.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Err(error) = status.add_header(&mut trailers) {
        // A message that cannot stand in a header: the code alone is still true.
        tracing::debug!(%error, "a status cannot be told whole");
        trailers.insert(Status::GRPC_STATUS, i32::from(status.code()).into());
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, timeout) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("1ü", None),
        ] {
            assert_eq!(parse_timeout(text), timeout, "{text:?}");
        }
    }
}
