//! Bodies that stream what a subscription gives, for servers that write to sockets by themselves.

use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use pushpull_core::Standing;

use crate::{Gate, Round};

/// A body that streams what a subscription gives: [`Body::live`](crate::Body::live).
///
/// The standalone [`Listener`](crate::Listener) serves it by the sweep of those who stand with it. To any other server it
/// is a body like others.
pub trait Live: Send + 'static {
    /// The next bytes; `None` at the end. While it is swept the subscription's news are not waited for: the sweep comes
    /// with them.
    ///
    /// # Cancel safety
    /// Nothing is lost between two polls.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, is_swept: bool) -> Poll<Option<Bytes>>;

    /// What it was let in by.
    fn gate(&self) -> &Gate;

    /// Whether it stands with others, so that it can be swept.
    fn standing(&self) -> Option<Standing>;

    /// What is new, in a sweep.
    fn take(&mut self, round: &mut Round) -> Given;
}

/// What a [`Live`] body gave in a sweep.
#[derive(Debug)]
pub enum Given {
    /// Nothing is there.
    Nothing,
    /// Bytes that are framed as a chunk already, by [`in_chunk`], and shared with others.
    Chunk(Bytes),
    /// Bytes of its own.
    Bytes(Bytes),
    /// Its last bytes.
    End(Bytes),
}

/// `parts`, joined, as one chunk of HTTP/1.1 (RFC 9112, 7.1). Not of no bytes: that would end the body.
pub fn in_chunk(parts: &[Bytes]) -> Bytes {
    let length: usize = parts.iter().map(Bytes::len).sum();
    let size = format!("{length:X}\r\n");
    let mut chunk = BytesMut::with_capacity(size.len() + length + 2);
    chunk.put_slice(size.as_bytes());
    parts.iter().for_each(|part| chunk.put_slice(part));
    chunk.put_slice(b"\r\n");
    chunk.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_its_length_in_hexadecimal() {
        let parts = [Bytes::from(vec![b'a'; 9]), Bytes::from_static(b"bc")];
        assert_eq!(in_chunk(&parts), "B\r\naaaaaaaaabc\r\n");
    }
}
