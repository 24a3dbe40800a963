//! pushpull by webhooks (wire contract, section 6): signed `POST`s to endpoints, each event in order, retried until it
//! is acknowledged, and the service that receives them.
//!
//! [`Webhooks`] sends what a [`Push`](pushpull_core::Push) delivers to registered endpoints, and [`WebhookService`]
//! lets them be registered over HTTP. [`Receiver`] is the other side: a service to mount, and a push for a
//! [`Hybrid`](pushpull_core::Hybrid). Signatures follow the Standard Webhooks specification 1.0.0.
//!
//! | feature | adds |
//! | --- | --- |
//! | `sender` | [`Webhooks`], [`WebhookService`] |
//! | `receiver` | [`Receiver`] |
//! | `tls` | targets by `https` |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "sender", feature = "receiver"))]
mod body;
mod signature;

#[cfg(feature = "receiver")]
mod receiver;
#[cfg(feature = "sender")]
mod sender;

#[cfg(feature = "receiver")]
pub use receiver::{Receiver, ReceiverConfig, ReceiverService};
#[cfg(feature = "sender")]
pub use sender::{
    Cidr, CidrError, DisabledBecause, EndpointId, EndpointRecord, MemoryStore, Registered, Registration,
    Resolve, RetryPolicy, State, Status, Store, SystemResolver, WebhookService, Webhooks, WebhooksConfig,
};
pub use signature::{Secret, SecretError, VerifyError, sign, verify};

use http::HeaderName;

/// `webhook-id`: the event's cursor, or `gap-<before>`; the same on every attempt.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// `webhook-timestamp`: Unix seconds of the attempt.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// `webhook-signature`: `v1,<base64>`, one for each secret, separated by spaces.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// `Pushpull-After`: the endpoint's place before this event.
pub const PUSHPULL_AFTER: HeaderName = HeaderName::from_static("pushpull-after");
/// `Pushpull-Gap-Before`: on the first event behind a gap that moved no place, the gap's `before`.
pub const PUSHPULL_GAP_BEFORE: HeaderName = HeaderName::from_static("pushpull-gap-before");
