//! The four roles, and what follows from them.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use async_trait::async_trait;
use futures_core::Stream;

use crate::{
    Batch, ConsumeError, Context, Cursor, Delivery, Event, Fetch, FetchError, Gap, Message, Polling,
    PublishError, Schedule, Subscribe, SubscribeError, Subscription, Topic,
};

/// Publishes messages, gets cursors back.
#[async_trait]
pub trait Producer: Send + Sync + 'static {
    /// Publishes `messages` to `topic`, in order, all or none, and returns once the engine has them.
    ///
    /// With an idempotency id (that of the first message stands for the batch) a repeat within the window
    /// returns the first answer and publishes nothing.
    ///
    /// # Errors
    /// [`PublishError::outcome`] says whether they may have been published all the same.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether they were published.
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError>;
}

/// A source that can be subscribed to.
#[async_trait]
pub trait Push: Send + Sync + 'static {
    /// Begins a subscription.
    ///
    /// # Errors
    /// If the source cannot, or will not, deliver what is asked for.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError>;
}

/// A source that can be asked. Reading never consumes: the same cursor gives the same answer as often as it
/// is asked.
#[async_trait]
pub trait Pull: Send + Sync + 'static {
    /// Takes what follows the place asked for; waits up to `request.wait` for a first event.
    ///
    /// From [`Start::Latest`](crate::Start::Latest) without a wait nothing follows yet: the answer is the place
    /// alone, so that who asks knows where he begins.
    ///
    /// # Errors
    /// If the source cannot, or will not, deliver what is asked for.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError>;
}

/// Receives deliveries and knows its place; hides whether they were pushed or pulled.
pub trait Consumer: Send {
    /// The next delivery; `None` after the end, which a [`Link::Ended`](crate::Link::Ended) or an error announced.
    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Delivery, ConsumeError>>>;

    /// The place of the last delivery returned: resume there, on any transport and node.
    fn place(&self) -> Option<Cursor>;

    /// The transport by which deliveries come now: see [`Subscription::transport`].
    fn transport(&self) -> Option<&'static str>;
}

/// What a publish gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The first message's cursor.
    pub first: Cursor,
    /// The last message's cursor.
    pub last: Cursor,
    /// How many messages.
    pub count: u64,
}

impl Published {
    /// `count` messages from `first` to `last`.
    pub fn new(first: Cursor, last: Cursor, count: u64) -> Self {
        Self { first, last, count }
    }
}

/// Conveniences of every [`Producer`].
pub trait ProducerExt: Producer {
    /// Publishes one message and returns its cursor.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    fn publish_one(
        &self,
        topic: &Topic,
        message: Message,
    ) -> impl Future<Output = Result<Cursor, PublishError>> + Send {
        async move {
            let cx = Context::default();
            Ok(self.publish(&cx, topic, std::slice::from_ref(&message)).await?.last)
        }
    }
}

/// Conveniences of every [`Push`].
pub trait PushExt: Push {
    /// Subscribes, without a context.
    ///
    /// # Errors
    /// As [`Push::subscribe`].
    fn consume(
        &self,
        request: Subscribe,
    ) -> impl Future<Output = Result<Subscription, SubscribeError>> + Send {
        async move {
            let cx = Context::default();
            self.subscribe(&cx, request).await
        }
    }
}

/// Conveniences of every [`Pull`].
pub trait PullExt: Pull {
    /// Makes a consumer that asks again and again, as `schedule` says. The window and the rate of `request`
    /// hold as for a subscription.
    fn consume_polling(self: Arc<Self>, request: &Subscribe, schedule: Schedule) -> Subscription
    where
        Self: Sized,
    {
        Polling::start(self, Context::default(), request, schedule)
    }
}

/// Conveniences of every [`Consumer`].
pub trait ConsumerExt: Consumer {
    /// The next delivery; `None` after the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    fn next(&mut self) -> Next<'_, Self> {
        Next { consumer: self }
    }

    /// Events alone, and what must not be missed: a gap is an `Err`, after which the stream goes on.
    fn events_only(self) -> EventsOnly<Self>
    where
        Self: Sized,
    {
        EventsOnly { consumer: self }
    }
}

impl<T: Producer + ?Sized> ProducerExt for T {}
impl<T: Push + ?Sized> PushExt for T {}
impl<T: Pull + ?Sized> PullExt for T {}
impl<T: Consumer + ?Sized> ConsumerExt for T {}

/// See [`ConsumerExt::next`].
pub struct Next<'a, C: ?Sized> {
    consumer: &'a mut C,
}

/// See [`ConsumerExt::events_only`].
pub struct EventsOnly<C> {
    consumer: C,
}

/// What stands between two events of [`EventsOnly`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Interruption {
    /// Events are gone; the stream goes on.
    #[error("events are gone: {0}")]
    Gap(Gap),
    /// The consumer cannot go on.
    #[error(transparent)]
    Error(#[from] ConsumeError),
}

impl<C: Consumer + ?Sized> Future for Next<'_, C> {
    type Output = Option<Result<Delivery, ConsumeError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.consumer.poll_next(cx)
    }
}

impl<C> EventsOnly<C> {
    /// The consumer, to ask for its place or to go on without the filter.
    pub fn into_inner(self) -> C {
        self.consumer
    }
}

impl<C: Consumer + Unpin> Stream for EventsOnly<C> {
    type Item = Result<Event, Interruption>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.consumer.poll_next(cx)) {
                Some(Ok(Delivery::Event(event))) => return Poll::Ready(Some(Ok(event))),
                Some(Ok(Delivery::Gap(gap))) => return Poll::Ready(Some(Err(Interruption::Gap(gap)))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<C: ?Sized> fmt::Debug for Next<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for EventsOnly<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsOnly").finish_non_exhaustive()
    }
}

/// What a method of these traits gives.
type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

// By hand, as `async_trait` has it: the answer is handed on as it is, in one box and not in two.
impl<T: Producer + ?Sized> Producer for Arc<T> {
    fn publish<'this, 'cx, 'topic, 'messages, 'answer>(
        &'this self,
        cx: &'cx Context,
        topic: &'topic Topic,
        messages: &'messages [Message],
    ) -> Answer<'answer, Result<Published, PublishError>>
    where
        'this: 'answer,
        'cx: 'answer,
        'topic: 'answer,
        'messages: 'answer,
        Self: 'answer,
    {
        (**self).publish(cx, topic, messages)
    }
}

impl<T: Push + ?Sized> Push for Arc<T> {
    fn subscribe<'this, 'cx, 'answer>(
        &'this self,
        cx: &'cx Context,
        request: Subscribe,
    ) -> Answer<'answer, Result<Subscription, SubscribeError>>
    where
        'this: 'answer,
        'cx: 'answer,
        Self: 'answer,
    {
        (**self).subscribe(cx, request)
    }
}

impl<T: Pull + ?Sized> Pull for Arc<T> {
    fn fetch<'this, 'cx, 'answer>(
        &'this self,
        cx: &'cx Context,
        request: Fetch,
    ) -> Answer<'answer, Result<Batch, FetchError>>
    where
        'this: 'answer,
        'cx: 'answer,
        Self: 'answer,
    {
        (**self).fetch(cx, request)
    }
}

impl<T: Consumer + ?Sized> Consumer for Box<T> {
    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Delivery, ConsumeError>>> {
        (**self).poll_next(cx)
    }

    fn place(&self) -> Option<Cursor> {
        (**self).place()
    }

    fn transport(&self) -> Option<&'static str> {
        (**self).transport()
    }
}
