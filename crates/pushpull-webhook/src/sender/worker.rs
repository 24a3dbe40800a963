//! One endpoint's task: its subscription, each delivery until it is acknowledged, its place.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use pushpull_core::{
    Backoff, Context, Cursor, Delivery, Link, Pattern, Problem, Push, Retry, Start, StartAt, Subscribe,
    Subscription, Topics,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use super::{
    DisabledBecause, EndpointRecord, RetryPolicy, State, Status, Store,
    carrier::{Carry, Reply},
    parcel::{Parcel, reaches},
    policy::After,
    store::lock,
};

/// What all endpoints share.
pub(super) struct Shared {
    pub(super) push: Arc<dyn Push>,
    pub(super) store: Arc<dyn Store>,
    pub(super) policy: RetryPolicy,
    pub(super) slots: Semaphore,
    pub(super) tick: Duration,
}

/// An endpoint as others see it.
pub(super) struct Endpoint {
    record: Mutex<EndpointRecord>,
    next_attempt: Mutex<Option<u64>>,
    /// Saves in the order in which the record changed.
    saving: tokio::sync::Mutex<()>,
}

/// A subscription that has begun, and what came instead of its starting place.
pub(super) struct Begun {
    pub(super) subscription: Subscription,
    pub(super) first: Option<Delivery>,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    carrier: Box<dyn Carry>,
    request: Subscribe,
    /// How long the first delivery had been failing when this process took it up.
    carried: Duration,
}

/// How a subscription came to its end.
enum End {
    Disabled,
    /// To be begun anew, not before this has passed.
    Broken(Duration),
}

/// What the endpoint of `record` asks for.
pub(super) fn request_of(record: &EndpointRecord) -> Result<Subscribe, Problem> {
    let topics: Result<Vec<_>, _> = record.topics.iter().map(|text| Pattern::new(text)).collect();
    let start = Start::from_name(&record.start).unwrap_or_default();
    let start = record.scanned.or(record.place).map_or(StartAt::Start(start), StartAt::After);
    Ok(Subscribe::new(Topics::new(topics?)?).from(start))
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Endpoint {
    pub(super) fn new(record: EndpointRecord) -> Self {
        Self {
            record: Mutex::new(record),
            next_attempt: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn status(&self) -> Status {
        lock(&self.record).status(*lock(&self.next_attempt))
    }

    pub(super) fn update<T>(&self, change: impl FnOnce(&mut EndpointRecord) -> T) -> T {
        change(&mut lock(&self.record))
    }

    pub(super) fn revive(&self) -> EndpointRecord {
        self.update(|record| {
            (record.state, record.failures, record.failing_since) = (State::Active, 0, None);
            record.clone()
        })
    }

    pub(super) async fn save(&self, store: &dyn Store) -> Result<(), Problem> {
        let _turn = self.saving.lock().await;
        let record = lock(&self.record).clone();
        store.save(&record).await
    }

    fn resumes(&self, request: &Subscribe) -> Subscribe {
        let place = self.update(|record| record.scanned.or(record.place));
        request.clone().from(place.map_or(request.start, StartAt::After))
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        endpoint: Arc<Endpoint>,
        carrier: Box<dyn Carry>,
        request: Subscribe,
    ) -> Self {
        let since = endpoint.update(|record| record.failing_since);
        let carried = since.map_or(0, |since| millis(unix_now()).saturating_sub(since));
        Self { shared, endpoint, carrier, request, carried: Duration::from_millis(carried) }
    }

    pub(super) async fn run(mut self, mut begun: Option<Begun>) {
        let mut backoff = Backoff::default();
        loop {
            let since = Instant::now();
            match self.session(begun.take()).await {
                End::Disabled => return,
                End::Broken(asked) => {
                    if since.elapsed() > Duration::from_secs(10) {
                        backoff.reset();
                    }
                    sleep(backoff.next_delay().max(asked)).await;
                }
            }
        }
    }

    async fn session(&mut self, begun: Option<Begun>) -> End {
        let Begun { mut subscription, mut first } = match begun {
            Some(begun) => begun,
            None => {
                let request = self.endpoint.resumes(&self.request);
                match self.shared.push.subscribe(&Context::default(), request).await {
                    Ok(subscription) => Begun { subscription, first: None },
                    Err(error) => return self.broken(&error.into()).await,
                }
            }
        };
        loop {
            let next = match first.take() {
                Some(first) => Some(Ok(first)),
                None => match timeout(self.shared.tick, subscription.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.scan(subscription.place()).await;
                        continue;
                    }
                },
            };
            match next {
                None => return End::Broken(Duration::ZERO),
                Some(Err(error)) => return self.broken(&error.into()).await,
                Some(Ok(Delivery::Link(Link::Ended { retry, .. }))) => {
                    return End::Broken(retry.unwrap_or_default());
                }
                Some(Ok(delivery)) => {
                    if !self.handle(&delivery).await {
                        return End::Disabled;
                    }
                }
            }
        }
    }

    async fn broken(&self, problem: &Problem) -> End {
        match problem.retry() {
            Retry::After(delay) => End::Broken(delay),
            Retry::Never => {
                tracing::warn!(%problem, "the source refuses an endpoint's subscription");
                self.disable(DisabledBecause::Refused).await;
                End::Disabled
            }
            _ => End::Broken(Duration::ZERO),
        }
    }

    /// Notes how far the sequence has come without anything for this endpoint, so that it does not fall behind what is
    /// retained. All that was taken from the subscription is acknowledged by now.
    async fn scan(&self, place: Option<Cursor>) {
        let is_new = self.endpoint.update(|record| {
            let is_new =
                place.is_some() && record.place.is_some() && place != record.scanned.or(record.place);
            record.scanned = if is_new { place } else { record.scanned };
            is_new
        });
        if is_new {
            self.save().await;
        }
    }

    /// Whether the endpoint is still to be sent to.
    async fn handle(&mut self, delivery: &Delivery) -> bool {
        let parcel = self.endpoint.update(|record| match delivery {
            Delivery::Event(event) => Some(Parcel::of_event(event, record)),
            Delivery::Gap(gap) => Some(Parcel::of_gap(gap, record)),
            _ => None,
        });
        match (parcel, delivery) {
            (Some(parcel), _) => {
                if !self.deliver(&parcel).await {
                    return false;
                }
                self.acknowledged(delivery).await;
            }
            (None, Delivery::Place(place)) => {
                self.endpoint.update(|record| match record.place {
                    None => record.place = Some(*place),
                    Some(_) => record.scanned = Some(*place),
                });
                self.save().await;
            }
            _ => {}
        }
        true
    }

    async fn acknowledged(&self, delivery: &Delivery) {
        self.endpoint.update(|record| {
            record.told_before = match delivery {
                Delivery::Gap(gap) if !gap.reason.moves_place() => Some(gap.before),
                Delivery::Event(event) => record.told_before.filter(|before| !reaches(event, *before)),
                _ => None,
            };
            record.place = delivery.place().or(record.place);
            record.scanned = None;
            (record.failures, record.failing_since) = (0, None);
        });
        self.save().await;
    }

    /// Tries until it is acknowledged; `false` if the endpoint is disabled instead.
    async fn deliver(&mut self, parcel: &Parcel) -> bool {
        let (started, carried) = (Instant::now(), std::mem::take(&mut self.carried));
        loop {
            let (why, asked) = match self.attempt(parcel).await {
                Ok(reply) if reply.status.is_success() => return true,
                Ok(reply) if reply.status == StatusCode::GONE => {
                    self.disable(DisabledBecause::Gone).await;
                    return false;
                }
                Ok(reply) => (format!("it answered {}", reply.status), asked_delay(reply)),
                Err(why) => (why, None),
            };
            let since = carried + started.elapsed();
            let failures = self.endpoint.update(|record| {
                record.failures = record.failures.saturating_add(1);
                let first = millis(unix_now()).saturating_sub(millis(since));
                record.failing_since.get_or_insert(first);
                record.failures
            });
            tracing::debug!(%why, failures, "a delivery failed");
            let After::Retry(delay) = self.shared.policy.after(failures, since, asked, fastrand::f64())
            else {
                self.disable(DisabledBecause::Exhausted).await;
                return false;
            };
            *lock(&self.endpoint.next_attempt) = Some(millis(unix_now() + delay));
            self.save().await;
            sleep(delay).await;
            *lock(&self.endpoint.next_attempt) = None;
        }
    }

    async fn attempt(&mut self, parcel: &Parcel) -> Result<Reply, String> {
        // The semaphore is never closed.
        let _slot = self.shared.slots.acquire().await;
        let (headers, body) = self.endpoint.update(|record| parcel.signed(record, unix_now().as_secs()));
        match timeout(self.shared.policy.attempt, self.carrier.carry(headers, body)).await {
            Ok(reply) => reply,
            Err(_) => Err("it did not answer in time".to_owned()),
        }
    }

    async fn disable(&self, because: DisabledBecause) {
        let id = self.endpoint.update(|record| {
            record.state = State::Disabled(because);
            record.id
        });
        tracing::warn!(endpoint = %id, because = because.as_str(), "an endpoint is disabled");
        self.save().await;
    }

    /// A place that is not kept costs repeats after a restart, no event.
    async fn save(&self) {
        if let Err(problem) = self.endpoint.save(&*self.shared.store).await {
            tracing::warn!(%problem, "an endpoint's place is not kept");
        }
    }
}

/// The delay that the statuses which may ask for one do ask for.
fn asked_delay(reply: Reply) -> Option<Duration> {
    let may_ask = matches!(reply.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    reply.retry_after.filter(|_| may_ask)
}
