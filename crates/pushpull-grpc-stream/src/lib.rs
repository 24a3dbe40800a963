//! pushpull over gRPC streaming: server and client half.
//!
//! [`GrpcService`] serves `pushpull.v1.Delivery` of the wire contract, section 5, over any
//! [`Push`](pushpull_core::Push), [`Pull`](pushpull_core::Pull) and [`Producer`](pushpull_core::Producer), with health
//! and reflection, so that stock clients need nothing else. [`GrpcClient`] is all three over such a server.
//!
//! ```no_run
//! use std::sync::Arc;
//! use pushpull_broker::Broker;
//! use pushpull_core::{PushExt, Subscribe};
//! use pushpull_grpc_stream::{GrpcClient, GrpcService};
//! use pushpull_http::Gate;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Arc::new(Broker::memory());
//! let service = GrpcService::new(broker.clone(), Gate::open()).with_pull(broker.clone()).with_producer(broker);
//! let mut app: axum::Router = axum::Router::new();
//! for path in GrpcService::PATHS {
//!     app = app.route_service(path, service.clone());
//! }
//! let client = GrpcClient::new("grpc://127.0.0.1:8080")?;
//! let quotes = client.consume(Subscribe::to("quotes.*")?).await?;
//! # Ok(()) }
//! ```
//!
//! | feature | adds |
//! | --- | --- |
//! | `server` (default) | [`GrpcService`] |
//! | `client` (default) | [`GrpcClient`] |
//! | `tls` | `https` for the client |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "server", feature = "client"))]
mod codec;
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
#[rustfmt::skip]
#[path = "gen/pushpull.v1.rs"]
#[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all, clippy::use_self, clippy::allow_attributes_without_reason, reason = "generated")]
mod stub;

#[cfg(feature = "client")]
pub use client::GrpcClient;
#[cfg(feature = "server")]
pub use server::GrpcService;

/// The messages of the package `pushpull.v1`, and the stub of its service.
pub mod proto {
    pub use pushpull_http::proto::v1::*;

    #[cfg(feature = "client")]
    pub use crate::stub::delivery_client;
}

/// The description of the package `pushpull.v1`, as an encoded `google.protobuf.FileDescriptorSet`: for a reflection
/// service of one's own.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/pushpull.v1.bin");
