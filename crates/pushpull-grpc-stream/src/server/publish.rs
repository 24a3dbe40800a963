//! `Publish`.

use pushpull_core::{ErrorKind, Problem, PublishError, Published};
use pushpull_http::Action;
use tokio::time::Instant;

use super::call::Failure;
use crate::{
    codec,
    proto::{PublishReply, PublishRequest},
    session::Shared,
};

pub(super) async fn answer(shared: &Shared, asked: PublishRequest) -> Result<Published, Failure> {
    Ok(shared.publish(asked).await?)
}

pub(super) fn reply(published: &Published) -> PublishReply {
    PublishReply {
        cursor: published.last.to_string(),
        first: published.first.to_string(),
        last: published.last.to_string(),
        count: published.count,
    }
}

impl Shared {
    /// Publishes what is asked for, if it may be.
    pub(crate) async fn publish(&self, asked: PublishRequest) -> Result<Published, PublishError> {
        let begun = Instant::now();
        let refused = PublishError::not_applied;
        let (topic, messages) = codec::messages_of(asked).map_err(refused)?;
        self.gate.authorize(&self.cx, Action::Publish(&topic)).await.map_err(refused)?;
        let limit = self.gate.limits().payload;
        if messages.iter().any(|message| message.payload().len() > limit) {
            let detail = format!("a payload has at most {limit} bytes");
            return Err(refused(Problem::new(ErrorKind::TooLarge, detail)));
        }
        let Some(producer) = &self.producer else {
            let detail = "this server has nothing to publish with";
            return Err(refused(Problem::new(ErrorKind::Unsupported, detail)));
        };
        let published = producer.publish(&self.cx, &topic, &messages).await?;
        self.gate.metrics().published(published.count, begun.elapsed());
        Ok(published)
    }
}
