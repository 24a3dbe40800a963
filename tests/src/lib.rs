//! What several test binaries share: a hub with every transport on one port, behind a fault proxy.

mod harness;
mod hooks;
mod transport;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pushpull::{Paths, Service};
use pushpull_broker::{Broker, Retention};
use pushpull_http::{Gate, Listener};
use pushpull_testkit::proxy::Proxy;
use tokio::{sync::oneshot, task::JoinHandle};

pub use crate::{
    harness::TransportHarness,
    transport::{Mode, Transport},
};

/// Time between two keep-alives: short, since tests wait for them.
const KEEP_ALIVE: Duration = Duration::from_millis(50);

/// How long a node may take to drain.
pub const DRAIN: Duration = Duration::from_secs(5);

/// The window over which a draining node tells its clients to come back: short for the same reason.
const SPREAD: Duration = Duration::from_millis(50);

/// A broker, nodes with every server half on one port, and a fault proxy in front of the newest.
#[derive(Debug)]
pub struct World {
    /// The source.
    pub broker: Broker,
    /// What clients connect through.
    pub proxy: Proxy,
    retains: usize,
    node: Mutex<Node>,
}

/// One server over the broker.
#[derive(Debug)]
struct Node {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<bool>,
}

impl World {
    /// A world whose broker retains what `retention` says.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(retention: Retention, seed: u64) -> Arc<Self> {
        let retains = retention.messages;
        let broker = Broker::memory_with(retention);
        let node = Node::start(&broker).await;
        let proxy = Proxy::start(node.address, seed).await.expect("a free port");
        Arc::new(Self { broker, proxy, retains, node: Mutex::new(node) })
    }

    /// How many events of a topic are retained.
    pub fn retains(&self) -> usize {
        self.retains
    }

    /// The way to it over `transport`, through the proxy.
    pub fn over(self: &Arc<Self>, transport: Transport) -> TransportHarness {
        self.over_through(transport, &self.proxy)
    }

    /// The way to it over `transport`, through another proxy, in front of [`address`](Self::address).
    pub fn over_through(self: &Arc<Self>, transport: Transport, proxy: &Proxy) -> TransportHarness {
        TransportHarness::new(self.clone(), transport, &proxy.url())
    }

    /// Where the newest node listens.
    pub fn address(&self) -> SocketAddr {
        self.lock_node().address
    }

    /// The way to it over `transport`, past the proxy, whose buffers would hide that a reader is stalled.
    pub fn directly_over(self: &Arc<Self>, transport: Transport) -> TransportHarness {
        TransportHarness::new(self.clone(), transport, &format!("http://{}", self.address()))
    }

    /// Starts another node, leads new connections there, and drains the old one. Returns whether all its
    /// connections ended by themselves within [`DRAIN`].
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn roll(&self) -> bool {
        let new = Node::start(&self.broker).await;
        self.proxy.lead_to(new.address);
        let old = std::mem::replace(&mut *self.lock_node(), new);
        // If it ended by itself, that shows below.
        let _ = old.shutdown.send(());
        old.serving.await.expect("no panic")
    }

    fn lock_node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    async fn start(broker: &Broker) -> Self {
        let gate = Gate::builder().with_keep_alive(KEEP_ALIVE).with_retry_spread(SPREAD).build();
        let gate = gate.expect("an interval above zero");
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let drain = gate.drain().clone();
        let service = Service::new(broker.clone(), gate, Paths::default());
        let (shutdown, told) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stop = async {
                let _ = told.await;
            };
            listener.serve(service, drain, stop, DRAIN).await
        });
        Self { address, shutdown, serving }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.lock_node().serving.abort();
    }
}
