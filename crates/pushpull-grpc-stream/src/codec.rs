//! Between what the core says and what is on the wire: the messages are [`pushpull_http::proto`]'s, their way into DATA
//! frames is this crate's own.

#[cfg(feature = "server")]
mod frame;

#[cfg(feature = "client")]
pub(crate) use pushpull_http::proto::{
    Frame, ask_fetch, ask_publish, ask_subscribe, cursor_in, frame_in, place_in,
};
#[cfg(feature = "server")]
pub(crate) use {
    frame::{Flush, MAX_FRAME, PREFIX, event_frame, gap_frame, message, prefixed},
    pushpull_http::proto::{fetch_of, messages_of, option_given, subscribe_of, topics_of},
};
