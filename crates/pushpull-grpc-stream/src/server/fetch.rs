//! `Fetch`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use pushpull_core::{Batch, Context, Delivery, ErrorKind, Fetch, FetchError, Problem, Pull, Start, StartAt};
use pushpull_http::{Gate, Transport};

use super::call::Failure;
use crate::{
    codec::{self, MAX_FRAME},
    proto::{FetchReply, FetchRequest},
};

/// A reply is cut at this many bytes of frames; one event comes even if it is larger, and a snapshot comes whole.
const CUT: usize = 3 * 1024 * 1024;
/// The number of the field `events`.
const EVENTS: u32 = 1;

pub(super) async fn answer(
    pull: Option<&dyn Pull>,
    gate: &Gate,
    cx: &Context,
    asked: &FetchRequest,
) -> Result<Bytes, Failure> {
    let fetch = codec::fetch_of(asked)?;
    gate.authorize_topics(cx, &fetch.topics).await?;
    let Some(pull) = pull else {
        return Err(Problem::new(ErrorKind::Unsupported, "this server has nothing to fetch from").into());
    };
    let is_unit = matches!(fetch.start, StartAt::Start(Start::Snapshot | Start::Last));
    let mut batch = wait(pull, gate, cx, fetch).await.map_err(Problem::from)?;
    let frames = frames(&mut batch, is_unit);
    let reply = reply(&frames, &batch);
    if reply.len() > MAX_FRAME {
        return Err(Problem::new(ErrorKind::TooLarge, "the reply would have more than 4 MiB").into());
    }
    count(gate, &batch);
    Ok(reply)
}

/// Waits as asked; a drain ends the wait, and the answer is what there is.
async fn wait(pull: &dyn Pull, gate: &Gate, cx: &Context, mut fetch: Fetch) -> Result<Batch, FetchError> {
    if fetch.start == StartAt::Start(Start::Latest) && !fetch.wait.is_zero() {
        // Given a place, it can be asked a second time.
        let newest = fetch.clone().with_limit(1).with_wait(Duration::ZERO);
        let place = pull.fetch(cx, newest).await?.place;
        fetch.start = place.map_or(fetch.start, StartAt::After);
    }
    tokio::select! {
        biased;
        fetched = pull.fetch(cx, fetch.clone()) => return fetched,
        () = pushpull_http::expired(cx) => {
            return Err(Problem::new(ErrorKind::Unauthenticated, "the token has expired").into());
        }
        () = gate.drain().cancelled() => {}
    }
    fetch.wait = Duration::ZERO;
    pull.fetch(cx, fetch).await
}

/// The frames of a batch, which is cut behind the last event that fits.
fn frames(batch: &mut Batch, is_unit: bool) -> Vec<Bytes> {
    let (mut frames, mut bytes, mut kept) = (Vec::new(), 0, None);
    for (at, delivery) in batch.deliveries.iter().enumerate() {
        let frame = match delivery {
            Delivery::Event(event) => codec::event_frame(event),
            Delivery::Gap(gap) => codec::gap_frame(gap),
            _ => continue,
        };
        bytes += frame.len();
        if let (true, false, Some((end, held, place))) = (bytes > CUT, is_unit, kept) {
            // A gap that stood last is told again to who goes on from the event before it.
            batch.deliveries.truncate(end);
            frames.truncate(held);
            (batch.place, batch.more) = (Some(place), true);
            return frames;
        }
        frames.push(frame);
        if let Delivery::Event(event) = delivery {
            kept = Some((at + 1, frames.len(), event.cursor()));
        }
    }
    frames
}

/// The reply as a gRPC message, of frames that are encoded already.
fn reply(frames: &[Bytes], batch: &Batch) -> Bytes {
    let rest = FetchReply {
        events: Vec::new(),
        cursor: batch.place.map(|place| place.to_string()).unwrap_or_default(),
        more: batch.more,
        closed: batch.closed,
    };
    let mut body = BytesMut::new();
    for frame in frames {
        let frame = &frame[codec::PREFIX..];
        encode_key(EVENTS, WireType::LengthDelimited, &mut body);
        encode_varint(frame.len() as u64, &mut body);
        body.put_slice(frame);
    }
    rest.encode_raw(&mut body);
    codec::prefixed(&body)
}

fn count(gate: &Gate, batch: &Batch) {
    gate.metrics().delivered(Transport::Grpc, batch.events() as u64);
    for delivery in &batch.deliveries {
        if let Delivery::Gap(gap) = delivery {
            gate.metrics().gap(gap.reason);
        }
    }
}
