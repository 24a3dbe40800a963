//! What several test binaries share: a hub with every transport on one port, behind a fault proxy.

mod router;
mod transport;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pushpull_broker::{Broker, Retention};
use pushpull_http::{Gate, Listener};
use pushpull_testkit::proxy::Proxy;
use tokio::task::AbortHandle;

use crate::router::Router;
pub use crate::transport::{Transport, TransportHarness};

/// Time between two keep-alives: short, since tests wait for them.
const KEEP_ALIVE: Duration = Duration::from_millis(50);

/// A broker, every server half on one port, and a fault proxy in front of it.
#[derive(Debug)]
pub struct World {
    /// The source.
    pub broker: Broker,
    /// What clients connect through.
    pub proxy: Proxy,
    /// Where the server itself listens.
    address: SocketAddr,
    retains: usize,
    serving: AbortHandle,
}

impl World {
    /// A world whose broker retains what `retention` says.
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn start(retention: Retention, seed: u64) -> Arc<Self> {
        let retains = retention.messages;
        let broker = Broker::memory_with(retention);
        let gate = Gate::builder().with_keep_alive(KEEP_ALIVE).build().expect("an interval above zero");
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (router, drain) = (Router::new(&broker, &gate), gate.drain().clone());
        let serving = tokio::spawn(async move {
            listener.serve(router, drain, std::future::pending(), Duration::ZERO).await
        });
        let proxy = Proxy::start(address, seed).await.expect("a free port");
        Arc::new(Self { broker, proxy, address, retains, serving: serving.abort_handle() })
    }

    /// How many events of a topic are retained.
    pub fn retains(&self) -> usize {
        self.retains
    }

    /// The way to it over `transport`, through the proxy.
    pub fn over(self: &Arc<Self>, transport: Transport) -> TransportHarness {
        TransportHarness::new(self.clone(), transport, &self.proxy.url())
    }

    /// The way to it over `transport`, past the proxy, whose buffers would hide that a reader is stalled.
    pub fn directly_over(self: &Arc<Self>, transport: Transport) -> TransportHarness {
        TransportHarness::new(self.clone(), transport, &format!("http://{}", self.address))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
