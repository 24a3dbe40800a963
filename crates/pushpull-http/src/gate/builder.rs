//! Building a gate.

use std::{any::TypeId, net::SocketAddr, sync::Arc, time::Duration};

use super::{Gate, Shared, guard::Slots, unsent::Unsent};
use crate::{AllowAll, Authorizer, Drain, Metrics, Origins, sweep::Sweeps};

/// No interval is longer than a year: what a clock can still add.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The peer's address: who accepts connections puts it into each request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The limits of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most streams and waiting polls at once. Default: 10,000.
    pub connections: usize,
    /// Most bytes of one payload. Default: 1 MiB. A batch may have 16 times as much.
    pub payload: usize,
    /// Longest time for the whole body of a publish to come. Default: 30 s.
    pub body_time: Duration,
    /// Most bytes that WebSockets and event streams hold for peers who do not take them; bytes that they share count for
    /// each. Beyond it those that made no progress for longest are closed, but none that made some within 2 s.
    /// Default: 256 MiB.
    pub unsent: usize,
}

/// Why a gate cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An entry of the list of origins is none.
    #[error("not an origin of the form https://host or https://host:port: {0:?}")]
    Origin(String),
    /// A limit or an interval is zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
}

/// Builds a [`Gate`].
#[derive(Clone)]
pub struct GateBuilder {
    authorizer: Arc<dyn Authorizer>,
    is_open: bool,
    origins: Vec<String>,
    cors_age: Duration,
    limits: Limits,
    keep_alive: Duration,
    ping: Duration,
    spread: Duration,
    metrics: Metrics,
}

impl Limits {
    /// Most bytes of the body of a batch.
    pub fn batch(&self) -> usize {
        self.payload.saturating_mul(16)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            payload: 1024 * 1024,
            body_time: Duration::from_secs(30),
            unsent: 256 << 20,
        }
    }
}

impl Default for GateBuilder {
    fn default() -> Self {
        Self {
            authorizer: Arc::new(AllowAll),
            is_open: true,
            origins: Vec::new(),
            cors_age: crate::origin::DEFAULT_AGE,
            limits: Limits::default(),
            keep_alive: Duration::from_secs(15),
            ping: Duration::from_secs(25),
            spread: Duration::from_secs(5),
            metrics: Metrics::default(),
        }
    }
}

impl GateBuilder {
    /// Who decides who may do what. Default: [`AllowAll`].
    #[must_use]
    pub fn with_authorizer<A: Authorizer>(mut self, authorizer: A) -> Self {
        self.is_open = TypeId::of::<A>() == TypeId::of::<AllowAll>();
        self.authorizer = Arc::new(authorizer);
        self
    }

    /// Lets browsers of one more origin in, as in `https://app.example`: exact scheme, host and port.
    /// Default: only the server's own.
    #[must_use]
    pub fn with_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// How long a browser may keep the answer to a preflight, in whole seconds. Default: 600 s.
    #[must_use]
    pub fn with_cors_age(mut self, age: Duration) -> Self {
        self.cors_age = age;
        self
    }

    /// Most streams and waiting polls at once. Default: 10,000.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// Most bytes of one payload. Default: 1 MiB.
    #[must_use]
    pub fn with_max_payload(mut self, bytes: usize) -> Self {
        self.limits.payload = bytes;
        self
    }

    /// Most bytes that WebSockets and event streams hold for peers who do not take them: see [`Limits::unsent`].
    /// Default: 256 MiB.
    #[must_use]
    pub fn with_max_unsent(mut self, bytes: usize) -> Self {
        self.limits.unsent = bytes;
        self
    }

    /// Longest time for the whole body of a publish to come. Default: 30 s; at most a year.
    #[must_use]
    pub fn with_body_time(mut self, time: Duration) -> Self {
        self.limits.body_time = time.min(LONGEST);
        self
    }

    /// Time between two keep-alives of a stream. Default: 15 s; at most a year.
    #[must_use]
    pub fn with_keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval.min(LONGEST);
        self
    }

    /// Time between two pings of a WebSocket. Default: 25 s; at most a year.
    #[must_use]
    pub fn with_ping(mut self, interval: Duration) -> Self {
        self.ping = interval.min(LONGEST);
        self
    }

    /// The window over which clients are told to come back after a drain or a refusal. Default: 5 s.
    #[must_use]
    pub fn with_retry_spread(mut self, spread: Duration) -> Self {
        self.spread = spread;
        self
    }

    /// Counts into `metrics`. Default: counters of its own.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// The gate.
    ///
    /// # Errors
    /// If an origin is none, or a limit or interval is zero.
    pub fn build(self) -> Result<Gate, ConfigError> {
        let zero = [
            ("the connection limit", self.limits.connections == 0),
            ("the payload limit", self.limits.payload == 0),
            ("the limit of unsent bytes", self.limits.unsent == 0),
            ("the body's time limit", self.limits.body_time.is_zero()),
            ("the keep-alive interval", self.keep_alive.is_zero()),
            ("the ping interval", self.ping.is_zero()),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero(name));
        }
        let origins = Origins::new(&self.origins, self.cors_age).map_err(ConfigError::Origin)?;
        Ok(self.assemble(origins))
    }

    pub(super) fn assemble(self, origins: Origins) -> Gate {
        let drain = Drain::new(self.spread);
        Gate(Arc::new(Shared {
            authorizer: self.authorizer,
            is_open: self.is_open,
            origins,
            slots: Slots::new(self.limits.connections),
            unsent: Unsent::new(self.limits.unsent),
            limits: self.limits,
            keep_alive: self.keep_alive,
            ping: self.ping,
            metrics: self.metrics,
            sweeps: Sweeps::new(drain.clone()),
            drain,
        }))
    }
}

impl std::fmt::Debug for GateBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateBuilder")
            .field("origins", &self.origins)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
