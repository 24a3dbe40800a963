//! What the lane does with a socket.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::{
    io::{Interest, ReadBuf},
    net::TcpStream,
};

use super::{
    head::{self, Verdict},
    turn::Turn,
};

/// Most bytes of a request, its head and its body, that the lane looks at.
pub(super) const ROOM: usize = 8 * 1024;
/// Most bytes that are dropped at the end of a connection.
const DROPPED: usize = 256 * 1024;

thread_local! {
    /// What all connections of a thread look into, each only as long as it is polled.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
}

/// Looks at what has come, and takes the request if that is plain: at once, or with those behind it once `turn` is
/// settled. `None`: the client has ended.
pub(super) fn poll_look(
    stream: &TcpStream,
    turn: &mut Turn,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Option<(Verdict, usize)>>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let mut looked = Poll::Pending;
        // Readiness is cleared by what is given back, unless more came in the meantime.
        let _ = stream.try_io(Interest::READABLE, || {
            looked = SCRATCH.with_borrow_mut(|scratch| look(stream, turn, scratch, cx));
            match &looked {
                Poll::Ready(Ok(Some((verdict, seen)))) if is_done(verdict, *seen) => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                _ => Ok(()),
            }
        });
        if looked.is_ready() {
            return looked;
        }
    }
}

fn look(
    stream: &TcpStream,
    turn: &mut Turn,
    scratch: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<Option<(Verdict, usize)>>> {
    let (mut verdict, mut count) = ready!(peek(stream, scratch, cx))?;
    if is_wanting(&verdict) && is_closed(stream) {
        // What has come until now is all there will ever be.
        (verdict, count) = ready!(peek(stream, scratch, cx))?;
        count = if is_wanting(&verdict) { 0 } else { count };
    }
    if count == 0 {
        return Poll::Ready(Ok(None));
    }
    match &verdict {
        Verdict::Plain(plain) if plain.bytes < count => turn.begin_ahead(plain.bytes, count),
        Verdict::Plain(plain) => read(stream, &mut scratch[..plain.bytes])?,
        _ => {}
    }
    Poll::Ready(Ok(Some((verdict, count))))
}

fn read(stream: &TcpStream, taken: &mut [u8]) -> io::Result<()> {
    match stream.try_read(taken)? == taken.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Takes `count` bytes that were looked at before.
pub(super) fn take(stream: &TcpStream, count: usize) -> io::Result<()> {
    match count {
        0 => Ok(()),
        _ => SCRATCH.with_borrow_mut(|scratch| read(stream, &mut scratch[..count])),
    }
}

/// Judges what follows the first `taken` of `seen` bytes that were looked at in the same poll of the connection.
pub(super) fn judge_again(taken: usize, seen: usize) -> Verdict {
    SCRATCH.with_borrow(|scratch| head::judge(&scratch[taken..seen], ROOM))
}

/// Judges what has come, and says how many bytes that is.
fn peek(stream: &TcpStream, scratch: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<(Verdict, usize)>> {
    let mut seen = ReadBuf::new(scratch);
    let count = ready!(stream.poll_peek(cx, &mut seen))?;
    Poll::Ready(Ok((head::judge(seen.filled(), ROOM), count)))
}

/// Whether more has to come.
fn is_wanting(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Partial | Verdict::BodyPartial)
}

/// Whether there is nothing to do before more bytes come.
fn is_done(verdict: &Verdict, seen: usize) -> bool {
    match verdict {
        Verdict::Plain(plain) => plain.bytes == seen && seen < ROOM,
        verdict => is_wanting(verdict),
    }
}

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
    SCRATCH.with_borrow_mut(|scratch| {
        let mut dropped = 0;
        while dropped < DROPPED {
            match stream.try_read(scratch) {
                Ok(count @ 1..) => dropped += count,
                _ => return,
            }
        }
    });
}
