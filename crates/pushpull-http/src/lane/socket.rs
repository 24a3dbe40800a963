//! What the lane does with a socket.

use std::{
    io,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

/// Most bytes that are dropped at the end of a connection.
const DROPPED: usize = 256 * 1024;

/// Ready once the client is gone, or sends no more. `early` is set where bytes come, which stay in the socket: its
/// readiness is cleared then, and it needs to be [armed again](rearm).
pub(super) fn poll_gone(stream: &TcpStream, early: &mut bool, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        if ready!(stream.poll_read_ready(cx)).is_err() || is_closed(stream) {
            return Poll::Ready(());
        }
        *early = true;
        let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

fn is_closed(stream: &TcpStream) -> bool {
    let ready = stream.ready(Interest::READABLE).now_or_never();
    ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
}

/// The same socket, whose readiness is asked for anew; `None` where the system refuses.
pub(super) fn rearm(stream: TcpStream) -> Option<TcpStream> {
    TcpStream::from_std(stream.into_std().ok()?).ok()
}

/// Ends the connection after an answer. What has come meanwhile is dropped first: the system would else break the
/// connection, and the answer with it (RFC 9112, 9.6).
pub(super) fn close(stream: &TcpStream) {
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
    let (mut dropped, mut room) = (0, [0; 4096]);
    while dropped < DROPPED {
        match stream.try_read(&mut room) {
            Ok(count @ 1..) => dropped += count,
            _ => return,
        }
    }
}
