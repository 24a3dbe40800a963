//! Publishing.

use std::{fmt::Write as _, time::Duration};

use async_trait::async_trait;
use pushpull_core::{
    Backoff, Context, ErrorKind, FailFast, Message, Outcome, Problem, Producer, PublishError, Published,
    Retry, Topic,
};
use tokio::time::{Instant, timeout_at};

use super::GrpcClient;
use crate::{
    codec,
    proto::{PublishReply, PublishRequest},
    status::{outcome_of, problem_of},
};

/// How long a publish may take if its context names no deadline: 30 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one attempt may take: 10 s.
const ATTEMPT: Duration = Duration::from_secs(10);

impl GrpcClient {
    async fn attempt(&self, asked: &PublishRequest, deadline: Instant) -> Result<Published, PublishError> {
        let until = deadline.min(Instant::now() + ATTEMPT);
        let mut request = self.request(asked.clone());
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        let mut client = self.shared();
        let answered = timeout_at(until, client.publish(request)).await.map_err(|_| {
            PublishError::unknown(Problem::new(ErrorKind::Timeout, "no answer within the deadline"))
        })?;
        match self.judge(answered) {
            Ok(reply) => published_in(&reply).map_err(PublishError::unknown),
            Err(status) => Err(match outcome_of(&status) {
                Outcome::NotApplied => PublishError::not_applied(problem_of(&status)),
                _ => PublishError::unknown(problem_of(&status)),
            }),
        }
    }
}

/// Every publish bears an idempotency id, one made here if the first message has none, so that an attempt whose answer
/// was lost is repeated safely until the context's deadline (30 s if it has none).
#[async_trait]
impl Producer for GrpcClient {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        let asked = ask(topic, messages).map_err(PublishError::not_applied)?;
        let deadline = cx.deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        let is_hasty = cx.extensions.get::<FailFast>().is_some();
        let mut backoff = Backoff::default();
        let mut outcome = Outcome::NotApplied;
        loop {
            let error = match self.attempt(&asked, deadline).await {
                Ok(published) => return Ok(published),
                Err(error) => error,
            };
            if error.outcome() == Outcome::Unknown {
                outcome = Outcome::Unknown;
            }
            let delay = match error.retry() {
                Retry::After(hint) => hint.max(backoff.next_delay()),
                _ => backoff.next_delay(),
            };
            let problem = error.problem().clone();
            let is_enough = !error.is_retryable() || (is_hasty && error.outcome() == Outcome::NotApplied);
            if is_enough || Instant::now() + delay >= deadline {
                return Err(match outcome {
                    Outcome::NotApplied => PublishError::not_applied(problem),
                    _ => PublishError::unknown(problem),
                });
            }
            tokio::time::sleep(delay).await;
        }
    }
}

fn ask(topic: &Topic, messages: &[Message]) -> Result<PublishRequest, Problem> {
    let checked: Vec<Message> =
        messages.iter().map(|message| message.clone().check()).collect::<Result<_, _>>()?;
    let Some(first) = checked.first() else {
        return Err(Problem::invalid("messages", "there is no message to publish"));
    };
    let id = first.idempotency().map_or_else(random_id, str::to_owned);
    Ok(codec::ask_publish(topic, &checked, id))
}

fn random_id() -> String {
    let mut id = String::with_capacity(32);
    for _ in 0..2 {
        // Writing to a string does not fail.
        let _ = write!(id, "{:016x}", fastrand::u64(..));
    }
    id
}

fn published_in(reply: &PublishReply) -> Result<Published, Problem> {
    Ok(Published::new(codec::cursor_in(&reply.first)?, codec::cursor_in(&reply.last)?, reply.count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_publish_bears_an_idempotency_id() {
        let topic = "a".parse().unwrap();
        let made = ask(&topic, &[Message::text("x")]).unwrap();
        let again = ask(&topic, &[Message::text("x"), Message::text("y")]).unwrap();
        assert_eq!((made.idempotency.len(), again.idempotency.len()), (32, 32));
        assert_ne!(made.idempotency, again.idempotency);
        let own = ask(&topic, &[Message::text("x").with_idempotency("mine")]).unwrap();
        assert_eq!((&*own.idempotency, &own.payload[..], own.messages.len()), ("mine", &b"x"[..], 0));
        assert_eq!((again.payload.len(), again.messages.len()), (0, 2));
        assert_eq!(ask(&topic, &[]).unwrap_err().parameter(), Some("messages"));
    }
}
