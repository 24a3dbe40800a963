//! What a sender goes by.

use std::{fmt, sync::Arc, time::Duration};

use super::{Cidr, MemoryStore, Resolve, RetryPolicy, Store, SystemResolver, tls::Tls};

/// What [`Webhooks`](crate::Webhooks) goes by.
#[derive(Clone)]
pub struct WebhooksConfig {
    pub(super) policy: RetryPolicy,
    pub(super) concurrency: usize,
    pub(super) max_endpoints: usize,
    pub(super) allowed: Vec<Cidr>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) store: Arc<dyn Store>,
    pub(super) tick: Duration,
    pub(super) tls: Tls,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            policy: RetryPolicy::default(),
            concurrency: 64,
            max_endpoints: 10_000,
            allowed: Vec::new(),
            resolver: Arc::new(SystemResolver),
            store: Arc::new(MemoryStore::default()),
            tick: Duration::from_secs(15),
            tls: Tls::default(),
        }
    }
}

impl WebhooksConfig {
    /// When a delivery is tried again.
    #[must_use]
    pub fn with_policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Most attempts under way at once, over all endpoints (at least 1). Default: 64.
    #[must_use]
    pub fn with_concurrency(mut self, attempts: usize) -> Self {
        self.concurrency = attempts;
        self
    }

    /// Most endpoints. Default: 10,000.
    #[must_use]
    pub fn with_max_endpoints(mut self, endpoints: usize) -> Self {
        self.max_endpoints = endpoints;
        self
    }

    /// Lets targets in one more range of private or otherwise special addresses be reached. Default: none.
    #[must_use]
    pub fn with_allowed(mut self, range: Cidr) -> Self {
        self.allowed.push(range);
        self
    }

    /// Resolves hosts by `resolver`. Default: the system's.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Keeps endpoints in `store`. Default: a [`MemoryStore`].
    #[must_use]
    pub fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = store;
        self
    }

    /// Trusts what `tls` trusts. Default: the roots that browsers trust.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: tokio_rustls::rustls::ClientConfig) -> Self {
        self.tls = Tls::new(tls);
        self
    }

    /// How often an endpoint with nothing to send notes how far the sequence has come. Default: 15 s.
    #[must_use]
    pub fn with_tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }
}

impl fmt::Debug for WebhooksConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhooksConfig")
            .field("policy", &self.policy)
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}
