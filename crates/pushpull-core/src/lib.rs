//! The words and traits of pushpull, without any transport.
//!
//! A [`Producer`] publishes [`Message`]s and gets [`Cursor`]s back. A [`Push`] can be subscribed to, a
//! [`Pull`] can be asked; both are views of one sequence, so either becomes a [`Consumer`], and a consumer
//! may change from one to the other at any cursor without losing or repeating an event.
//!
//! Everything here is usable as `dyn`, so that a transport can be chosen at run time as well as by feature.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod batch;
mod context;
mod cursor;
mod delivery;
mod encoding;
mod error;
mod event;
mod fallback;
mod fetching;
mod hybrid;
mod message;
mod polling;
mod reconnect;
mod request;
mod signal;
mod subscription;
#[cfg(test)]
mod testing;
mod topic;
mod traits;
mod whole;

pub use backoff::Backoff;
pub use batch::{Batch, Bounds};
pub use context::{Context, Extensions, FailFast, Identity};
pub use cursor::{Cursor, CursorError, Epoch, Epochs, Standing as CursorStanding};
pub use delivery::{Delivery, Gap, GapReason, Link};
pub use encoding::{EncodingAccount, FormatKey};
pub use error::{ConsumeError, ErrorKind, FetchError, Outcome, Problem, PublishError, Retry, SubscribeError};
pub use event::{Event, EventParts, Prev, View};
pub use fallback::Fallback;
pub use fetching::Fetching;
pub use hybrid::{Hybrid, PushHinted, Pushed, PushedItem, PushedStream, Receipt, Taken};
pub use message::{Checked, DEFAULT_CONTENT_TYPE, Message, MessageError, PayloadKind};
pub use polling::{Polling, Schedule};
pub use reconnect::{Dial, Dialing, End, Reconnecting};
pub use request::{Conflate, Fetch, Overflow, Rate, Start, StartAt, Subscribe};
pub use signal::{Signal, Waiter, silent_waker};
pub use subscription::{Feed, Standing, Stride, Subscription};
pub use topic::{Pattern, Topic, TopicError, Topics};
pub use traits::{
    Consumer, ConsumerExt, EventsOnly, Interruption, Next, Producer, ProducerExt, Published, Pull, PullExt,
    Push, PushExt,
};
pub use whole::Whole;
