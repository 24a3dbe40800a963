//! One `Subscribe` call: what is written to begin it, and a reader of what comes back.

use std::{io, mem};

use super::{
    From,
    http2::{self, ACK, END_HEADERS, END_STREAM, Frame, Kind, WINDOW},
    protobuf::{Said, server_frame, subscribe_request},
    status,
};
use crate::dialect::Address;

/// Bytes before a message: a flag and the length.
const PREFIX: usize = 5;
/// The longest message; a server frame stays below it.
const LONGEST: usize = 4 << 20;
/// How a header block begins that says `:status: 200`, and how if it first says that its table is empty, as it was
/// asked to be.
const STATUS_200: [&[u8]; 2] = [&[0x88], &[0x20, 0x88]];

/// What a connection to `server` begins with: one call, for `topic`.
pub(super) fn request(server: Address, topic: &str, from: From<'_>) -> Vec<u8> {
    let request = message(&subscribe_request(topic, from));
    http2::call(server, "/pushpull.v1.Delivery/Subscribe", &request)
}

/// Finds events in what a connection brings, and says what must be written back.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    stage: Stage,
    /// The beginning of a message whose end has not come.
    part: Vec<u8>,
    /// Bytes that came since the server was granted some.
    owed: u32,
    replies: Vec<u8>,
    seq: Option<u64>,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Nothing came.
    #[default]
    Called,
    /// The server's settings came.
    Connected,
    /// It was accepted.
    Accepted,
    /// The starting place was told.
    Stands,
}

impl Reader {
    /// How far the call has come.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// The seq of the last event.
    pub(crate) fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// What must be written back, since it was last asked.
    pub(crate) fn replies(&mut self) -> Vec<u8> {
        mem::take(&mut self.replies)
    }

    /// How many bytes there are to the end of the first frame in `bytes`, or to where it says so.
    pub(crate) fn wanted(bytes: &[u8]) -> io::Result<usize> {
        Ok(http2::length(bytes)?.unwrap_or(3))
    }

    /// Hands every whole event's payload in `bytes` to `each`, and returns how many bytes are done with.
    ///
    /// # Errors
    ///
    /// The call or the connection ended; an event is of another topic than `topic` or out of its place; a frame or
    /// message may not be as it is, or not here.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        topic: &str,
        each: &mut impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut done = 0;
        while let Some(frame) = http2::frame(&bytes[done..])? {
            done += frame.length();
            self.take_frame(&frame, topic, each)?;
        }
        Ok(done)
    }

    fn take_frame(&mut self, frame: &Frame<'_>, topic: &str, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
        frame.check()?;
        let is_settings = frame.kind == Some(Kind::Settings) && !frame.has(ACK);
        if self.stage == Stage::Called && !is_settings {
            return Err(http2::broken(&format!("{:?} before the settings", frame.kind)));
        }
        match frame.kind {
            Some(Kind::Data) => self.take_data(frame, topic, each)?,
            Some(Kind::Headers) => self.take_head(frame)?,
            Some(Kind::Settings) if is_settings => {
                http2::put(&mut self.replies, Kind::Settings, ACK, 0, &[]);
                self.stage = self.stage.max(Stage::Connected);
            }
            Some(Kind::Ping) if !frame.has(ACK) => {
                http2::put(&mut self.replies, Kind::Ping, ACK, 0, frame.payload);
            }
            Some(Kind::Reset | Kind::GoAway) => return Err(frame.refusal()),
            _ => {}
        }
        Ok(())
    }

    fn take_head(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let block = frame.content()?;
        if frame.has(END_STREAM) {
            return Err(io::Error::other(format!("the server ended the call, by {}", status::told(block))));
        }
        let is_whole = frame.has(END_HEADERS) && self.stage < Stage::Accepted;
        if !is_whole || !STATUS_200.iter().any(|status| block.starts_with(status)) {
            return Err(http2::broken(&format!(
                "a head that is not the one of an accepted call: {block:02x?}"
            )));
        }
        self.stage = Stage::Accepted;
        Ok(())
    }

    fn take_data(&mut self, frame: &Frame<'_>, topic: &str, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
        if self.stage < Stage::Accepted || frame.has(END_STREAM) {
            return Err(http2::broken("DATA before the head, or at the end"));
        }
        // No frame is longer than 16 KiB.
        self.owed += frame.payload.len() as u32;
        if self.owed > WINDOW {
            return Err(http2::broken("more bytes than were granted"));
        }
        let content = frame.content()?;
        let mut part = mem::take(&mut self.part);
        if part.is_empty() {
            let done = self.take_messages(content, topic, each)?;
            part.extend_from_slice(&content[done..]);
        } else {
            part.extend_from_slice(content);
            let done = self.take_messages(&part, topic, each)?;
            part.drain(..done);
        }
        self.part = part;
        if self.owed >= WINDOW / 2 {
            http2::put_grant(&mut self.replies, mem::take(&mut self.owed));
        }
        Ok(())
    }

    fn take_messages(
        &mut self,
        bytes: &[u8],
        topic: &str,
        each: &mut impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut done = 0;
        while let Some((prefix, rest)) = bytes[done..].split_first_chunk::<PREFIX>() {
            let [flag, length @ ..] = *prefix;
            let length = u32::from_be_bytes(length) as usize;
            if flag != 0 || length > LONGEST {
                return Err(http2::broken(&format!("a message of {length} bytes, flag {flag}")));
            }
            let Some(message) = rest.get(..length) else { break };
            done += PREFIX + length;
            match server_frame(message)? {
                Some(Said::Event(event)) if self.stage == Stage::Stands => {
                    each(event.placed(topic, &mut self.seq)?);
                }
                Some(Said::Event(_)) => {
                    return Err(io::Error::other("an event out of its place: before the starting one"));
                }
                Some(Said::Place) => self.stage = Stage::Stands,
                None => {}
            }
        }
        Ok(done)
    }
}

fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
pub(crate) mod tests;
