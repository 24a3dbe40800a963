//! Taking a request's body, within its limits.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pushpull_core::{ErrorKind, Problem};
use pushpull_http::BoxError;
use tokio::time::timeout;

/// Takes `body` whole: at most `limit` bytes, within `time`.
pub(crate) async fn read_body<B>(body: Pin<&mut B>, limit: usize, time: Duration) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let too_large = || Problem::new(ErrorKind::TooLarge, format!("the body is larger than {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match timeout(time, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(ErrorKind::Invalid, format!("the body broke off: {error}"))),
        Err(_) => Err(Problem::new(ErrorKind::Timeout, "the body took too long to come")),
    }
}
