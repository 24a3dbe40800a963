//! The body of an answer that comes in frames. Never more than one of them is held.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::net::TcpStream;

use super::{answer::Framing, socket, write};
use crate::{Body, BoxError};

/// Bytes that are written before others have their turn.
const TURN: usize = 128 * 1024;

type Framed = Option<Result<Frame<Bytes>, BoxError>>;

/// Sends `head` and then `body`, until either ends or the client is gone.
pub(super) async fn send(
    socket: &TcpStream,
    head: Vec<u8>,
    body: Body,
    framing: Framing,
    early: &mut bool,
) -> io::Result<()> {
    let (mut body, mut head, mut left, mut spent) = (pin!(body), head, Left::of(framing), 0);
    loop {
        if spent >= TURN {
            spent = 0;
            tokio::task::yield_now().await;
        }
        let frame = match poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx))).await {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                write::all(socket, |out| out.append(&mut head), Bytes::new()).await?;
                head = Vec::new();
                poll_fn(|cx| poll_frame(socket, body.as_mut(), early, cx)).await?
            }
        };
        let Some(frame) = frame else { return left.end(socket, &head).await };
        // Trailers are for who asked for them, whom the lane does not serve.
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
        spent += data.len();
        left.write(socket, &std::mem::take(&mut head), data).await?;
    }
}

fn poll_frame(
    socket: &TcpStream,
    body: Pin<&mut Body>,
    early: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Framed>> {
    match body.poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        Poll::Pending => socket::poll_gone(socket, early, cx).map(|()| Err(io::ErrorKind::BrokenPipe.into())),
    }
}

/// What is still to come; `None` where nobody knows, and each frame is a chunk.
struct Left(Option<u64>);

impl Left {
    fn of(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self(Some(length)),
            _ => Self(None),
        }
    }

    /// Writes `head`, if anything is left of it, and `data`.
    async fn write(&mut self, socket: &TcpStream, head: &[u8], data: Bytes) -> io::Result<()> {
        match &mut self.0 {
            Some(left) if data.len() as u64 > *left => Err(io::Error::other("a body is too long")),
            Some(left) => {
                *left -= data.len() as u64;
                write::all(socket, |out| out.extend_from_slice(head), data).await
            }
            // An empty chunk would end the body.
            None if data.is_empty() => write::all(socket, |out| out.extend_from_slice(head), data).await,
            None => write::chunk(socket, head, data).await,
        }
    }

    async fn end(self, socket: &TcpStream, head: &[u8]) -> io::Result<()> {
        let last: &[u8] = match self.0 {
            Some(0) => b"",
            Some(_) => return Err(io::Error::other("a body is too short")),
            None => b"0\r\n\r\n",
        };
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(head);
            out.extend_from_slice(last);
        };
        write::all(socket, put, Bytes::new()).await
    }
}
