//! What a peer asked, as long as it is not done.

use std::{cell::Cell, collections::VecDeque};

use super::{AHEAD, AHEAD_BYTES, FirstWord, Last, command::Work};
use crate::{
    codec::server::{Asked, ClientFrame, Frames},
    decoder::Message,
};

/// Room for messages that is kept for the next peer that asks.
const KEPT: usize = 8;

thread_local! {
    // What was done last, for the next that asks: whoever is done at once makes none.
    static SPARE: Cell<Option<Box<Asks>>> = Cell::default();
}

/// What a peer asked, as long as it is not done. Where nothing is it holds no memory.
#[derive(Default)]
pub(super) struct Inbox(Option<Box<Asks>>);

#[derive(Default)]
pub(super) struct Asks {
    /// Data messages that wait for their turn, and the bytes of them and of the one that has it.
    ahead: VecDeque<Message>,
    ahead_bytes: usize,
    /// What is left of the message that has its turn.
    frames: Option<Box<Frames>>,
    pub(super) next: Option<Box<ClientFrame>>,
    pub(super) work: Option<Work>,
    /// Until the starting place is told.
    pub(super) first_word: Option<FirstWord>,
    /// The peer's last word, which counts once all it said before is done.
    pub(super) last: Option<Last>,
}

/// What is to be done next.
pub(super) enum Turn {
    Frame(Box<ClientFrame>),
    Frames(Box<Frames>),
    Message(Message),
    Last(Last),
}

impl Inbox {
    /// What is asked, or room for it.
    pub(super) fn fill(&mut self) -> &mut Asks {
        self.0.get_or_insert_with(|| SPARE.take().unwrap_or_default())
    }

    pub(super) fn asks(&self) -> Option<&Asks> {
        self.0.as_deref()
    }

    pub(super) fn work(&mut self) -> Option<&mut Work> {
        self.0.as_mut()?.work.as_mut()
    }

    /// Takes what is to be done next.
    pub(super) fn next(&mut self) -> Option<Turn> {
        let asks = self.0.as_mut()?;
        let frame = asks.next.take().map(Turn::Frame);
        let frames = frame.or_else(|| asks.frames.take().map(Turn::Frames));
        let message = frames.or_else(|| asks.ahead.pop_front().map(Turn::Message));
        message.or_else(|| asks.last.take().map(Turn::Last))
    }

    pub(super) fn take_first_word(&mut self) -> Option<FirstWord> {
        self.0.as_mut()?.first_word.take()
    }

    pub(super) fn has_last(&self) -> bool {
        self.asks().is_some_and(|asks| asks.last.is_some())
    }

    /// Keeps a data message for later.
    pub(super) fn keep_message(&mut self, message: Message, bytes: usize) {
        let asks = self.fill();
        asks.ahead_bytes += bytes;
        asks.ahead.push_back(message);
    }

    /// Keeps what is left of the message that has its turn.
    pub(super) fn keep_frames(&mut self, frames: Box<Frames>) {
        match frames.is_done() {
            true => self.is_read(frames.size()),
            false => self.fill().frames = Some(frames),
        }
    }

    /// A message of so many bytes has been read to its end.
    pub(super) fn is_read(&mut self, bytes: usize) {
        self.fill().ahead_bytes -= bytes;
    }

    pub(super) fn is_full(&self) -> bool {
        self.asks().is_some_and(|asks| asks.ahead.len() >= AHEAD || asks.ahead_bytes > AHEAD_BYTES)
    }

    /// Whether the next frame's answer would come before the first word of the subscription. A peer that leaves is
    /// told none.
    pub(super) fn waits_for_first_word(&self) -> bool {
        self.asks().is_some_and(|asks| {
            let is_publish = asks.next.as_ref().is_none_or(|frame| matches!(frame.asked, Asked::Publish(_)));
            asks.first_word.is_some() && asks.last.is_none() && !is_publish
        })
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Gives its memory back if nothing is left to be done.
    pub(super) fn rest(&mut self) {
        if self.asks().is_some_and(Asks::is_done)
            && let Some(mut asks) = self.0.take()
        {
            asks.ahead.shrink_to(KEPT);
            // A thread that ends needs none.
            let _ = SPARE.try_with(|spare| spare.set(Some(asks)));
        }
    }

    /// The bytes that wait.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.asks().map_or(0, |asks| asks.ahead_bytes + asks.next.as_ref().map_or(0, |frame| frame.weight()))
    }
}

impl Asks {
    fn is_done(&self) -> bool {
        self.ahead.is_empty()
            && self.frames.is_none()
            && self.next.is_none()
            && self.work.is_none()
            && self.first_word.is_none()
            && self.last.is_none()
    }
}
