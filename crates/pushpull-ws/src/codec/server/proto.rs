//! `pushpull.v1.proto`: client frames read, server frames written.

use bytes::Bytes;
use prost::Message;
use pushpull_core::{ErrorKind, Problem};
use pushpull_http::proto::{
    self, client_frame_in, messages_of, option_given, subscribe_of, topics_of, v1::client_frame::Frame,
};

use super::{Asked, ClientFrame, Id, Said, Unread, credit_of};

/// Reads one frame. Fields that this version does not know say nothing; a frame of which it knows none is no frame.
///
/// # Errors
/// If it is none, or has many more messages than a batch may have.
pub(super) fn parse(message: &Bytes) -> Result<ClientFrame, Unread> {
    let frame = client_frame_in(message.clone()).map_err(|problem| unread(&problem))?;
    let (id, asked) = match frame.frame.ok_or(Unread::NoFrame)? {
        Frame::Subscribe(asked) => {
            let option = option_given(&asked).map(str::to_owned);
            (asked.id, Asked::Subscribe { wanted: subscribe_of(&asked).map(Box::new), option })
        }
        Frame::Unsubscribe(asked) => (asked.id, Asked::Unsubscribe(topics_of(&asked.topics))),
        Frame::Publish(asked) => (asked.id, Asked::Publish(messages_of(asked))),
        Frame::Credit(asked) => (asked.id, Asked::Credit(credit_of(Some(asked.events)))),
    };
    Ok(ClientFrame { id: id.map(Id::Proto), asked })
}

fn unread(problem: &Problem) -> Unread {
    match problem.kind() {
        ErrorKind::TooLarge => Unread::TooLarge,
        _ => Unread::NoFrame,
    }
}

/// The frame that says it.
pub(super) fn write(said: &Said<'_>) -> Vec<u8> {
    let frame = match *said {
        Said::Gap(gap) => proto::gap_frame(gap),
        Said::Ok { id, place } => proto::ok(number(id), place),
        Said::Published { id, published } => proto::published(number(id), published),
        Said::Heartbeat { place, conflated } => proto::heartbeat(place, conflated),
        Said::Error { id, problem, outcome } => proto::error(id.and_then(number), problem, outcome),
        Said::Goaway { retry, place } => proto::goaway(retry, place),
    };
    frame.encode_to_vec()
}

/// The number it came as.
fn number(id: &Id) -> Option<u64> {
    match id {
        Id::Proto(number) => Some(*number),
        Id::Json(_) => None,
    }
}
