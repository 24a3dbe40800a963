//! pushpull over plain HTTP polling: server and client half, and a scraper.
//!
//! [`PollService`] serves `GET /poll` of the wire contract over any [`Pull`](pushpull_core::Pull).
//! [`HttpPollClient`] is a [`Pull`](pushpull_core::Pull) over such a server, a [`Push`](pushpull_core::Push) by
//! asking on a schedule, and a [`Producer`](pushpull_core::Producer) by POST. [`Scrape`] polls any URL, as a
//! Prometheus server does, and makes a message of each body that changed.
//!
//! | feature | adds |
//! | --- | --- |
//! | `server` | [`PollService`] |
//! | `client` | [`HttpPollClient`], [`Scrape`] |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod scrape;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "server")]
pub use server::PollService;
#[cfg(feature = "client")]
pub use {
    client::{HttpPollClient, Poll},
    scrape::{Scrape, Scraped},
};
