//! Between what the core says and what is on the wire.

#[cfg(feature = "client")]
mod ask;
#[cfg(feature = "server")]
mod asked;
#[cfg(feature = "server")]
mod frame;
#[cfg(feature = "client")]
mod received;

#[cfg(feature = "client")]
pub(crate) use {
    ask::{ask_fetch, ask_publish, ask_subscribe},
    received::{Frame, cursor_in, frame_in, place_in},
};
#[cfg(feature = "server")]
pub(crate) use {
    asked::{fetch_of, messages_of, option_given, subscribe_of, topics_of},
    frame::{Flush, MAX_FRAME, PREFIX, event_frame, gap_frame, heartbeat, message, prefixed},
};
