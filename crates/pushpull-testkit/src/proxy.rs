//! A TCP proxy in front of a server that does what networks and other proxies do: cuts, delays, stalls, goes silent,
//! refuses, forgets upgrades, buffers, loses patience.
//!
//! ```no_run
//! # async fn run(server: std::net::SocketAddr) -> std::io::Result<()> {
//! use pushpull_testkit::proxy::{Buffering, Cuts, Faults, Proxy};
//!
//! let proxy = Proxy::start(server, 42).await?;
//! proxy.cut_after(Cuts::within(1..=64 * 1024));                       // each connection dies in its first 64 KiB
//! // ... connect to proxy.url() ...
//! proxy.set(Faults::none().with_buffering(Buffering::Whole));         // now no stream comes through
//! proxy.set(Faults::none());
//! proxy.cut();                                                        // and now all connections are reset
//! # Ok(()) }
//! ```
//!
//! A connection takes at most 3 MiB: of each direction what is read at once (16 KiB), what is on its way (256 KiB, and once
//! more what was held) and a head (80 KiB), and of a response what is held (1 MiB).

mod door;
mod faults;
mod http;
mod pipe;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{net::TcpStream, sync::watch, task::AbortHandle};

use self::{door::Port, pipe::Ended};

pub use faults::{Buffering, Cuts, Door, Faults, Flow, Upgrade};

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

/// What steers the connections.
struct Shared {
    upstream: Mutex<SocketAddr>,
    faults: watch::Sender<Faults>,
    /// Raised to end every connection made before, in this way.
    generation: watch::Sender<(u64, Ended)>,
    random: Mutex<fastrand::Rng>,
    open: AtomicU64,
    accepted: AtomicU64,
    cut: AtomicU64,
}

impl Proxy {
    /// A proxy in front of `upstream`; `seed` determines where it cuts.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let (port, tcp) = Port::reserve()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            faults: watch::Sender::default(),
            generation: watch::Sender::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            open: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        });
        let address = port.address();
        let accepting = tokio::spawn(door::keep(port, tcp, shared.clone())).abort_handle();
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

    /// Does `faults` from now on, and no others.
    pub fn set(&self, faults: Faults) {
        self.shared.faults.send_replace(faults);
    }

    /// What it does.
    pub fn faults(&self) -> Faults {
        self.shared.faults.borrow().clone()
    }

    /// Cuts every connection there is, by RST in both directions.
    pub fn cut(&self) {
        self.end_all(Ended::Cut);
    }

    /// Ends every connection there is, by FIN in both directions.
    pub fn hang_up(&self) {
        self.end_all(Ended::HungUp);
    }

    fn end_all(&self, how: Ended) {
        self.shared.generation.send_modify(|generation| *generation = (generation.0 + 1, how));
    }

    /// Leads the connections made from now on to `upstream`, as a load balancer does when a node goes.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// Cuts the connections made from now on as `cuts` says; the other faults stay.
    pub fn cut_after(&self, cuts: Cuts) {
        self.shared.faults.send_modify(|faults| faults.cuts = cuts);
    }

    /// Lets bytes flow as `flow` says; the other faults stay.
    pub fn set_flow(&self, flow: Flow) {
        self.shared.faults.send_modify(|faults| faults.flow = flow);
    }

    /// Connections there are.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Connections there ever were.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Connections cut and hung up on so far.
    pub fn cut_count(&self) -> u64 {
        self.shared.cut.load(Ordering::Acquire)
    }
}

impl Shared {
    fn upstream(&self) -> SocketAddr {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After how many bytes the next connection is cut.
    fn next_cut(&self) -> u64 {
        match &self.faults.borrow().cuts {
            Cuts::Never => u64::MAX,
            Cuts::Within(bytes) => {
                self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(bytes.clone())
            }
        }
    }

    /// Leads `client` to the server until either ends it or it is ended.
    async fn connect(
        &self,
        mut client: TcpStream,
        mut generation: watch::Receiver<(u64, Ended)>,
        cut_at: u64,
    ) {
        if let Ok(mut server) = TcpStream::connect(self.upstream()).await {
            let ended = tokio::select! {
                ended = pipe::run(&mut client, &mut server, &self.faults, cut_at) => ended,
                _ = generation.changed() => generation.borrow().1,
            };
            if ended != Ended::Closed {
                self.cut.fetch_add(1, Ordering::AcqRel);
            }
            match ended {
                Ended::Closed => {}
                Ended::Cut => {
                    pipe::reset(&client);
                    pipe::reset(&server);
                }
                Ended::HungUp => {
                    tokio::join!(pipe::hang_up(&mut client), pipe::hang_up(&mut server));
                }
            }
        }
        drop(client);
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
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
            .field("faults", &self.faults())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
