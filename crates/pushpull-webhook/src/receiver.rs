//! The receiver: a service that takes signed deliveries, and a push of what it took.

mod config;
mod feed;
mod replay;
mod service;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use pushpull_core::{
    Context, Cursor, ErrorKind, Problem, Push, PushHinted, Pushed, PushedStream, Receipt, StartAt, Subscribe,
    SubscribeError, Subscription, Topics,
};
use pushpull_http::json::{Item, parse_item};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout_at},
};

use crate::{PUSHPULL_AFTER, PUSHPULL_GAP_BEFORE, Secret, VerifyError, verify};
use feed::{Line, ReceiverFeed};
use replay::{Replay, Seen};

pub use config::ReceiverConfig;
pub use service::ReceiverService;

/// Takes what a [`Webhooks`](crate::Webhooks), or any sender of the wire contract, section 6, sends to one endpoint.
/// Cheap to clone (shared).
///
/// [`Receiver::service`] is to be mounted where the endpoint's URL leads. It checks signature, age and replay, and
/// answers 2xx only once its consumer was handed the event (or had it already); 503 while nobody takes it.
///
/// It has one consumer at a time. As a [`PushHinted`] it is one half of a [`Hybrid`](pushpull_core::Hybrid), the way to
/// have each event once. As a plain [`Push`] it starts with `start=latest` or from a cursor, its starting place is told
/// with the first event, repeats are dropped, and what was lost on the way is told as a gap, since nothing can be
/// asked for it.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    secrets: Mutex<Vec<Secret>>,
    config: ReceiverConfig,
    replay: Mutex<Replay>,
    line: Mutex<Option<mpsc::Sender<Pushed>>>,
    slots: Semaphore,
}

/// What became of a delivery that was refused, or not taken.
#[derive(Debug)]
enum Refused {
    Unverified(VerifyError),
    Problem(Problem),
}

impl Receiver {
    /// Takes what is signed by `secret`.
    pub fn new(secret: Secret, config: ReceiverConfig) -> Self {
        Self(Arc::new(Inner {
            secrets: Mutex::new(vec![secret]),
            replay: Mutex::new(Replay::new(config.replay_ids, config.tolerance)),
            line: Mutex::default(),
            slots: Semaphore::new(config.deliveries.clamp(1, Semaphore::MAX_PERMITS)),
            config,
        }))
    }

    /// Takes what is signed by any of `secrets` from now on: both, while they are rotated.
    pub fn set_secrets(&self, secrets: impl IntoIterator<Item = Secret>) {
        *lock(&self.0.secrets) = secrets.into_iter().collect();
    }

    /// The service to mount where the endpoint's URL leads.
    pub fn service(&self) -> ReceiverService {
        ReceiverService::new(self.clone())
    }

    /// Takes one delivery; returns once the consumer has it.
    async fn take(&self, headers: &HeaderMap, body: &Bytes, deadline: Instant) -> Result<(), Refused> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let secrets = lock(&self.0.secrets).clone();
        let id =
            verify(&secrets, headers, body, now, self.0.config.tolerance).map_err(Refused::Unverified)?;
        let pushed = pushed(id, headers, body).map_err(Refused::Problem)?;
        let seen = lock(&self.0.replay).begin(id, now);
        match seen {
            Seen::Taken => return Ok(()),
            Seen::UnderWay => return Err(Refused::Problem(not_now("it is being taken already"))),
            Seen::New => {}
        }
        let mut claim = Claim { receiver: self, id, is_taken: false };
        self.hand_over(pushed, deadline).await.map_err(Refused::Problem)?;
        claim.is_taken = true;
        Ok(())
    }

    async fn hand_over(&self, pushed: Pushed, deadline: Instant) -> Result<(), Problem> {
        let line = lock(&self.0.line).clone().ok_or_else(|| not_now("nobody takes events"))?;
        let (receipt, taken) = Receipt::new();
        let handed = async {
            let is_sent = line.send(pushed.with_receipt(receipt)).await.is_ok();
            is_sent && taken.await
        };
        match timeout_at(deadline, handed).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(not_now("nobody takes events")),
            Err(_) => Err(not_now("it was not taken in time")),
        }
    }

    /// A new line to the consumer.
    fn claim(&self) -> Result<mpsc::Receiver<Pushed>, SubscribeError> {
        let mut line = lock(&self.0.line);
        if line.as_ref().is_some_and(|line| !line.is_closed()) {
            return Err(Problem::new(ErrorKind::Busy, "this receiver has a consumer").into());
        }
        let (sender, receiver) = mpsc::channel(self.0.config.deliveries.clamp(1, Semaphore::MAX_PERMITS));
        *line = Some(sender);
        Ok(receiver)
    }
}

/// An id that is under way. Its request may be dropped at any point.
struct Claim<'a> {
    receiver: &'a Receiver,
    id: &'a str,
    is_taken: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.receiver.0.replay).end(self.id, self.is_taken);
    }
}

/// What is locked here is whole between any two statements, so that a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_now(why: &'static str) -> Problem {
    Problem::new(ErrorKind::Unavailable, why).with_retry(Duration::from_secs(1))
}

/// Reads a verified delivery. Its id must be that of its content, since repeats are known by it.
fn pushed(id: &str, headers: &HeaderMap, body: &[u8]) -> Result<Pushed, Problem> {
    let item =
        parse_item(body).map_err(|problem| Problem::new(ErrorKind::Invalid, problem.detail().to_owned()))?;
    let (expected, pushed) = match item {
        Item::Event(event) => (event.cursor().to_string(), Pushed::event(place_before(headers)?, event)),
        Item::Gap(gap) => (format!("gap-{}", gap.before), Pushed::gap(gap)),
        _ => return Err(Problem::new(ErrorKind::Invalid, "it is no event and no gap")),
    };
    match id == expected {
        true => Ok(pushed),
        false => Err(Problem::invalid("webhook-id", "it is not that of the event")),
    }
}

/// The place before an event. Where a gap was told that moved no place, it lies behind that, so that whoever missed
/// the gap asks for it.
fn place_before(headers: &HeaderMap) -> Result<Option<Cursor>, Problem> {
    let after = cursor_in(headers, &PUSHPULL_AFTER)?;
    let before = cursor_in(headers, &PUSHPULL_GAP_BEFORE)?;
    Ok(match (after, before) {
        (Some(after), Some(before)) if after.epoch() == before.epoch() => {
            Some(Cursor::new(after.epoch(), before.seq().saturating_sub(1).max(after.seq())))
        }
        (after, _) => after,
    })
}

fn cursor_in(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Cursor>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let cursor = value.to_str().ok().and_then(|text| text.parse().ok());
    cursor.map(Some).ok_or_else(|| Problem::invalid(name.as_str().to_owned(), "it is no cursor"))
}

#[async_trait]
impl PushHinted for Receiver {
    async fn subscribe_hinted(&self, _: &Context, _: &Topics) -> Result<PushedStream, SubscribeError> {
        Ok(Box::pin(Line(self.claim()?)))
    }
}

#[async_trait]
impl Push for Receiver {
    async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let place = match request.start {
            StartAt::After(cursor) => Some(cursor),
            StartAt::Start(pushpull_core::Start::Latest) => None,
            StartAt::Start(_) => {
                let problem =
                    Problem::new(ErrorKind::Unsupported, "what was published before cannot be asked for");
                return Err(problem.with_parameter("start").into());
            }
        };
        let feed = ReceiverFeed::new(self.claim()?, request.topics.clone(), place);
        Ok(Subscription::new(feed, &request))
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("config", &self.0.config).finish_non_exhaustive()
    }
}
