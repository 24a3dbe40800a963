//! Who may do what.

use std::fmt;

use async_trait::async_trait;
use pushpull_core::{Context, Pattern, Problem, Topic};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Take the events of a topic or of all topics a pattern matches.
    Subscribe(&'a Pattern),
    /// Publish to a topic.
    Publish(&'a Topic),
}

/// Decides who may do what.
///
/// # Contract
/// A pattern is allowed as a whole or not at all; it is never thinned out. A request over many topics is
/// asked once for each. Identities that cease to hold say so
/// ([`Identity::expires`](pushpull_core::Identity::expires)); streams end then.
///
/// # Cancel safety
/// A client may leave in the middle of either call; dropping the future must leave nothing behind.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Establishes who asks: `token` is the bearer token of the request, if it has one (RFC 6750). Gives back
    /// `cx` with what it found out.
    ///
    /// # Errors
    /// [`Unauthenticated`](pushpull_core::ErrorKind::Unauthenticated) if it cannot be told, or must be and is not.
    async fn identify(&self, token: Option<&str>, cx: Context) -> Result<Context, Problem>;

    /// Decides whether `cx` may do `action`.
    ///
    /// # Errors
    /// [`Forbidden`](pushpull_core::ErrorKind::Forbidden) if not.
    async fn authorize(&self, cx: &Context, action: Action<'_>) -> Result<(), Problem>;
}

/// Lets everybody do everything. Tokens are not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

#[async_trait]
impl Authorizer for AllowAll {
    async fn identify(&self, _token: Option<&str>, cx: Context) -> Result<Context, Problem> {
        Ok(cx)
    }

    async fn authorize(&self, _cx: &Context, _action: Action<'_>) -> Result<(), Problem> {
        Ok(())
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscribe(pattern) => write!(f, "subscribe to {pattern}"),
            Self::Publish(topic) => write!(f, "publish to {topic}"),
        }
    }
}
