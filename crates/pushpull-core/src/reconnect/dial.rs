//! What makes connections, and hears how they ended.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use crate::{Cursor, Feed, Link, Subscribe, SubscribeError};

/// Makes one connection of a transport: what a client half implements.
pub trait Dial: Send + 'static {
    /// Connects and subscribes. `request.start` is the place to go on from.
    ///
    /// The feed reports the loss of its connection as an error that [is
    /// retryable](crate::ConsumeError::is_retryable), silence beyond its deadline included
    /// ([`ErrorKind::Timeout`](crate::ErrorKind::Timeout)), and an announced end as [`Link::Ended`](crate::Link::Ended); it
    /// delivers no other [`Link`](crate::Link).
    fn dial(&self, request: Subscribe) -> Dialing;

    /// The name of the transport, as the wire contract's metrics label it (section 7); of several, that of
    /// the one taken.
    fn transport(&self) -> Option<&'static str>;

    /// What was tried in vain before the connection just made, in order: told before that is. Who makes connections of one
    /// kind only tries nothing else.
    fn passed_over(&mut self) -> Vec<Link> {
        Vec::new()
    }

    /// Hears how a connection made by it ended. Who makes connections of one kind only has no use for it.
    fn ended(&mut self, _end: End) {}

    /// Ready once a better connection than the live one could be made: the live one is then left at its
    /// place, and [`dial`](Dial::dial) asked for the better one. Polled while a connection is live for `request`
    /// and stands at `place`. Who makes connections of one kind only knows of none better.
    fn poll_better(&mut self, _cx: &mut task::Context<'_>, _request: &Subscribe, _place: Cursor) -> Poll<()> {
        Poll::Pending
    }
}

/// A connection being made. Dropping it gives it up.
pub type Dialing = Pin<Box<dyn Future<Output = Result<Box<dyn Feed>, SubscribeError>> + Send>>;

/// How a connection ended that is to be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The source said so before, or said when to come back.
    Announced {
        /// How long it was open.
        age: Duration,
    },
    /// It broke.
    Lost {
        /// How long it was open; if it broke by silence, only up to the last thing it brought.
        age: Duration,
    },
}
