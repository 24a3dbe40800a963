//! The promises of pushpull as a test kit: for every adapter and engine, ours and others'.
//!
//! - [`history`]: what was published and what was delivered, recorded, and a pure checker of it.
//! - [`harness`] and [`promises`]: what a transport or an engine implements to be held to the promises.
//! - [`proxy`]: a TCP proxy that cuts, delays, stalls and half-opens connections.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod history;
