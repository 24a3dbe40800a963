//! Taking a request's body, within its limits.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::BodyExt;
use pushpull_core::{ErrorKind, Problem};
use tokio::time::{Instant, timeout_at};

use crate::BoxError;

/// Room made before the first byte has come: what a peer only announces costs no more.
const FIRST_ROOM: usize = 64 * 1024;

/// Most bytes of a refused body that are read, and for how long.
const DISCARDED: usize = 64 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Reads and drops what is left of a refused `body`, within bounds: many a client sends all of it before it
/// looks for the answer, and would see the connection break instead (RFC 9112, 9.6).
pub(super) async fn discard_body<B>(mut body: Pin<&mut B>)
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let deadline = Instant::now() + DISCARD_TIME;
    let mut dropped = 0;
    while dropped < DISCARDED && !body.is_end_stream() {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { return };
        dropped += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Takes `body` whole: at most `limit` bytes, within `time`.
///
/// The bytes are copied together, so that a small payload does not keep a connection's read buffer alive.
pub(super) async fn read_body<B>(body: B, limit: usize, time: Duration) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let mut taken = Vec::with_capacity(announced.min(FIRST_ROOM));
    let (mut body, deadline) = (pin!(body), Instant::now() + time);
    loop {
        let frame = timeout_at(deadline, body.frame()).await;
        let frame = frame.map_err(|_| Problem::new(ErrorKind::Timeout, "the body took too long to come"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| broken(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.remaining() > limit - taken.len() {
            return Err(too_large(limit));
        }
        taken.extend_from_slice(&data);
    }
    Ok(taken.into_boxed_slice().into())
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ErrorKind::TooLarge, format!("the body is larger than {limit} bytes"))
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct BodyError(BoxError);

fn broken(error: BoxError) -> Problem {
    Problem::new(ErrorKind::Invalid, "the body broke off").with_source(BodyError(error))
}
