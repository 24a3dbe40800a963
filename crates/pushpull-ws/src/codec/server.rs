//! The server's side: what client frames ask for, and what server frames say, whatever they are written in.

mod event;
mod frames;
mod json;
mod proto;

use std::{fmt, time::Duration};

use pushpull_core::{Cursor, Gap, Message, Outcome, Problem, Published, Subscribe, Topic, Topics};
use pushpull_http::Format;
use tungstenite::protocol::frame::coding::OpCode;

use crate::{
    Subprotocol,
    frame::{BINARY, TEXT},
    handshake::Mode,
};

pub(crate) use {
    event::{event_frame, frame_form, joined_frames},
    frames::Frames,
};

/// How the frames of one connection look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) mode: Mode,
    pub(crate) format: Format,
    pub(crate) deflate: bool,
}

/// What a client named a frame, echoed as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// The text of a number or a string.
    Json(Box<str>),
    Proto(u64),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(text) => f.write_str(text),
            Self::Proto(number) => number.fmt(f),
        }
    }
}

/// What a client asks for.
#[derive(Debug)]
pub(crate) struct ClientFrame {
    pub(crate) id: Option<Id>,
    pub(crate) asked: Asked,
}

/// What a client asks for, as far as it makes sense.
#[derive(Debug)]
pub(crate) enum Asked {
    /// `option` names a parameter beside the topics, if there is one.
    Subscribe {
        wanted: Result<Box<Subscribe>, Problem>,
        option: Option<String>,
    },
    Unsubscribe(Result<Topics, Problem>),
    Publish(Result<(Topic, Vec<Message>), Problem>),
    Credit(Result<u64, Problem>),
}

/// Why a message is not read: what closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Text where bytes are spoken, or bytes where text is.
    Kind,
    /// No frame of ours.
    NoFrame,
    /// More in one message than a batch may have.
    TooLarge,
}

impl ClientFrame {
    /// The bytes it takes, and so the work it makes: by count too, since a message may have none.
    pub(crate) fn weight(&self) -> usize {
        let messages = match &self.asked {
            Asked::Publish(Ok((_, messages))) => &messages[..],
            _ => &[],
        };
        size_of::<Self>() + messages.iter().map(weigh).sum::<usize>()
    }
}

/// The bytes that a message to be published takes.
pub(crate) fn weigh(message: &Message) -> usize {
    size_of::<Message>() + message.payload().len()
}

/// Checks what a client grants.
fn credit_of(events: Option<u64>) -> Result<u64, Problem> {
    let events = events.filter(|events| *events > 0);
    events.ok_or_else(|| Problem::invalid("events", "it must be a whole number of at least 1"))
}

/// What a server says beside events.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    Gap(&'a Gap),
    /// Answers a subscribe, unsubscribe or credit.
    Ok {
        id: &'a Id,
        place: Option<Cursor>,
    },
    /// Answers a publish.
    Published {
        id: &'a Id,
        published: &'a Published,
    },
    /// Tells the place, if there is one, and how many events conflation left out so far.
    Heartbeat {
        place: Option<Cursor>,
        conflated: u64,
    },
    /// Tells what is wrong with a frame. With `outcome` it was a publish.
    Error {
        id: Option<&'a Id>,
        problem: &'a Problem,
        outcome: Option<Outcome>,
    },
    /// Tells when and from where to come back.
    Goaway {
        retry: Duration,
        place: Option<Cursor>,
    },
}

/// The message that says it.
pub(crate) fn write(said: &Said<'_>, subprotocol: Subprotocol) -> (OpCode, Vec<u8>) {
    match subprotocol {
        Subprotocol::Json => (TEXT, json::write(said).into_bytes()),
        Subprotocol::Proto => (BINARY, proto::write(said)),
    }
}
