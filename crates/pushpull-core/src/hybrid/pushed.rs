//! What a push that may lose hands over.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures_core::Stream;
use tokio::sync::oneshot;

use crate::{Context as CallContext, Cursor, Event, Gap, SubscribeError, Topics};

/// A push that may lose, repeat, reorder or delay, but tells each event's place before it (wire contract,
/// section 6): what [`Hybrid`](crate::Hybrid) joins with a pull.
#[async_trait]
pub trait PushHinted: Send + Sync + 'static {
    /// Begins to hand over what is pushed of `topics`.
    ///
    /// # Contract
    /// The place that is told with an event lies so that nothing of `topics` is between the two. Events of other
    /// topics may come too.
    ///
    /// # Errors
    /// If the push cannot, or will not, deliver them.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn subscribe_hinted(
        &self,
        cx: &CallContext,
        topics: &Topics,
    ) -> Result<PushedStream, SubscribeError>;
}

/// Everything that a [`PushHinted`] pushes, in whatever order it comes. Its end is no error: the pull goes on.
pub type PushedStream = Pin<Box<dyn Stream<Item = Pushed> + Send>>;

/// One thing that was pushed, and the receipt that its sender waits for.
#[derive(Debug)]
pub struct Pushed {
    pub(super) item: PushedItem,
    pub(super) receipt: Option<Receipt>,
}

/// What was pushed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PushedItem {
    /// An event, and a place behind which nothing that the push sends lies before the event, if it was told.
    Event {
        /// The place before it.
        after: Option<Cursor>,
        /// The event.
        event: Event,
    },
    /// Events are gone.
    Gap(Gap),
}

/// Tells the sender that what it pushed was taken. Dropping it tells that it was not.
#[derive(Debug)]
pub struct Receipt(oneshot::Sender<()>);

/// Resolves to whether what was pushed was taken.
#[derive(Debug)]
pub struct Taken(oneshot::Receiver<()>);

impl Pushed {
    /// An event, and the place before it.
    pub fn event(after: impl Into<Option<Cursor>>, event: Event) -> Self {
        Self { item: PushedItem::Event { after: after.into(), event }, receipt: None }
    }

    /// A gap.
    pub fn gap(gap: Gap) -> Self {
        Self { item: PushedItem::Gap(gap), receipt: None }
    }

    /// The same, with a receipt to be given once the consumer has it.
    #[must_use]
    pub fn with_receipt(mut self, receipt: Receipt) -> Self {
        self.receipt = Some(receipt);
        self
    }

    /// What was pushed.
    pub fn item(&self) -> &PushedItem {
        &self.item
    }

    /// What was pushed, and the receipt to be given.
    pub fn into_parts(self) -> (PushedItem, Option<Receipt>) {
        (self.item, self.receipt)
    }
}

impl Receipt {
    /// A receipt and what waits for it.
    pub fn new() -> (Self, Taken) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), Taken(receiver))
    }

    /// Tells that it was taken.
    pub fn give(self) {
        // The sender may have stopped waiting.
        let _ = self.0.send(());
    }
}

impl Future for Taken {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0).poll(cx).map(|given| given.is_ok())
    }
}

impl fmt::Display for PushedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { event, .. } => write!(f, "{} {}", event.topic(), event.cursor()),
            Self::Gap(gap) => write!(f, "{gap}"),
        }
    }
}
