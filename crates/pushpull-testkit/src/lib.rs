//! The promises of pushpull as a test kit: for every adapter and engine, ours and others'.
//!
//! - [`history`]: what was published and what was delivered, recorded, and a pure checker of it.
//! - [`Harness`]: what a transport or an engine implements to be held to the [`promises`].
//! - [`conformance`]: one test for each promise. [`hand_over`]: from one transport to another.
//!   [`published_for_all`]: by one transport for all others.
//! - [`proxy`]: a TCP proxy that cuts, delays, stalls and half-opens connections, refuses them, and has the manners of
//!   old HTTP proxies.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod harness;
pub mod history;
pub mod promises;
pub mod proxy;
mod trial;

pub use harness::{Capabilities, Capability, Failure, Harness, Verdict, require_or_skip};
pub use promises::{PROMISES, Promise, hand_over, published_for_all};
pub use trial::{Reader, Trial};
