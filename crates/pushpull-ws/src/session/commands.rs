//! The order of commands: one after another, each when the one before is done.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, Stage, command::Done};
use crate::{codec::server::Asked, decoder::Message, handshake::Mode};

/// Frames, and bytes of them, that may wait to be written before further commands are held back.
const REPLIES: usize = 512;
const REPLY_BYTES: usize = 256 * 1024;

impl<I: AsyncRead + AsyncWrite + Unpin> Session<I> {
    /// Takes up commands one after another, each when the one before is done.
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.stage == Stage::Running {
            if let Some(work) = &mut self.work {
                let Poll::Ready(done) = work.as_mut().poll(cx) else { return moved };
                self.work = None;
                self.on_done(done);
            } else if self.is_draining {
                self.leave_for_drain(cx);
            } else if self.has_replies() || self.must_wait() {
                return moved;
            } else if let Some(frame) = self.frames.pop_front() {
                self.on_frame(frame);
            } else if let Some(message) = self.ahead.pop_front() {
                self.on_message(message);
            } else if let Some(last) = self.last.take() {
                self.on_last(last);
            } else {
                return moved;
            }
            moved = true;
        }
        moved
    }

    /// Polls once more, since that moves the place of a quiet subscription to the newest.
    fn leave_for_drain(&mut self, cx: &mut Context<'_>) {
        self.poll_deliveries(cx);
        if self.stage == Stage::Running {
            let (retry, place) = (self.shared.gate.drain().retry_hint(), self.place());
            self.leave(retry, place);
        }
    }

    /// Whether so much waits for a peer that does not read that it is not asked for more.
    fn has_replies(&self) -> bool {
        self.pump.outbox.len() > REPLIES || self.pump.outbox.bytes() > REPLY_BYTES
    }

    /// Whether the next frame's answer would come before the first word of the subscription. A peer that leaves is
    /// told none.
    fn must_wait(&self) -> bool {
        let is_publish = self.frames.front().is_none_or(|frame| matches!(frame.asked, Asked::Publish(_)));
        self.first_word.is_some() && self.last.is_none() && !self.is_in_snapshot && !is_publish
    }

    fn on_message(&mut self, message: Message) {
        let (Message::Text(payload) | Message::Binary(payload)) = &message else { return };
        self.ahead_bytes -= payload.len();
        if self.ahead.is_empty() {
            self.ahead = VecDeque::new();
        }
        match self.shape.mode {
            Mode::Raw => self.publish_raw(message),
            Mode::Framed(subprotocol) => self.on_framed(&message, subprotocol),
        }
    }

    fn on_done(&mut self, done: Done) {
        match self.shape.mode {
            Mode::Raw => self.on_raw_done(done),
            Mode::Framed(_) => self.on_framed_done(done),
        }
    }
}
