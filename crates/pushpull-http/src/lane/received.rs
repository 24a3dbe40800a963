//! What was received and not taken yet.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::head::{self, Verdict};

/// Most bytes of a request, its head and its body, that the lane takes.
pub(super) const ROOM: usize = 8 * 1024;

thread_local! {
    /// What all connections of a thread receive into, each only as long as it is polled.
    static SHARED: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// What was received of a connection while it is polled, in a buffer that it has of its thread.
#[derive(Debug, Default)]
pub(super) struct Received {
    // Empty until there is something to put into it.
    room: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Received {
    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub(super) fn judge(&self) -> Verdict {
        head::judge(self.bytes(), ROOM)
    }

    /// Takes the first `count` bytes, which were judged.
    pub(super) fn take(&mut self, count: usize) {
        self.from = self.to.min(self.from + count);
    }

    /// Puts bytes that were [kept](Self::kept) before what is to come.
    pub(super) fn put(&mut self, kept: &[u8]) {
        self.open();
        (self.from, self.to) = (0, kept.len());
        self.room[..kept.len()].copy_from_slice(kept);
    }

    /// What is not taken, in as many bytes: once the connection is polled no more.
    pub(super) fn kept(&self) -> Option<Box<[u8]>> {
        (!self.is_empty()).then(|| self.bytes().into())
    }

    /// Receives what has come behind what is not taken yet. That is less than there is room for, or it would have been
    /// judged to be no plain request. How many bytes: none if the client has ended.
    pub(super) fn poll_more(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.open();
        self.room.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let mut more = ReadBuf::new(&mut self.room[self.to..]);
        ready!(Pin::new(stream).poll_read(cx, &mut more))?;
        let count = more.filled().len();
        self.to += count;
        Poll::Ready(Ok(count))
    }

    /// What is not taken yet.
    fn bytes(&self) -> &[u8] {
        &self.room[self.from..self.to]
    }

    fn open(&mut self) {
        if self.room.is_empty() {
            self.room = SHARED.take().unwrap_or_else(|| vec![0; ROOM].into());
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.room.is_empty() {
            SHARED.set(Some(std::mem::take(&mut self.room)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn holding(bytes: &[u8]) -> Received {
        let mut received = Received::default();
        received.put(bytes);
        received
    }

    /// Where the thread's buffer is, if nobody has it.
    fn shared() -> Option<*const u8> {
        let room = SHARED.take();
        let at = room.as_ref().map(|room| room.as_ptr());
        SHARED.set(room);
        at
    }

    #[test]
    fn who_is_polled_within_another_has_a_buffer_of_its_own() {
        let outer = holding(b"outer");
        let inner = holding(b"inner one");
        assert_eq!((outer.bytes(), inner.bytes()), (&b"outer"[..], &b"inner one"[..]));
        drop(inner);
        assert_eq!(outer.kept().as_deref(), Some(&b"outer"[..]));
        let at = outer.room.as_ptr();
        drop(outer);
        assert_eq!(shared(), Some(at));
    }

    #[test]
    fn the_buffer_comes_back_from_who_panics() {
        drop(holding(b"first"));
        let at = shared().unwrap();
        let ended = catch_unwind(|| {
            let received = holding(b"second");
            let is_lent = shared().is_none();
            panic!("{is_lent} {:?}", received.room.as_ptr());
        });
        let said = ended.unwrap_err().downcast::<String>().unwrap();
        assert_eq!((*said, shared()), (format!("true {at:?}"), Some(at)));
    }

    #[test]
    fn what_is_kept_is_what_was_not_taken_and_no_more() {
        let mut received = holding(b"taken and kept");
        received.take(10);
        let kept = received.kept().unwrap();
        assert_eq!(&*kept, b"kept");
        assert_eq!(holding(&kept).bytes(), b"kept");
        received.take(4);
        assert!(received.is_empty() && received.kept().is_none());
    }
}
