//! A TCP proxy in front of a server that does what networks do: cuts, delays, stalls, goes silent.
//!
//! ```no_run
//! # async fn run(server: std::net::SocketAddr) -> std::io::Result<()> {
//! use pushpull_testkit::proxy::{Cuts, Proxy};
//!
//! let proxy = Proxy::start(server, 42).await?;
//! proxy.cut_after(Cuts::within(1..=64 * 1024)); // each connection dies somewhere in its first 64 KiB
//! // ... connect to proxy.url() ...
//! proxy.cut_after(Cuts::Never);
//! proxy.cut();                                  // and now all of them
//! # Ok(()) }
//! ```

mod pipe;

use std::{
    fmt, io,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// Most connections at once; more are closed as soon as accepted.
const MAX_CONNECTIONS: u64 = 4096;

/// A TCP proxy on a free port of 127.0.0.1. Dropping it closes it and cuts its connections.
///
/// With one seed and one order of connections it cuts at the same bytes again.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// Where connections made from now on are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cuts {
    /// Nowhere.
    #[default]
    Never,
    /// After a random number of bytes from the server.
    Within(RangeInclusive<u64>),
}

/// What happens to bytes on their way, both ways and on every connection, from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// They are forwarded.
    #[default]
    Forward,
    /// They are forwarded this much later.
    Delay(Duration),
    /// They are not read: either side feels it by its full buffers.
    Stall,
    /// They vanish, and no side is told: what a half-open connection is to both. A connection that lost bytes stays
    /// silent for good, whatever flow follows.
    Swallow,
}

/// What steers the connections.
struct Shared {
    upstream: Mutex<SocketAddr>,
    flow: watch::Sender<Flow>,
    /// Raised to cut every connection made before.
    generation: watch::Sender<u64>,
    cuts: Mutex<(Cuts, fastrand::Rng)>,
    open: AtomicU64,
    accepted: AtomicU64,
    cut: AtomicU64,
}

impl Cuts {
    /// After a random number of bytes within `bytes`.
    pub fn within(bytes: RangeInclusive<u64>) -> Self {
        Self::Within(bytes)
    }
}

impl Proxy {
    /// A proxy in front of `upstream`; `seed` determines where it cuts.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = tcp.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            flow: watch::Sender::default(),
            generation: watch::Sender::default(),
            cuts: Mutex::new((Cuts::Never, fastrand::Rng::with_seed(seed))),
            open: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(tcp, shared.clone())).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as in `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection there is, by RST in both directions.
    pub fn cut(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Leads the connections made from now on to `upstream`, as a load balancer does when a node goes.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// Cuts the connections made from now on as `cuts` says.
    pub fn cut_after(&self, cuts: Cuts) {
        self.shared.lock_cuts().0 = cuts;
    }

    /// Lets bytes flow as `flow` says.
    pub fn set_flow(&self, flow: Flow) {
        self.shared.flow.send_replace(flow);
    }

    /// Connections there are.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Connections there ever were.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Connections cut so far.
    pub fn cut_count(&self) -> u64 {
        self.shared.cut.load(Ordering::Acquire)
    }
}

impl Shared {
    fn upstream(&self) -> SocketAddr {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_cuts(&self) -> std::sync::MutexGuard<'_, (Cuts, fastrand::Rng)> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After how many bytes the next connection is cut.
    fn next_cut(&self) -> u64 {
        let (cuts, random) = &mut *self.lock_cuts();
        match cuts {
            Cuts::Never => u64::MAX,
            Cuts::Within(bytes) => random.u64(bytes.clone()),
        }
    }
}

async fn accept(tcp: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = tcp.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if shared.open.load(Ordering::Acquire) >= MAX_CONNECTIONS {
            continue;
        }
        shared.open.fetch_add(1, Ordering::AcqRel);
        shared.accepted.fetch_add(1, Ordering::AcqRel);
        let (generation, cut_at) = (shared.generation.subscribe(), shared.next_cut());
        connections.spawn(connect(client, shared.clone(), generation, cut_at));
    }
}

async fn connect(
    mut client: TcpStream,
    shared: Arc<Shared>,
    mut generation: watch::Receiver<u64>,
    cut_at: u64,
) {
    if let Ok(mut server) = TcpStream::connect(shared.upstream()).await {
        let ended = tokio::select! {
            ended = pipe::run(&mut client, &mut server, &shared.flow, cut_at) => ended,
            _ = generation.changed() => pipe::Ended::Cut,
        };
        if ended == pipe::Ended::Cut {
            pipe::reset(&client);
            pipe::reset(&server);
            shared.cut.fetch_add(1, Ordering::AcqRel);
        }
    }
    drop(client);
    shared.open.fetch_sub(1, Ordering::AcqRel);
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &self.address)
            .field("upstream", &self.shared.upstream())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
