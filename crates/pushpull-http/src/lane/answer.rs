//! The answer to a plain request, written as hyper would write it.

use std::io;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
    response::Parts,
};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use tokio::{net::TcpStream, time::Instant};

use super::{date, head::Asked, turn::Turn, write};
use crate::Body;

/// Bytes of the head of an answer that streams, mostly.
const HEAD: usize = 256;

/// How the head says where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// Not at all: there is no body.
    Unsaid,
}

/// What is still to be written of an answer.
pub(super) enum Unsent {
    /// What the socket did not take at once.
    Left(write::Left),
    /// A body that comes in frames, and the head before it.
    Stream(Vec<u8>, Body, Framing),
}

/// Sends as much of `response` as the socket takes at once, or leaves it to `turn` to write with those behind it. Gives
/// back what is left, and whether the connection ends with it.
pub(super) fn send(
    socket: &TcpStream,
    turn: &mut Turn,
    response: Response<Body>,
    asked: Asked,
) -> io::Result<(Option<Unsent>, bool)> {
    let (mut parts, body) = response.into_parts();
    let body = if refuse_interim(&mut parts) { Body::empty() } else { body };
    let asked = asked.closing_if(says_close(&parts.headers));
    let framing = framing(&parts, &body, asked);
    let body = if asked.is_head || !may_have_body(parts.status) { Body::empty() } else { body };
    let now = turn.now();
    let put = |out: &mut Vec<u8>| put_head(&parts, framing, asked, now, out);
    let unsent = match body.into_whole() {
        Ok(bytes) if !asked.closes && bytes.len() <= write::JOINED => match turn.gathering() {
            Some(gathered) => {
                put(gathered);
                gathered.extend_from_slice(&bytes);
                None
            }
            None => write_after(turn, socket, put, bytes)?,
        },
        Ok(bytes) => write_after(turn, socket, put, bytes)?,
        Err(body) => {
            let mut head = turn.take_gathered();
            head.reserve(HEAD);
            put(&mut head);
            Some(Unsent::Stream(head, body, framing))
        }
    };
    Ok((unsent, asked.closes))
}

fn write_after(
    turn: &mut Turn,
    socket: &TcpStream,
    put: impl FnOnce(&mut Vec<u8>),
    body: Bytes,
) -> io::Result<Option<Unsent>> {
    let gathered = turn.take_gathered();
    let out = if gathered.is_empty() { write::room() } else { gathered };
    Ok(write::begin_after(out, socket, put, body, b"")?.map(Unsent::Left))
}

/// Answers in place of a service that gives an interim status, which is no answer.
fn refuse_interim(parts: &mut Parts) -> bool {
    let is_interim = parts.status.is_informational();
    if is_interim {
        tracing::warn!(status = %parts.status, "an interim status is no answer");
        parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        parts.headers.clear();
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    is_interim
}

fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// As RFC 9112, 6 has it. In answer to `HEAD` a length is said if it is known and not zero, or the service says it.
fn framing(parts: &Parts, body: &Body, asked: Asked) -> Framing {
    let known = body.size_hint().exact();
    let said = || parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    match known {
        _ if !may_have_body(parts.status) => Framing::Unsaid,
        None | Some(0) if asked.is_head => said().map_or(Framing::Unsaid, Framing::Length),
        Some(length) => Framing::Length(length),
        None => said().map_or(Framing::Chunked, Framing::Length),
    }
}

/// An answer has few headers: they are gone through sooner than one is looked up.
fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.iter().filter(|(name, _)| **name == CONNECTION);
    values
        .filter_map(|(_, value)| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

fn put_head(parts: &Parts, framing: Framing, asked: Asked, now: Instant, out: &mut Vec<u8>) {
    let mut is_dated = false;
    put_status(parts, out);
    for (name, value) in &parts.headers {
        is_dated |= *name == DATE;
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            put_header(name, value.as_bytes(), out);
        }
    }
    match framing {
        Framing::Length(length) => {
            put_header(&CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes(), out);
        }
        Framing::Chunked => put_header(&TRANSFER_ENCODING, b"chunked", out),
        Framing::Unsaid => {}
    }
    if asked.closes && !says_close(&parts.headers) {
        put_header(&CONNECTION, b"close", out);
    }
    if !is_dated {
        out.extend_from_slice(b"date: ");
        date::put(now, out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn put_status(parts: &Parts, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    let custom = parts.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    out.extend_from_slice(
        custom.unwrap_or_else(|| parts.status.canonical_reason().unwrap_or("<none>").as_bytes()),
    );
    out.extend_from_slice(b"\r\n");
}

fn put_header(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.as_str().len() + value.len() + 4);
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
