//! Webhooks as a way to consume: a sender, a receiver of its own for each subscription, and HTTP polling for what
//! gets lost between the two.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pushpull::webhook::{
    Receiver, ReceiverConfig, Registration, RetryPolicy, Secret, Webhooks, WebhooksConfig,
};
use pushpull_broker::Broker;
use pushpull_core::{
    Batch, Context, Fetch, FetchError, Hybrid, Pull, Push, Schedule, Subscribe, SubscribeError, Subscription,
};
use pushpull_http::{Gate, Listener};
use pushpull_http_poll::HttpPollClient;
use pushpull_testkit::proxy::Proxy;
use tokio::task::AbortHandle;

use crate::DRAIN;

/// How long the poll waits where nothing is pushed. Half of what a heartbeat may take.
const INTERVAL: Duration = Duration::from_millis(500);

/// Subscribes by webhooks.
pub(crate) struct Hooks {
    source: Broker,
    poll: HttpPollClient,
    schedule: Schedule,
    proxies: Mutex<Vec<Weak<Proxy>>>,
    polled: Arc<AtomicUsize>,
}

/// The poll of one subscription, which lives as long as that does, and so does what brings it webhooks.
struct Line {
    poll: HttpPollClient,
    polled: Arc<AtomicUsize>,
    serving: AbortHandle,
    _webhooks: Webhooks,
    _proxy: Arc<Proxy>,
}

impl Hooks {
    pub(crate) fn new(source: Broker, poll: HttpPollClient, quick: fn(Schedule) -> Schedule) -> Self {
        let schedule = quick(Schedule::every(INTERVAL));
        Self { source, poll, schedule, proxies: Mutex::default(), polled: Arc::default() }
    }

    /// Cuts what brings webhooks to the receivers.
    pub(crate) fn cut(&self) {
        self.lock().iter().filter_map(Weak::upgrade).for_each(|proxy| proxy.cut());
    }

    /// How many events came by poll.
    pub(crate) fn polled(&self) -> usize {
        self.polled.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Proxy>>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where `receiver` is reached.
    async fn serve(&self, receiver: &Receiver) -> (Arc<Proxy>, AbortHandle) {
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (service, drain) = (receiver.service(), Gate::open().drain().clone());
        let serving = tokio::spawn(listener.serve(service, drain, std::future::pending(), DRAIN));
        let proxy = Arc::new(Proxy::start(address, 1).await.expect("a free port"));
        self.lock().push(Arc::downgrade(&proxy));
        (proxy, serving.abort_handle())
    }
}

fn sender(source: &Broker) -> Webhooks {
    let policy =
        RetryPolicy::default().with_first(Duration::from_millis(2)).with_longest(Duration::from_millis(20));
    let loopback = "127.0.0.1".parse().expect("it is a range");
    let config = WebhooksConfig::default().with_policy(policy).with_allowed(loopback);
    Webhooks::new(Arc::new(source.clone()), config)
}

#[async_trait]
impl Push for Hooks {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let secret = Secret::random()?;
        let receiver = Receiver::new(secret.clone(), ReceiverConfig::default());
        let (proxy, serving) = self.serve(&receiver).await;
        let (url, topics) = (proxy.url(), request.topics.clone());
        let webhooks = sender(&self.source);
        let line = Line {
            poll: self.poll.clone(),
            polled: self.polled.clone(),
            serving,
            _webhooks: webhooks.clone(),
            _proxy: proxy,
        };
        let hybrid = Hybrid::new(Arc::new(receiver), Arc::new(line)).with_schedule(self.schedule.clone());
        // Before it is registered, so that nothing comes that nobody takes.
        let subscription = hybrid.subscribe(cx, request).await?;
        webhooks.register(Registration::new(url, topics).with_secret(secret)).await?;
        Ok(subscription)
    }
}

#[async_trait]
impl Pull for Line {
    async fn fetch(&self, cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let batch = self.poll.fetch(cx, request).await?;
        self.polled.fetch_add(batch.events(), Ordering::Relaxed);
        Ok(batch)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
