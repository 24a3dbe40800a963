//! pushpull over gRPC streaming: server and client half.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[rustfmt::skip]
#[path = "gen/pushpull.v1.rs"]
#[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all, clippy::use_self, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod proto;
