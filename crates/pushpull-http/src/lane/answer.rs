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
use tokio::net::TcpStream;

use super::{date, head::Asked, socket, stream, write};
use crate::Body;

/// How the head says where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// Not at all: there is no body.
    Unsaid,
}

/// Sends `response`. Whether the connection goes on.
pub(super) async fn send(
    socket: &TcpStream,
    response: Response<Body>,
    asked: Asked,
    early: &mut bool,
) -> bool {
    let (mut parts, body) = response.into_parts();
    let body = if refuse_interim(&mut parts) { Body::empty() } else { body };
    let asked = asked.closing_if(says_close(&parts.headers));
    let framing = framing(&parts, &body, asked);
    let is_sent = if asked.is_head || !may_have_body(parts.status) {
        drop(body);
        write::all(socket, |out| put_head(&parts, framing, asked, out), Bytes::new()).await
    } else {
        send_body(socket, &parts, body, framing, asked, early).await
    };
    if asked.closes && is_sent.is_ok() {
        socket::close(socket);
    }
    is_sent.is_ok() && !asked.closes
}

async fn send_body(
    socket: &TcpStream,
    parts: &Parts,
    body: Body,
    framing: Framing,
    asked: Asked,
    early: &mut bool,
) -> io::Result<()> {
    match body.into_whole() {
        Ok(bytes) => write::all(socket, |out| put_head(parts, framing, asked, out), bytes).await,
        Err(body) => {
            let mut head = Vec::with_capacity(256);
            put_head(parts, framing, asked, &mut head);
            // Boxed: only a stream is to pay for it.
            Box::pin(stream::send(socket, head, body, framing, early)).await
        }
    }
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

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

fn put_head(parts: &Parts, framing: Framing, asked: Asked, out: &mut Vec<u8>) {
    put_status(parts, out);
    for (name, value) in &parts.headers {
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
    if !parts.headers.contains_key(DATE) {
        out.extend_from_slice(b"date: ");
        date::put(out);
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
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
