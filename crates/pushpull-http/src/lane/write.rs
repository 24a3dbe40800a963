//! Writing to a socket: from a buffer that all connections of a thread share, as long as the socket takes it.

use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, IoSlice, Write},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, buf::Chain};
use tokio::net::TcpStream;

/// Most bytes that are copied behind others rather than written beside them.
pub(super) const JOINED: usize = 8 * 1024;
/// Most room that the shared buffer keeps.
const KEPT: usize = 32 * 1024;

thread_local! {
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a socket did not take yet.
pub(super) type Left = Chain<Chain<Bytes, Bytes>, &'static [u8]>;

/// Writes what `put` puts into a buffer, and then `body`; in one write, if the socket takes it.
pub(super) async fn all(socket: &TcpStream, put: impl FnOnce(&mut Vec<u8>), body: Bytes) -> io::Result<()> {
    match begin(socket, put, body, b"")? {
        Some(left) => rest(socket, left).await,
        None => Ok(()),
    }
}

/// Writes `head` and then `data` as a chunk (RFC 9112, 7.1), in the same way.
pub(super) async fn chunk(socket: &TcpStream, head: &[u8], data: Bytes) -> io::Result<()> {
    let length = data.len();
    let put = |out: &mut Vec<u8>| {
        out.extend_from_slice(head);
        // Writing into a vector cannot fail.
        let _ = write!(out, "{length:X}\r\n");
    };
    match begin(socket, put, data, b"\r\n")? {
        Some(left) => rest(socket, left).await,
        None => Ok(()),
    }
}

/// Writes as much as the socket takes at once. What is left has bytes of its own.
pub(super) fn begin(
    socket: &TcpStream,
    put: impl FnOnce(&mut Vec<u8>),
    body: Bytes,
    tail: &'static [u8],
) -> io::Result<Option<Left>> {
    begin_after(room(), socket, put, body, tail)
}

/// The buffer that all connections of a thread share, empty. [`begin_after`] gives it back.
pub(super) fn room() -> Vec<u8> {
    let mut out = SHARED.take();
    out.clear();
    out
}

/// As [`begin`], after what `out` has.
pub(super) fn begin_after(
    mut out: Vec<u8>,
    socket: &TcpStream,
    put: impl FnOnce(&mut Vec<u8>),
    mut body: Bytes,
    tail: &'static [u8],
) -> io::Result<Option<Left>> {
    put(&mut out);
    let mut parts = match body.len() {
        ..=JOINED => {
            out.extend_from_slice(&std::mem::take(&mut body));
            out.extend_from_slice(tail);
            (&out[..]).chain(body).chain(&b""[..])
        }
        _ => (&out[..]).chain(body).chain(tail),
    };
    let written = write(socket, &parts)?;
    parts.advance(written);
    let left = parts.has_remaining().then(|| {
        let (parts, tail) = parts.into_inner();
        let (out, body) = parts.into_inner();
        Bytes::copy_from_slice(out).chain(body).chain(tail)
    });
    if out.capacity() <= KEPT {
        SHARED.set(out);
    }
    Ok(left)
}

/// Writes what is left, as the socket takes it.
pub(super) async fn rest(socket: &TcpStream, mut left: Left) -> io::Result<()> {
    poll_fn(|cx| poll_left(socket, &mut left, cx)).await
}

/// The same, for those who wait by themselves.
pub(super) fn poll_left(socket: &TcpStream, left: &mut Left, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while left.has_remaining() {
        ready!(socket.poll_write_ready(cx))?;
        let written = write(socket, &*left)?;
        left.advance(written);
    }
    Poll::Ready(Ok(()))
}

/// How many bytes the socket took: none if it takes none now.
fn write(socket: &TcpStream, parts: &impl Buf) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); 3];
    let written = match parts.chunks_vectored(&mut slices) {
        0 => return Ok(0),
        1 => socket.try_write(&slices[0]),
        count => socket.try_write_vectored(&slices[..count]),
    };
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
