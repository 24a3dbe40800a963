//! A pattern's `>` in a request's target.
//!
//! RFC 3986 wants it percent-encoded, and browsers do so; `curl` and other plain clients send it as it is, and the
//! parser would refuse the whole head without a word about why.

use std::{io, time::Duration};

use futures_util::FutureExt;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Bytes of a request line that are looked at.
const LOOKED_AT: usize = 4096;
/// The first and the longest pause before looking again at a line that came in part.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

/// How many bytes have come, if a bare `>` is in the request line among them. They stay in the socket.
pub(super) fn bare(stream: &TcpStream) -> Option<usize> {
    let mut start = [0u8; LOOKED_AT];
    let seen = look(stream, &mut start)?;
    is_bare(seen).then_some(seen.len())
}

/// Whether the request line has come whole, or as much of it as is looked at; also where nothing more comes.
pub(super) fn is_whole(stream: &TcpStream) -> bool {
    let mut start = [0u8; LOOKED_AT];
    look(stream, &mut start).is_none_or(|seen| seen.len() == LOOKED_AT || line_of(seen) < seen.len())
}

/// Returns once [`is_whole`]. A socket with bytes in it is always readable, so there is nothing to wait for but time.
pub(super) async fn whole(stream: &TcpStream) {
    let (mut pause, longest) = PAUSES;
    while !is_whole(stream) {
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

fn look<'a>(stream: &TcpStream, start: &'a mut [u8; LOOKED_AT]) -> Option<&'a [u8]> {
    let seen = stream.peek(start).now_or_never()?.ok()?;
    Some(&start[..seen])
}

/// Takes `seen` bytes out of the socket.
pub(super) async fn taken(stream: &mut TcpStream, seen: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0; seen];
    stream.read_exact(&mut start).await?;
    Ok(start)
}

fn line_of(start: &[u8]) -> usize {
    start.iter().position(|byte| *byte == b'\n').unwrap_or(start.len())
}

fn is_bare(start: &[u8]) -> bool {
    start[..line_of(start)].contains(&b'>')
}

/// The same bytes with every `>` of the request line percent-encoded.
pub(super) fn encode(start: &[u8]) -> Vec<u8> {
    let (line, rest) = start.split_at(line_of(start));
    let mut mended = Vec::with_capacity(start.len() + 8);
    for byte in line {
        match byte {
            b'>' => mended.extend_from_slice(b"%3E"),
            byte => mended.push(*byte),
        }
    }
    mended.extend_from_slice(rest);
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_request_line_is_mended() {
        let head = b"GET /sse?topic=a.>&topic=> HTTP/1.1\r\nX: >\r\n\r\n";
        assert!(is_bare(head));
        assert_eq!(encode(head), b"GET /sse?topic=a.%3E&topic=%3E HTTP/1.1\r\nX: >\r\n\r\n");
        assert!(!is_bare(b"GET / HTTP/1.1\r\nX: >\r\n"));
        assert_eq!(encode(b"GET /sse?topic=>&top"), b"GET /sse?topic=%3E&top", "what has come so far");
    }
}
