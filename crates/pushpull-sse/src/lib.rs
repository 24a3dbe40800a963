//! pushpull over Server-Sent Events (WHATWG HTML 9.2): server and client half.
//!
//! [`SseService`] serves `GET /sse` of the wire contract over any [`Push`](pushpull_core::Push); a browser's own
//! `EventSource` needs nothing else. [`SseClient`] is a [`Push`](pushpull_core::Push) over such a server, and a
//! [`Producer`](pushpull_core::Producer) by POST.
//!
//! | feature | adds |
//! | --- | --- |
//! | `server` | [`SseService`] |
//! | `client` | [`SseClient`] |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod codec;
#[cfg(feature = "client")]
mod feed;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod session;

#[cfg(feature = "client")]
pub use client::SseClient;
#[cfg(feature = "server")]
pub use server::SseService;

/// The event name of a binary payload in the raw format; its data is base64.
pub const BINARY_EVENT: &str = "pushpull-binary";
/// The event name of a gap; its data is the gap object of the wire contract.
pub const GAP_EVENT: &str = "pushpull-gap";
