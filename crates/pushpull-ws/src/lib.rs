//! pushpull over WebSocket: server and client half.
//!
//! [`WsService`] answers `GET /ws` (HTTP/1.1 upgrade, or extended CONNECT over HTTP/2) from any
//! [`Push`](pushpull_core::Push): without a subprotocol each event is one message, with one each
//! message is a frame of the wire contract, section 4, as JSON or as protobuf ([`Subprotocol`]). [`WsClient`] is a
//! [`Push`](pushpull_core::Push) over it.
//!
//! | feature | adds |
//! | --- | --- |
//! | `server` (default) | [`WsService`] |
//! | `client` (default) | [`WsClient`] |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "server", feature = "client"))]
mod close;
#[cfg(any(feature = "server", feature = "client"))]
mod codec;
#[cfg(any(feature = "server", feature = "client"))]
mod decoder;
#[cfg(any(feature = "server", feature = "client"))]
mod frame;
#[cfg(any(feature = "server", feature = "client"))]
mod outbox;
#[cfg(any(feature = "server", feature = "client"))]
mod pump;
mod subprotocol;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod deflate;
#[cfg(feature = "client")]
mod feed;
#[cfg(feature = "server")]
mod handshake;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod session;

#[cfg(feature = "client")]
pub use client::WsClient;
#[cfg(feature = "server")]
pub use server::WsService;
pub use subprotocol::Subprotocol;
