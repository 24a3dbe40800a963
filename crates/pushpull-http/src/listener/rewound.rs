//! A socket of which something was read already.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The socket of a connection that a [`Listener`](crate::Listener) leaves to hyper: what was received before is read first.
///
/// A service that upgrades a connection takes the socket back by `downcast::<TokioIo<Rewound>>`, where there is no TLS.
#[derive(Debug)]
pub struct Rewound {
    /// What is read first.
    first: Bytes,
    stream: TcpStream,
}

impl Rewound {
    pub(crate) fn new(first: impl Into<Bytes>, stream: TcpStream) -> Self {
        Self { first: first.into(), stream }
    }

    /// What is still to be read before what is in the socket, and the socket.
    pub fn into_parts(self) -> (Bytes, TcpStream) {
        (self.first, self.stream)
    }

    /// Changes what is read first.
    pub(super) fn mended(self, mend: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        Self::new(mend(&self.first), self.stream)
    }

    /// Done once there is something to read, or the end.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self.first.is_empty() {
            true => self.stream.readable().await,
            false => Ok(()),
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, room);
        }
        let count = self.first.len().min(room.remaining());
        room.put_slice(&self.first[..count]);
        self.first.advance(count);
        if self.first.is_empty() {
            // It would else keep its bytes.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_received_is_read_first_and_all_of_it() {
        let (mut client, stream) = pair().await;
        client.write_all(b"cdef").await.unwrap();
        client.shutdown().await.unwrap();
        let mut rewound = Rewound::new(&b"ab"[..], stream);
        let mut room = [0; 1];
        rewound.read_exact(&mut room).await.unwrap();
        let mut rest = Vec::new();
        rewound.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&room, &rest[..]), (b"a", &b"bcdef"[..]));
    }

    #[tokio::test]
    async fn what_nobody_read_is_given_back_with_the_socket() {
        let (mut client, stream) = pair().await;
        let mut rewound = Rewound::new(&b"abc"[..], stream);
        rewound.readable().await.unwrap();
        rewound.read_exact(&mut [0; 1]).await.unwrap();
        let (first, mut stream) = rewound.into_parts();
        assert_eq!(first, "bc");
        stream.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
    }
}
