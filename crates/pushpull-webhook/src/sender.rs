//! The sender: what a push delivers, to registered endpoints.

mod address;
mod carrier;
mod config;
mod parcel;
mod policy;
mod registration;
mod service;
mod store;
mod target;
#[cfg_attr(not(feature = "tls"), path = "sender/plain.rs")]
mod tls;
mod worker;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use pushpull_core::{Context, Delivery, ErrorKind, Problem, Push, StartAt, Subscribe};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

use crate::Secret;
use carrier::{Carry, HttpCarrier};
use store::lock;
use target::{Guard, Target};
use worker::{Begun, Endpoint, Shared, Worker};

pub use address::{Cidr, CidrError};
pub use config::WebhooksConfig;
pub use policy::RetryPolicy;
pub use registration::{Registered, Registration, Status};
pub use service::WebhookService;
pub use store::{DisabledBecause, EndpointId, EndpointRecord, MemoryStore, State, Store};
pub use target::{Resolve, SystemResolver};

/// How long a registration may take to resolve its host, and to be told where it begins.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most secrets an endpoint's deliveries are signed by at once.
const MAX_SECRETS: usize = 4;

/// Sends what a [`Push`] delivers to registered endpoints (wire contract, section 6). Cheap to clone (shared).
///
/// Each endpoint is a subscription of its own: in order, one request at a time, its place moved by each 2xx. What is
/// not acknowledged is tried again as the [`RetryPolicy`] says, and nothing is skipped: an endpoint whose schedule is
/// exhausted, or that answers 410, is disabled, and keeps its place. One endpoint's trouble delays no other. An
/// endpoint receives a delivery again if its acknowledgement got lost, with the same `webhook-id`.
///
/// Endpoints stop when the last clone is dropped, in the middle of an attempt if need be; the [`Store`] keeps their
/// places.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    running: Mutex<HashMap<EndpointId, Running>>,
    max_endpoints: usize,
    guard: Guard,
    carriers: Carriers,
}

/// Makes what brings requests to a target.
type Carriers = Box<dyn Fn(Guard, Target) -> Box<dyn Carry> + Send + Sync>;

struct Running {
    endpoint: Arc<Endpoint>,
    task: Option<JoinHandle<()>>,
}

impl Webhooks {
    /// Sends what `push` delivers.
    pub fn new(push: Arc<dyn Push>, config: WebhooksConfig) -> Self {
        let tls = config.tls.clone();
        let carriers =
            move |guard, target| -> Box<dyn Carry> { Box::new(HttpCarrier::new(guard, target, tls.clone())) };
        Self::over(push, config, Box::new(carriers))
    }

    fn over(push: Arc<dyn Push>, config: WebhooksConfig, carriers: Carriers) -> Self {
        let guard = Guard::new(config.allowed, config.resolver);
        let slots = Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        let shared = Shared { push, store: config.store, policy: config.policy, slots, tick: config.tick };
        Self(Arc::new(Inner {
            shared: Arc::new(shared),
            running: Mutex::default(),
            max_endpoints: config.max_endpoints,
            guard,
            carriers,
        }))
    }

    /// Takes up the endpoints that the store keeps, each at its place. Those that run already are left alone.
    ///
    /// # Errors
    /// If the store cannot be read, or keeps what cannot be understood; nothing is taken up then.
    ///
    /// # Cancel safety
    /// Dropping the future takes up nothing, or all.
    pub async fn resume(&self) -> Result<usize, Problem> {
        let records = self.0.shared.store.load().await?;
        let kept: Result<Vec<_>, Problem> = records
            .into_iter()
            .map(|record| Ok((Target::parse(&record.url)?, worker::request_of(&record)?, record)))
            .collect();
        let mut running = lock(&self.0.running);
        let mut taken = 0;
        for (target, request, record) in kept? {
            if !running.contains_key(&record.id) {
                let (id, is_active) = (record.id, record.state == State::Active);
                let endpoint = Arc::new(Endpoint::new(record));
                let task = is_active.then(|| self.start(&endpoint, target, request, None));
                running.insert(id, Running { endpoint, task });
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Registers an endpoint and begins to send to it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], naming `url`, if the target is none or may not be reached; [`ErrorKind::Busy`] if there
    /// are too many endpoints; what the source says of the subscription.
    ///
    /// # Cancel safety
    /// Dropping the future registers nothing, unless the store has been asked to keep it.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Problem> {
        let target = Target::parse(&registration.url)?;
        if lock(&self.0.running).len() >= self.0.max_endpoints {
            return Err(full());
        }
        match timeout(PATIENCE, self.0.guard.addresses(&target)).await {
            Ok(reachable) => reachable?,
            Err(_) => return Err(Problem::invalid("url", "its host cannot be resolved in time")),
        };
        let secret = registration.secret.clone().map_or_else(Secret::random, Ok)?;
        let mut record = registration.into_record(EndpointId::random()?, secret.clone());
        let request = worker::request_of(&record)?;
        let begun = match request.start {
            StartAt::After(_) => None,
            StartAt::Start(_) => Some(self.begin(&request, &mut record).await?),
        };
        self.0.shared.store.save(&record).await?;
        let registered = Registered { id: record.id, secret, cursor: record.place };
        if !self.insert(record, target, request, begun) {
            self.0.shared.store.remove(registered.id).await?;
            return Err(full());
        }
        Ok(registered)
    }

    /// Begins to send, if there is room: others may have been registered meanwhile.
    fn insert(
        &self,
        record: EndpointRecord,
        target: Target,
        request: Subscribe,
        begun: Option<Begun>,
    ) -> bool {
        let mut running = lock(&self.0.running);
        if running.len() >= self.0.max_endpoints {
            return false;
        }
        let (id, endpoint) = (record.id, Arc::new(Endpoint::new(record)));
        let task = Some(self.start(&endpoint, target, request, begun));
        running.insert(id, Running { endpoint, task });
        true
    }

    /// Subscribes, and waits for the starting place.
    async fn begin(&self, request: &Subscribe, record: &mut EndpointRecord) -> Result<Begun, Problem> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let cx = Context::default().with_deadline(until);
        let begun = async {
            let mut subscription = self.0.shared.push.subscribe(&cx, request.clone()).await?;
            loop {
                match subscription.next().await {
                    Some(Ok(Delivery::Place(place))) => {
                        record.place = Some(place);
                        return Ok(Begun { subscription, first: None });
                    }
                    Some(Ok(Delivery::Link(_))) => {}
                    Some(Ok(first)) => return Ok(Begun { subscription, first: Some(first) }),
                    Some(Err(error)) => return Err(error.into()),
                    None => {
                        return Err(Problem::new(
                            ErrorKind::Unavailable,
                            "the source ended the subscription",
                        ));
                    }
                }
            }
        };
        let late = |_| Problem::new(ErrorKind::Timeout, "the source told no place in time");
        tokio::time::timeout_at(until, begun).await.map_err(late)?
    }

    fn start(
        &self,
        endpoint: &Arc<Endpoint>,
        target: Target,
        request: Subscribe,
        begun: Option<Begun>,
    ) -> JoinHandle<()> {
        let carrier = (self.0.carriers)(self.0.guard.clone(), target);
        tokio::spawn(Worker::new(self.0.shared.clone(), endpoint.clone(), carrier, request).run(begun))
    }

    /// What there is to know of an endpoint; `None` if there is none.
    pub fn status(&self, id: EndpointId) -> Option<Status> {
        let running = lock(&self.0.running);
        running.get(&id).map(|running| running.endpoint.status())
    }

    /// Every endpoint there is.
    pub fn endpoints(&self) -> Vec<EndpointId> {
        lock(&self.0.running).keys().copied().collect()
    }

    /// Ends an endpoint for good; whether there was one. An attempt under way is given up.
    ///
    /// # Errors
    /// If the store may still keep it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it stopped, and perhaps still kept.
    pub async fn remove(&self, id: EndpointId) -> Result<bool, Problem> {
        let Some(running) = lock(&self.0.running).remove(&id) else { return Ok(false) };
        stop(running.task).await;
        self.0.shared.store.remove(id).await?;
        Ok(true)
    }

    /// Sends to a disabled endpoint again, from its place, with a new schedule; whether there is such an endpoint.
    ///
    /// # Errors
    /// If the store does not keep it so.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it disabled.
    pub async fn enable(&self, id: EndpointId) -> Result<bool, Problem> {
        let (endpoint, task) = match lock(&self.0.running).get_mut(&id) {
            Some(running) if running.endpoint.status().state != State::Active => {
                (running.endpoint.clone(), running.task.take())
            }
            found => return Ok(found.is_some()),
        };
        stop(task).await;
        let record = endpoint.revive();
        self.0.shared.store.save(&record).await?;
        let (target, request) = (Target::parse(&record.url)?, worker::request_of(&record)?);
        let mut running = lock(&self.0.running);
        if let Some(running) = running.get_mut(&id).filter(|running| running.task.is_none()) {
            running.task = Some(self.start(&endpoint, target, request, None));
        }
        Ok(true)
    }

    /// Stops to send to every endpoint, in the middle of an attempt if need be. They stay in the store:
    /// [`Webhooks::resume`] takes them up again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves them stopping.
    pub async fn stop(&self) {
        let stopped = std::mem::take(&mut *lock(&self.0.running));
        let tasks: Vec<_> = stopped.into_values().filter_map(|running| running.task).collect();
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            stop(Some(task)).await;
        }
    }

    /// Signs by `secret` too, from the next attempt on, beside the three newest there were: an endpoint that knows any
    /// of them goes on. Whether there is such an endpoint.
    ///
    /// # Errors
    /// If the store does not keep it; it holds until the end of the process all the same.
    ///
    /// # Cancel safety
    /// As with the error.
    pub async fn rotate(&self, id: EndpointId, secret: Secret) -> Result<bool, Problem> {
        self.change_secrets(id, |secrets| {
            secrets.insert(0, secret);
            secrets.truncate(MAX_SECRETS);
        })
        .await
    }

    /// Signs by the newest secret alone from the next attempt on; whether there is such an endpoint.
    ///
    /// # Errors
    /// As [`Webhooks::rotate`].
    ///
    /// # Cancel safety
    /// As [`Webhooks::rotate`].
    pub async fn retire_old_secrets(&self, id: EndpointId) -> Result<bool, Problem> {
        self.change_secrets(id, |secrets| secrets.truncate(1)).await
    }

    async fn change_secrets(
        &self,
        id: EndpointId,
        change: impl FnOnce(&mut Vec<Secret>),
    ) -> Result<bool, Problem> {
        let endpoint = lock(&self.0.running).get(&id).map(|running| running.endpoint.clone());
        let Some(endpoint) = endpoint else { return Ok(false) };
        endpoint.update(|record| change(&mut record.secrets));
        endpoint.save(&*self.0.shared.store).await?;
        Ok(true)
    }
}

async fn stop(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        task.abort();
        // Its end is what is waited for, not its result.
        let _ = task.await;
    }
}

fn full() -> Problem {
    Problem::new(ErrorKind::Busy, "there are as many endpoints as may be")
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in lock(&self.running).values().filter_map(|running| running.task.as_ref()) {
            task.abort();
        }
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("endpoints", &lock(&self.0.running).len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
