//! Bytes into messages: sans-IO, fed in pieces of any size (RFC 6455, 5 and 8.1).

use std::io::Cursor;

use bytes::Bytes;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::{
    close::{self, Closing},
    frame::apply_mask,
};

/// Most fragments of one message. (The Autobahn suite sends 65,536.)
const MAX_FRAGMENTS: u32 = 131_072;
const MAX_HEADER: usize = 14;
const MAX_CONTROL: u64 = 125;

/// Which side of a connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Takes masked frames only.
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "the other half builds it"))]
    Server,
    /// Takes unmasked frames only.
    #[cfg_attr(not(feature = "client"), allow(dead_code, reason = "the other half builds it"))]
    Client,
}

/// What a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Valid UTF-8.
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    Close(Option<Closing>),
}

#[cfg(feature = "server")]
impl Message {
    /// The bytes it takes, and so the work it was: by count too, since it may have none.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(payload) | Self::Binary(payload) | Self::Ping(payload) => payload.len(),
                Self::Pong | Self::Close(_) => 0,
            }
    }
}

/// What a peer did that ends the connection: the close code and a word on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

/// Reads frames. Between two messages it holds no memory but its own few bytes.
#[derive(Debug)]
pub(crate) struct Decoder {
    side: Side,
    deflate: bool,
    /// Most bytes of a message, over all its fragments and after inflation.
    limit: u32,
    /// While a message or a frame has come in part.
    begun: Option<Box<Begun>>,
}

/// What came in part.
#[derive(Debug, Default)]
struct Begun {
    /// The bytes of a header.
    head: [u8; MAX_HEADER],
    head_len: u8,
    frame: Option<Frame>,
    control: Vec<u8>,
    message: Option<Partial>,
}

/// The frame whose payload is coming.
#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: Option<[u8; 4]>,
    left: u64,
}

/// The message whose frames are coming.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    is_deflated: bool,
    fragments: u32,
    payload: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    checked: usize,
}

const fn fault(code: u16, reason: &'static str) -> Fault {
    Fault { code, reason }
}

impl Decoder {
    /// A reader of messages of at most `limit` bytes, and 4 GiB.
    pub(crate) fn new(side: Side, limit: usize) -> Self {
        Self { side, deflate: false, limit: u32::try_from(limit).unwrap_or(u32::MAX), begun: None }
    }

    /// The same, where permessage-deflate was agreed on.
    #[cfg(feature = "server")]
    pub(crate) fn with_deflate(mut self, deflate: bool) -> Self {
        self.deflate = deflate;
        self
    }

    /// Which side reads.
    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// The bytes of a message that came in part.
    #[cfg(all(test, feature = "server"))]
    pub(crate) fn held(&self) -> usize {
        let message = self.begun.as_ref().and_then(|begun| begun.message.as_ref());
        message.map_or(0, |message| message.payload.capacity())
    }

    /// Takes bytes off the front of `input` up to the end of the next message; `None` when `input` is used up.
    ///
    /// # Errors
    /// If the peer broke a rule. Nothing that follows can be read.
    pub(crate) fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Fault> {
        if input.is_empty() {
            return Ok(None);
        }
        let mut begun = self.begun.take().map_or_else(Begun::default, |begun| *begun);
        let decoded = self.decode_on(&mut begun, input);
        if begun.head_len > 0 || begun.frame.is_some() || begun.message.is_some() {
            self.begun = Some(Box::new(begun));
        }
        decoded
    }

    fn decode_on(&self, begun: &mut Begun, input: &mut &[u8]) -> Result<Option<Message>, Fault> {
        loop {
            if begun.frame.is_none() {
                match self.take_header(begun, input)? {
                    Some(frame) => begun.frame = Some(frame),
                    None => return Ok(None),
                }
            }
            if !begun.take_payload(input)? {
                return Ok(None);
            }
            if let Some(message) = self.end_frame(begun)? {
                return Ok(Some(message));
            }
        }
    }

    fn take_header(&self, begun: &mut Begun, input: &mut &[u8]) -> Result<Option<Frame>, Fault> {
        while let Some((byte, rest)) = input.split_first() {
            begun.head[usize::from(begun.head_len)] = *byte;
            begun.head_len += 1;
            *input = rest;
            let so_far = &begun.head[..usize::from(begun.head_len)];
            if so_far.len() < header_len(so_far) {
                continue;
            }
            let parsed = FrameHeader::parse(&mut Cursor::new(so_far))
                .map_err(|_| fault(close::PROTOCOL, "a reserved opcode"))?;
            // The header is as long as its own second byte says, so it is whole.
            let Some((header, length)) = parsed else { continue };
            if length > i64::MAX as u64 || header.len(length) != so_far.len() {
                return Err(fault(close::PROTOCOL, "a length that is not in its shortest form"));
            }
            begun.head_len = 0;
            return self.check_header(begun, &header, length).map(Some);
        }
        Ok(None)
    }

    fn check_header(&self, begun: &mut Begun, header: &FrameHeader, length: u64) -> Result<Frame, Fault> {
        if header.mask.is_some() != (self.side == Side::Server) {
            return Err(fault(close::PROTOCOL, "a client masks, a server does not"));
        }
        let (first, is_control) = match header.opcode {
            OpCode::Data(Data::Continue) => (false, false),
            OpCode::Data(_) => (true, false),
            OpCode::Control(_) => (false, true),
        };
        if header.rsv2 || header.rsv3 || (header.rsv1 && !(self.deflate && first)) {
            return Err(fault(close::PROTOCOL, "a reserved bit"));
        }
        if is_control {
            if !header.is_final || length > MAX_CONTROL {
                return Err(fault(close::PROTOCOL, "a control frame in parts, or of more than 125 bytes"));
            }
        } else {
            self.check_data(begun, header, first, length)?;
        }
        Ok(Frame { opcode: header.opcode, is_final: header.is_final, mask: header.mask, left: length })
    }

    fn check_data(
        &self,
        begun: &mut Begun,
        header: &FrameHeader,
        first: bool,
        length: u64,
    ) -> Result<(), Fault> {
        match (&begun.message, first) {
            (None, false) => return Err(fault(close::PROTOCOL, "a continuation of nothing")),
            (Some(_), true) => return Err(fault(close::PROTOCOL, "a message inside another")),
            _ => {}
        }
        let message = begun.message.get_or_insert_with(|| Partial {
            is_text: header.opcode == OpCode::Data(Data::Text),
            is_deflated: header.rsv1,
            fragments: 0,
            payload: Vec::new(),
            checked: 0,
        });
        message.fragments += 1;
        if message.fragments > MAX_FRAGMENTS {
            return Err(fault(close::POLICY, "too many fragments"));
        }
        // By the declared length: nothing of it is kept.
        if length > u64::from(self.limit) - message.payload.len() as u64 {
            return Err(fault(close::TOO_BIG, "too-large"));
        }
        Ok(())
    }

    fn end_frame(&self, begun: &mut Begun) -> Result<Option<Message>, Fault> {
        let Some(frame) = begun.frame.take() else { return Ok(None) };
        match frame.opcode {
            OpCode::Control(control) => {
                let payload = std::mem::take(&mut begun.control);
                control_message(control, payload).map(Some)
            }
            OpCode::Data(_) if frame.is_final => match begun.message.take() {
                Some(message) => self.finish(message).map(Some),
                None => Ok(None),
            },
            OpCode::Data(_) => Ok(None),
        }
    }

    fn finish(&self, message: Partial) -> Result<Message, Fault> {
        let payload = if message.is_deflated { self.inflate(&message)? } else { message.payload.into() };
        Ok(if message.is_text { Message::Text(payload) } else { Message::Binary(payload) })
    }

    #[cfg(feature = "server")]
    fn inflate(&self, message: &Partial) -> Result<Bytes, Fault> {
        let payload = crate::deflate::inflate(&message.payload, self.limit as usize)?;
        if message.is_text && std::str::from_utf8(&payload).is_err() {
            return Err(NOT_TEXT);
        }
        Ok(payload.into())
    }

    #[cfg(not(feature = "server"))]
    fn inflate(&self, _: &Partial) -> Result<Bytes, Fault> {
        Err(fault(close::PROTOCOL, "a reserved bit"))
    }
}

impl Begun {
    /// Takes what there is of the payload; `true` at its end.
    fn take_payload(&mut self, input: &mut &[u8]) -> Result<bool, Fault> {
        let Some(frame) = &mut self.frame else { return Ok(false) };
        let count = input.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        let (taken, rest) = input.split_at(count);
        *input = rest;
        frame.left -= count as u64;
        let into = match (&frame.opcode, &mut self.message) {
            (OpCode::Data(_), Some(message)) => &mut message.payload,
            _ => &mut self.control,
        };
        let start = into.len();
        into.extend_from_slice(taken);
        if let Some(mask) = &mut frame.mask {
            apply_mask(&mut into[start..], *mask);
            mask.rotate_left(count % 4);
        }
        let is_end = frame.left == 0;
        if let (OpCode::Data(_), Some(message)) = (&frame.opcode, &mut self.message) {
            message.check_text(is_end && frame.is_final)?;
        }
        Ok(is_end)
    }
}

const NOT_TEXT: Fault = fault(close::INVALID, "a text is not UTF-8");

impl Partial {
    /// Fails at the first byte that no UTF-8 can have there, and at a code point that is cut off at the end.
    fn check_text(&mut self, is_end: bool) -> Result<(), Fault> {
        if !self.is_text || self.is_deflated {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            Err(error) if error.error_len().is_none() && !is_end => self.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_TEXT),
        }
        Ok(())
    }
}

fn control_message(control: Control, payload: Vec<u8>) -> Result<Message, Fault> {
    Ok(match control {
        Control::Ping => Message::Ping(payload.into()),
        Control::Pong => Message::Pong,
        _ => Message::Close(Closing::parse(&payload).map_err(|code| fault(code, "a bad close frame"))?),
    })
}

/// How long the header is, as far as its beginning says.
fn header_len(so_far: &[u8]) -> usize {
    let Some(second) = so_far.get(1) else { return 2 };
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + extended + if second & 0x80 == 0 { 0 } else { 4 }
}

#[cfg(test)]
mod tests;
