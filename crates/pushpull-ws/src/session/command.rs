//! What a client asks for, and what comes of it: the parts that may wait.

use std::{future::Future, pin::Pin, sync::Arc};

use pushpull_core::{
    Context, ErrorKind, Message, Problem, Producer, PublishError, Published, Push, Subscribe, Subscription,
    Topic, Topics,
};
use pushpull_http::{Action, Gate};
use tokio::time::Instant;

use crate::codec::server::Id;

/// What connections work with: one for all.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) push: Arc<dyn Push>,
    pub(crate) producer: Option<Arc<dyn Producer>>,
    pub(crate) gate: Gate,
}

/// A command under way. Dropping it gives it up.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of a command.
pub(super) enum Done {
    Subscribed { id: Option<Id>, request: Subscribe, result: Result<Subscription, Problem> },
    Allowed { id: Option<Id>, topics: Topics, result: Result<(), Problem> },
    Published { id: Option<Id>, result: Result<Published, PublishError> },
}

impl Shared {
    /// Opens the connection's subscription.
    pub(super) fn subscribe(self: &Arc<Self>, cx: Context, id: Option<Id>, request: Subscribe) -> Work {
        let shared = self.clone();
        Box::pin(async move {
            let result = match shared.gate.authorize_topics(&cx, &request.topics).await {
                Ok(()) => shared.push.subscribe(&cx, request.clone()).await.map_err(Problem::from),
                Err(problem) => Err(problem),
            };
            Done::Subscribed { id, request, result }
        })
    }

    /// Asks whether `topics` may be added.
    pub(super) fn allow(self: &Arc<Self>, cx: Context, id: Option<Id>, topics: Topics) -> Work {
        let shared = self.clone();
        Box::pin(async move {
            let result = shared.gate.authorize_topics(&cx, &topics).await;
            Done::Allowed { id, topics, result }
        })
    }

    /// Publishes messages, all or none.
    pub(super) fn publish(
        self: &Arc<Self>,
        cx: Context,
        id: Option<Id>,
        topic: Topic,
        messages: Vec<Message>,
    ) -> Work {
        let shared = self.clone();
        Box::pin(
            async move { Done::Published { id, result: shared.try_publish(&cx, &topic, &messages).await } },
        )
    }

    async fn try_publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        let begun = Instant::now();
        let refused = PublishError::not_applied;
        self.gate.authorize(cx, Action::Publish(topic)).await.map_err(refused)?;
        let limit = self.gate.limits().payload;
        if messages.iter().any(|message| message.payload().len() > limit) {
            let detail = format!("a payload has at most {limit} bytes");
            return Err(refused(Problem::new(ErrorKind::TooLarge, detail)));
        }
        let Some(producer) = &self.producer else {
            let detail = "this server has nothing to publish with";
            return Err(refused(Problem::new(ErrorKind::Unsupported, detail)));
        };
        let published = producer.publish(cx, topic, messages).await?;
        self.gate.metrics().published(published.count, begun.elapsed());
        Ok(published)
    }
}
