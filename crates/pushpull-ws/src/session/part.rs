//! The end of a connection.

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, Stage};
use crate::decoder::Message;

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    /// Waits for the peer's close frame, says that nothing more is written, and reads until the peer is gone too: a
    /// socket closed with unread bytes would be reset, and the last frames with it.
    pub(super) fn poll_parting(&mut self, cx: &mut Context<'_>) -> bool {
        let Stage::Parting { is_heard, is_shut } = &mut self.stage else { return false };
        let mut moved = false;
        while !*is_heard && !self.spent.is_turn() {
            match self.pump.poll_message(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(Message::Close(_)) | None) | Err(_)) => *is_heard = true,
                Poll::Ready(Ok(Some(message))) => self.spent.add(message.weight()),
            }
            moved = true;
        }
        let mut is_gone = *is_heard && self.pump.poll_discard(cx).is_ready();
        if *is_heard && !*is_shut && self.pump.outbox.is_empty() {
            match self.pump.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => (*is_shut, moved) = (true, true),
                Poll::Ready(Err(_)) => is_gone = true,
                Poll::Pending => {}
            }
        }
        if is_gone && self.pump.outbox.is_empty() {
            self.stage = Stage::Ended;
        }
        moved
    }
}
