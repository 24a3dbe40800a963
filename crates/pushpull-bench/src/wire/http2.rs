//! Frames of HTTP/2 (RFC 9113), as far as one call a connection needs them.

use std::{borrow::Cow, io};

use crate::dialect::Address;

/// Bytes before a frame's payload.
const HEADER: usize = 9;
/// The longest payload: what SETTINGS_MAX_FRAME_SIZE is unless something else is said, and nothing is.
const LONGEST: usize = 16_384;
/// What a connection may send before it is granted more, whatever its settings.
const FIRST_WINDOW: u32 = 65_535;
/// The stream of the one call.
pub(super) const CALL: u32 = 1;
/// Bytes that the server may send unasked, on the connection and on its one stream.
pub(super) const WINDOW: u32 = 8 << 20;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Data = 0,
    Headers = 1,
    Reset = 3,
    Settings = 4,
    Push = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// None of those that may be passed over.
    pub(super) kind: Option<Kind>,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

/// How many bytes the frame at the beginning of `bytes` has, if so much of it is there.
///
/// # Errors
///
/// It is longer than it may be.
pub(super) fn length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let [high, middle, low, ..] = bytes else { return Ok(None) };
    match usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low) {
        length if length > LONGEST => Err(broken(&format!("a frame of {length} bytes"))),
        length => Ok(Some(HEADER + length)),
    }
}

/// The frame at the beginning of `bytes`, if all of it is there.
pub(super) fn frame(bytes: &[u8]) -> io::Result<Option<Frame<'_>>> {
    let Some(length) = length(bytes)? else { return Ok(None) };
    let Some((header, payload)) = bytes.get(..length).and_then(<[u8]>::split_first_chunk::<HEADER>) else {
        return Ok(None);
    };
    let [_, _, _, kind, flags, stream @ ..] = *header;
    Ok(Some(Frame { kind: Kind::of(kind), flags, stream: u32::from_be_bytes(stream) & !(1 << 31), payload }))
}

impl Kind {
    fn of(kind: u8) -> Option<Self> {
        let all = [
            Self::Data,
            Self::Headers,
            Self::Reset,
            Self::Settings,
            Self::Push,
            Self::Ping,
            Self::GoAway,
            Self::WindowUpdate,
            Self::Continuation,
        ];
        all.into_iter().find(|known| *known as u8 == kind)
    }
}

impl<'a> Frame<'a> {
    /// Bytes of header and payload.
    pub(super) fn length(&self) -> usize {
        HEADER + self.payload.len()
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it has the length and the stream that its kind demands.
    pub(super) fn check(&self) -> io::Result<()> {
        let length = self.payload.len();
        let (is_sized, is_placed) = match self.kind {
            Some(Kind::Data) => (true, self.stream == CALL),
            Some(Kind::Headers) => (!self.has(PRIORITY), self.stream == CALL),
            Some(Kind::Reset) => (length == 4, self.stream == CALL),
            Some(Kind::Settings) if self.has(ACK) => (length == 0, self.stream == 0),
            Some(Kind::Settings) => (length.is_multiple_of(6), self.stream == 0),
            Some(Kind::Ping) => (length == 8, self.stream == 0),
            Some(Kind::GoAway) => (length >= 8, self.stream == 0),
            Some(Kind::WindowUpdate) => (length == 4, self.stream <= CALL),
            Some(Kind::Push | Kind::Continuation) => (false, false),
            None => (true, true),
        };
        let told = || broken(&format!("{:?} of {length} bytes on stream {}", self.kind, self.stream));
        (is_sized && is_placed).then_some(()).ok_or_else(told)
    }

    /// The payload without its padding.
    pub(super) fn content(&self) -> io::Result<&'a [u8]> {
        if !self.has(PADDED) {
            return Ok(self.payload);
        }
        let content = self
            .payload
            .split_first()
            .and_then(|(padding, content)| content.get(..content.len().checked_sub(usize::from(*padding))?));
        content.ok_or_else(|| broken("more padding than frame"))
    }

    /// The error of a RST_STREAM or GOAWAY, by name.
    pub(super) fn refusal(&self) -> io::Error {
        let (name, code, debug) = match (self.kind, self.payload) {
            (Some(Kind::GoAway), [_, _, _, _, code @ ..]) => ("GOAWAY", code, code.get(4..).unwrap_or(&[])),
            (_, code) => ("RST_STREAM", code, &[][..]),
        };
        let code = code.first_chunk().map_or(u32::MAX, |code| u32::from_be_bytes(*code));
        let debug = String::from_utf8_lossy(debug);
        io::Error::other(format!("the server sent {name}: {} {debug}", error_name(code)))
    }
}

/// Writes a frame.
pub(super) fn put(into: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    // A payload of ours has some hundred bytes.
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    into.extend_from_slice(&length);
    into.extend_from_slice(&[kind as u8, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

/// Grants `bytes` more on the connection and on the call.
pub(super) fn put_grant(into: &mut Vec<u8>, bytes: u32) {
    for stream in [0, CALL] {
        put(into, Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes());
    }
}

/// A whole connection's beginning: the preface, settings, and one call of `path` with `message`.
pub(super) fn call(server: Address, path: &str, message: &[u8]) -> Vec<u8> {
    let setting = |id: u16, value: u32| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    // Without a table the server's header blocks need no memory here: HEADER_TABLE_SIZE, ENABLE_PUSH,
    // INITIAL_WINDOW_SIZE.
    let settings = [setting(1, 0), setting(2, 0), setting(4, WINDOW)].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    put(&mut bytes, Kind::Settings, 0, 0, &settings);
    put(&mut bytes, Kind::WindowUpdate, 0, 0, &(WINDOW - FIRST_WINDOW).to_be_bytes());
    put(&mut bytes, Kind::Headers, END_HEADERS, CALL, &header_block(server, path));
    put(&mut bytes, Kind::Data, END_STREAM, CALL, message);
    bytes
}

/// HPACK (RFC 7541) by indices of the static table and literals that are neither indexed nor compressed.
fn header_block(server: Address, path: &str) -> Vec<u8> {
    let string = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    // :scheme https or http
    let scheme = if server.tls.is_some() { 0x87 } else { 0x86 };
    [
        vec![0x83, scheme], // :method POST
        vec![0x04],
        string(path),
        vec![0x01], // :authority
        string(&server.to_string()),
        vec![0x0f, 31 - 15], // content-type
        string("application/grpc"),
        vec![0x00],
        string("te"),
        string("trailers"),
    ]
    .concat()
}

pub(super) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("HTTP/2 that may not be: {what}"))
}

/// RFC 9113, 7.
fn error_name(code: u32) -> Cow<'static, str> {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = NAMES.get(code as usize).copied().map(Cow::Borrowed);
    name.unwrap_or_else(|| format!("code {code:#x}").into())
}

#[cfg(test)]
mod tests;
