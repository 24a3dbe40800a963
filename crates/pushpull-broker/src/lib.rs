//! The in-process hub of pushpull: assigns the sequence, retains, fans out.
//!
//! A [`Broker`] is a [`Producer`](pushpull_core::Producer), a [`Push`](pushpull_core::Push) and a
//! [`Pull`](pushpull_core::Pull) over one sequence. A subscriber owns no queue: it owns a place in that
//! sequence, so being slow costs nothing but the place, and publishing never waits for a consumer.
//!
//! ```
//! use pushpull_broker::Broker;
//! use pushpull_core::{Delivery, Message, ProducerExt, PushExt, Subscribe};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Broker::memory();
//! let mut quotes = broker.consume(Subscribe::to("quotes.*")?).await?;
//! let cursor = broker.publish_one(&"quotes.AAPL".parse()?, Message::text("189.3")).await?;
//!
//! assert!(matches!(quotes.next().await, Some(Ok(Delivery::Place(_)))));
//! let Some(Ok(Delivery::Event(event))) = quotes.next().await else { panic!("an event") };
//! assert_eq!((event.cursor(), &event.payload()[..]), (cursor, &b"189.3"[..]));
//! # Ok(()) }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod branch;
mod broker;
mod config;
mod conflate;
mod engine;
mod feed;
mod hub;
mod idempotency;
mod interest;
mod keyed;
mod log;
mod losses;
mod memory;
mod read;
mod relay;
mod ring;
mod scope;
mod snapshot;
mod sparse;
mod topics;
mod trie;

pub use broker::{Broker, Stats};
pub use config::Retention;
pub use engine::{Append, Appended, Capabilities, Engine, Entry, Tail};
pub use memory::MemoryEngine;
pub use relay::RelayEngine;
