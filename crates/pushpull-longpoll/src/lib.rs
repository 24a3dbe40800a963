//! pushpull over long polling: server and client half.
//!
//! [`LongpollService`] serves `GET /longpoll` of the wire contract over any [`Pull`](pushpull_core::Pull).
//! [`LongpollClient`] is a [`Pull`](pushpull_core::Pull) over such a server, a [`Push`](pushpull_core::Push) by
//! asking again and again, and a [`Producer`](pushpull_core::Producer) by POST.
//!
//! | feature | adds |
//! | --- | --- |
//! | `server` | [`LongpollService`] |
//! | `client` | [`LongpollClient`] |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "client")]
pub use client::{Longpoll, LongpollClient};
#[cfg(feature = "server")]
pub use server::LongpollService;
