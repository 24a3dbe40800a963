//! pushpull over gRPC streaming: server and client half.
//!
//! [`GrpcService`] serves `pushpull.v1.Delivery` of the wire contract, section 5, over any
//! [`Push`](pushpull_core::Push), [`Pull`](pushpull_core::Pull) and [`Producer`](pushpull_core::Producer), with health
//! and reflection, so that stock clients need nothing else. [`GrpcClient`] is all three over such a server.
//!
//! | feature | adds |
//! | --- | --- |
//! | `server` (default) | [`GrpcService`] |
//! | `client` (default) | [`GrpcClient`] |
//! | `tls` | `https` for the client |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "server", feature = "client"))]
mod codec;
#[rustfmt::skip]
#[path = "gen/pushpull.v1.rs"]
#[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all, clippy::use_self, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod proto;
#[cfg(any(feature = "server", feature = "client"))]
mod status;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod feed;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod session;

#[cfg(feature = "client")]
pub use client::GrpcClient;
#[cfg(feature = "server")]
pub use server::GrpcService;

/// The description of the package `pushpull.v1`, as an encoded `google.protobuf.FileDescriptorSet`: for a reflection
/// service of one's own.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/pushpull.v1.bin");
