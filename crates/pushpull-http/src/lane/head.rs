//! The judge: whether what has come is a plain request.

use std::{mem::MaybeUninit, ops::Range};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Uri,
    header::{
        ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, IF_NONE_MATCH, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
    },
};
use memchr::{memchr, memchr_iter};

use crate::{Body, Incomings};

/// Most headers of a plain request.
const MAX_HEADERS: usize = 64;
/// What HTTP/2 with prior knowledge begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI ";

/// What has been found of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is plain and whole.
    Plain(Box<Plain>),
    /// Its head is not whole yet, and nothing is wrong with it so far.
    Partial,
    /// Its head is plain; its body is not whole yet.
    BodyPartial,
    /// It is not plain, or in doubt.
    Other,
    /// A bare `>` stands in its request line.
    Bare,
    /// It is the preface of HTTP/2.
    Http2,
}

/// A plain request.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) asked: Asked,
    pub(super) request: Incomings,
    /// How many bytes it took.
    pub(super) bytes: usize,
}

/// What the answer has to know of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    /// Whether the connection ends with the answer.
    pub(super) closes: bool,
}

impl Asked {
    pub(super) fn closing_if(mut self, closes: bool) -> Self {
        self.closes |= closes;
        self
    }
}

/// What the headers say of how the request is framed.
#[derive(Default)]
struct Framing {
    hosts: usize,
    length: Option<usize>,
    is_connection_seen: bool,
    closes: bool,
}

/// Judges what has come of a request, of which at most `room` bytes are looked at.
pub(super) fn judge(seen: &[u8], room: usize) -> Verdict {
    let begun = &seen[..seen.len().min(PREFACE.len())];
    if PREFACE.starts_with(begun) {
        return if begun.len() == PREFACE.len() { Verdict::Http2 } else { Verdict::Partial };
    }
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(seen, &mut headers) {
        Ok(httparse::Status::Complete(end)) => {
            weigh(&head, &seen[..end], seen, room).unwrap_or_else(|| doubt(seen))
        }
        Ok(httparse::Status::Partial) if seen.len() < room && is_lined(seen) => Verdict::Partial,
        _ => doubt(seen),
    }
}

fn doubt(seen: &[u8]) -> Verdict {
    let line = &seen[..memchr(b'\n', seen).unwrap_or(seen.len())];
    if memchr(b'>', line).is_some() { Verdict::Bare } else { Verdict::Other }
}

/// Whether every line so far ends as RFC 9112 has it, and the first has something in it: the parser is more lenient.
fn is_lined(seen: &[u8]) -> bool {
    is_begun(seen) && memchr_iter(b'\n', seen).all(|at| at > 0 && seen[at - 1] == b'\r')
}

fn is_begun(seen: &[u8]) -> bool {
    seen.first().is_some_and(u8::is_ascii_uppercase)
}

/// The request whose head `head` was read from `bytes`, if it is plain; `None` in any doubt. Every line has to end as RFC 9112
/// has it, and the first to have something in it: the parser is more lenient.
fn weigh(head: &httparse::Request<'_, '_>, bytes: &[u8], seen: &[u8], room: usize) -> Option<Verdict> {
    let method = method(head.method?)?;
    let path = head.path.filter(|path| path.starts_with('/') && head.version == Some(1))?;
    (is_begun(bytes) && bytes.ends_with(b"\r\n\r\n")).then_some(())?;
    let kept = Bytes::copy_from_slice(bytes);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_maybe_shared(kept.slice(within(bytes, path.as_bytes())?)).ok()?;
    let (mut framing, fields) = (Framing::default(), request.headers_mut());
    fields.reserve(head.headers.len());
    for header in head.headers.iter() {
        bytes[..within(bytes, header.name.as_bytes())?.start].ends_with(b"\r\n").then_some(())?;
        let name = name(header.name)?;
        framing.see(&name, header.value)?;
        let value = kept.slice(within(bytes, header.value)?);
        fields.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    let length = framing.length.unwrap_or(0);
    let is_bodied = method == Method::POST;
    let end = bytes.len().checked_add(length).filter(|end| *end <= room)?;
    if framing.hosts != 1 || (length > 0 && !is_bodied) {
        return None;
    }
    let Some(body) = seen.get(bytes.len()..end) else { return Some(Verdict::BodyPartial) };
    // A copy of its own: a payload is kept for longer than its head.
    *request.body_mut() = Body::full(Bytes::copy_from_slice(body));
    let asked = Asked { is_head: method == Method::HEAD, closes: framing.closes };
    *request.method_mut() = method;
    Some(Verdict::Plain(Box::new(Plain { asked, request, bytes: end })))
}

/// The name of a header. Those that are usual are told without a parser.
fn name(name: &str) -> Option<HeaderName> {
    Some(match name {
        "host" | "Host" => HOST,
        "content-length" | "Content-Length" => CONTENT_LENGTH,
        "content-type" | "Content-Type" => CONTENT_TYPE,
        "accept" | "Accept" => ACCEPT,
        "user-agent" | "User-Agent" => USER_AGENT,
        "authorization" | "Authorization" => AUTHORIZATION,
        "if-none-match" | "If-None-Match" => IF_NONE_MATCH,
        "connection" | "Connection" => CONNECTION,
        name => HeaderName::from_bytes(name.as_bytes()).ok()?,
    })
}

fn method(name: &str) -> Option<Method> {
    match name {
        "GET" => Some(Method::GET),
        "HEAD" => Some(Method::HEAD),
        "POST" => Some(Method::POST),
        _ => None,
    }
}

/// Where in `bytes` its `part` is.
fn within(bytes: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= bytes.len()).then_some(start..end)
}

impl Framing {
    /// Notes a header; `None` if a request that bears it is not plain.
    fn see(&mut self, name: &HeaderName, value: &[u8]) -> Option<()> {
        match *name {
            HOST => self.hosts += 1,
            CONTENT_LENGTH => {
                let length = length(value).filter(|_| self.length.is_none())?;
                self.length = Some(length);
            }
            CONNECTION => {
                self.closes = value.eq_ignore_ascii_case(b"close");
                let is_known = self.closes || value.eq_ignore_ascii_case(b"keep-alive");
                let is_first = !std::mem::replace(&mut self.is_connection_seen, true);
                (is_known && is_first).then_some(())?;
            }
            UPGRADE | EXPECT | TRANSFER_ENCODING | TE | TRAILER => return None,
            _ => {}
        }
        Some(())
    }
}

/// Digits alone: no sign, no space, no list.
fn length(value: &[u8]) -> Option<usize> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests;
