//! The order of commands: one after another, each when the one before is done.

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, Stage, command::Done, inbox::Turn};
use crate::{
    close::{self, Closing},
    codec::server::{ClientFrame, Frames, Unread},
    decoder::Message,
    handshake::Mode,
};

/// Answers, and bytes of them, that are made before they are written.
const ANSWERS: usize = 512;
const ANSWER_BYTES: usize = 64 * 1024;

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    /// Takes up commands one after another, each when the one before is done, until the turn is over.
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.stage == Stage::Running && !self.spent.is_turn() {
            if let Some(work) = self.inbox.work() {
                let Poll::Ready(done) = work.as_mut().poll(cx) else { return moved };
                self.inbox.fill().work = None;
                self.on_done(done);
            } else if self.is_draining {
                self.leave_for_drain(cx);
            } else if self.has_answers() || self.must_wait() {
                return moved;
            } else {
                match self.inbox.next() {
                    Some(Turn::Frame(frame)) => self.begin(*frame),
                    Some(Turn::Frames(frames)) => self.read_frame(frames),
                    Some(Turn::Message(message)) => self.on_message(message),
                    Some(Turn::Last(last)) => self.on_last(last),
                    None => return moved,
                }
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

    /// Whether answers wait for a peer that does not read them, or so many were made that they are written first.
    fn has_answers(&self) -> bool {
        let answers = self.pump.outbox.answers();
        self.is_held || answers.count > ANSWERS || answers.bytes > ANSWER_BYTES
    }

    fn must_wait(&self) -> bool {
        self.inbox.waits_for_first_word() && !self.is_in_snapshot
    }

    fn on_message(&mut self, message: Message) {
        let (Message::Text(payload) | Message::Binary(payload)) = &message else { return };
        let size = payload.len();
        match self.shape.mode {
            Mode::Raw => {
                self.inbox.is_read(size);
                self.publish_raw(message);
            }
            Mode::Framed(subprotocol) => match Frames::of(message, subprotocol) {
                Ok(frames) => self.inbox.keep_frames(Box::new(frames)),
                Err(unread) => self.refuse(unread),
            },
        }
    }

    /// Reads one more frame. Its message counts as read ahead until all of it is.
    fn read_frame(&mut self, mut frames: Box<Frames>) {
        let mut spent = 0;
        let next = frames.next(&mut spent);
        self.spent.add(spent);
        match next {
            Ok(frame) => {
                self.inbox.fill().next = frame.map(Box::new);
                self.inbox.keep_frames(frames);
            }
            Err(unread) => self.refuse(unread),
        }
    }

    fn begin(&mut self, frame: ClientFrame) {
        self.spent.add(frame.weight());
        self.on_frame(frame);
    }

    fn refuse(&mut self, unread: Unread) {
        self.close(&match unread {
            Unread::Kind => Closing::new(close::UNSUPPORTED, "unsupported-media-type"),
            Unread::NoFrame => Closing::new(close::BAD_REQUEST, "bad-request"),
            Unread::TooLarge => Closing::new(close::TOO_BIG, "too-large"),
        });
    }

    fn on_done(&mut self, done: Done) {
        match self.shape.mode {
            Mode::Raw => self.on_raw_done(done),
            Mode::Framed(_) => self.on_framed_done(done),
        }
    }
}
