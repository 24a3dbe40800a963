//! Following the upstream: the one subscription, made anew whenever it ends.

use std::{future::poll_fn, sync::Arc, time::Duration};

use pushpull_core::{Backoff, Batch, Bounds, Delivery, ErrorKind, Link as Word, Problem, Subscription};
use tokio::{task::JoinSet, time::sleep};

use super::{
    RETRY,
    intake::Intake,
    link::{Link, State},
};
use crate::Tail;

/// The longest a relay stays away, however long its upstream asks it to.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Says that nobody follows the upstream any more, however that came.
struct Following(Arc<Link>);

impl Drop for Following {
    fn drop(&mut self) {
        if matches!(self.0.state(), State::Refused(_)) {
            return;
        }
        if std::thread::panicking() {
            tracing::error!("following the upstream failed");
        }
        let problem = Problem::new(ErrorKind::Unavailable, "the upstream is followed no more");
        self.0.end(problem.with_retry(RETRY));
    }
}

/// Follows the upstream for as long as it does not refuse that.
pub(super) async fn follow(link: Arc<Link>, tail: Tail) {
    let _following = Following(link.clone());
    let (mut watching, watched) = (JoinSet::new(), link.clone());
    watching.spawn(async move { watched.watch().await });
    let (mut intake, mut backoff) = (Intake::new(tail), Backoff::default());
    loop {
        let ended = match link.subscribe(intake.place().into()).await {
            Ok(subscription) => drain(&link, &mut intake, &mut backoff, subscription).await,
            Err(error) => Ended { cause: Some(error.into()), retry: None },
        };
        if let Some(problem) = ended.cause.as_ref().filter(|problem| !problem.is_retryable()) {
            tracing::error!(%problem, "the upstream refuses to be followed");
            link.set(State::Refused(problem.clone()));
            return;
        }
        link.set(State::Down(ended.cause));
        let own = backoff.next_delay();
        sleep(ended.retry.map_or(own, |asked| asked.min(LONGEST_REST).max(own))).await;
    }
}

/// Why a subscription is over, and when the upstream wants to be asked again.
struct Ended {
    cause: Option<Problem>,
    retry: Option<Duration>,
}

/// Takes all that `subscription` brings, until its end.
async fn drain(
    link: &Link,
    intake: &mut Intake,
    backoff: &mut Backoff,
    mut subscription: Subscription,
) -> Ended {
    let mut ended = Ended { cause: None, retry: None };
    loop {
        let mut batch = Batch::default();
        let polled = poll_fn(|cx| subscription.poll_batch(cx, Bounds::default(), &mut batch)).await;
        let mut state = None;
        for delivery in &batch.deliveries {
            match delivery {
                Delivery::Link(Word::Ended { retry, .. }) => ended.retry = *retry,
                Delivery::Link(Word::Reconnecting { cause, .. }) => state = Some(State::Down(cause.clone())),
                // Who asks again and again is told no more than this if nothing is new.
                Delivery::Link(Word::Connected) if !intake.has_begun() => {}
                Delivery::Link(Word::Connecting | Word::PassedOver { .. }) => {}
                _ => state = Some(State::Up),
            }
        }
        link.void().remember_told(intake.take(batch.deliveries, batch.place));
        if let Some(state) = state {
            if matches!(state, State::Up) {
                backoff.reset();
            }
            link.set(state);
        }
        link.set_moved();
        match polled {
            Some(Ok(())) => {}
            Some(Err(error)) => return Ended { cause: Some(error.into()), ..ended },
            None => return ended,
        }
    }
}
