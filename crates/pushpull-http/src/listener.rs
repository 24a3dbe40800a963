//! One port for everything: HTTP/1.1 with upgrades, HTTP/2, and TLS.

mod checked;
mod connection;
mod host;
mod rewound;
mod socket;
mod target;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

#[cfg(feature = "tls")]
use crate::TlsConfig;
use crate::{Body, Drain, sweep::Sweeps};

/// Connections that wait to be accepted, as far as the system allows.
const BACKLOG: i32 = 4096;

/// How long `accept` rests after a failure such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

pub(crate) use checked::{Answering, Checked};
pub(crate) use connection::Connection;
pub use rewound::Rewound;

/// A request as a [`Listener`] hands it to its service. Its extensions bear the [`Peer`](crate::Peer).
pub type Incomings = Request<Body>;

/// Limits of a [`Listener`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// Most sockets at once, those of streams included; more are closed as soon as accepted. A WebSocket is no longer
    /// among them once it is upgraded: the limit of its [`Gate`](crate::Gate) holds. Default: 16,384.
    pub sockets: usize,
    /// How long a new connection may take for its first byte, and for its TLS handshake. Default: 10 s.
    pub first_byte: Duration,
    /// How long a request's head may take, and an HTTP/1.1 connection may rest between two requests.
    /// Default: 30 s.
    pub head: Duration,
    /// Most bytes of a request's head, at least 8 KiB; a larger one is answered with 431. Default: 16 KiB.
    pub head_bytes: usize,
    /// Most requests at once on an HTTP/2 connection. Default: 200.
    pub streams: u32,
    /// How long written bytes may stay unacknowledged before the peer counts as dead. Default: 30 s.
    pub user_timeout: Duration,
    /// Whether plain HTTP/1.1 requests are taken and answered without hyper, for less memory a connection and less time a
    /// request. The answers are the same. Default: `true`; never under TLS, nor where the system is no Unix.
    pub lane: bool,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            sockets: 16_384,
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(30),
            head_bytes: 16 * 1024,
            streams: 200,
            user_timeout: Duration::from_secs(30),
            lane: true,
        }
    }
}

impl ListenerConfig {
    /// Sets the most sockets at once.
    #[must_use]
    pub fn with_sockets(mut self, sockets: usize) -> Self {
        self.sockets = sockets;
        self
    }

    /// Sets how long a first byte, and a head, may take.
    #[must_use]
    pub fn with_times(mut self, first_byte: Duration, head: Duration) -> Self {
        (self.first_byte, self.head) = (first_byte, head);
        self
    }

    /// Sets whether plain requests are answered without hyper.
    #[must_use]
    pub fn with_lane(mut self, lane: bool) -> Self {
        self.lane = lane;
        self
    }
}

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    config: ListenerConfig,
    #[cfg(feature = "tls")]
    tls: Option<TlsConfig>,
}

/// What a listener's connections share.
pub(crate) struct Shared<S> {
    pub(crate) service: S,
    pub(crate) config: ListenerConfig,
    pub(crate) drain: Drain,
    /// Of connections at rest.
    pub(crate) alarms: Sweeps,
    kill: CancellationToken,
    open: AtomicUsize,
    #[cfg(feature = "tls")]
    tls: Option<TlsConfig>,
}

impl Listener {
    /// Binds `address`; port 0 picks a free one.
    ///
    /// # Errors
    /// As binding does.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        // Once more, with a longer queue: when a fleet comes back at once, those who find no place in it wait a second.
        socket2::SockRef::from(&tcp).listen(BACKLOG)?;
        Ok(Self::from_tcp(tcp))
    }

    /// Takes a bound socket over.
    pub fn from_tcp(tcp: TcpListener) -> Self {
        Self {
            tcp,
            config: ListenerConfig::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_config(mut self, config: ListenerConfig) -> Self {
        self.config = config;
        self
    }

    /// Takes TLS alone, HTTP/2 or HTTP/1.1 by ALPN.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The bound address.
    ///
    /// # Errors
    /// As the socket does.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `shutdown` is done; then stops accepting, begins `drain`, and returns when every connection
    /// has ended, or been cut off after `limit`. `true` if all ended by themselves.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections go on until they end.
    pub async fn serve<S>(
        self,
        service: S,
        drain: Drain,
        shutdown: impl Future<Output = ()>,
        limit: Duration,
    ) -> bool
    where
        S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let shared = Shared::new(service, self.config, drain.clone());
        #[cfg(feature = "tls")]
        let shared = Shared { tls: self.tls, ..shared };
        let shared = Arc::new(shared);
        let tracker = TaskTracker::new();
        tokio::select! {
            () = accept(&self.tcp, &shared, &tracker) => {}
            () = shutdown => {}
        }
        drop(self.tcp);
        drain.begin();
        tracker.close();
        let ended = async {
            drain.idle().await;
            tracker.wait().await;
        };
        let clean = tokio::time::timeout(limit, ended).await.is_ok();
        if !clean {
            drain.abort();
            shared.kill.cancel();
            tracker.wait().await;
        }
        clean
    }
}

impl<S> Shared<S> {
    pub(crate) fn new(service: S, config: ListenerConfig, drain: Drain) -> Self {
        Self {
            service,
            config,
            alarms: Sweeps::new(drain.clone()),
            drain,
            kill: CancellationToken::new(),
            open: AtomicUsize::new(0),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

async fn accept<S>(tcp: &TcpListener, shared: &Arc<Shared<S>>, tracker: &TaskTracker)
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    loop {
        match tcp.accept().await {
            Ok((stream, peer)) => take(stream, peer, shared, tracker),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn take<S>(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared<S>>, tracker: &TaskTracker)
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let Some(place) = Place::take(shared) else { return };
    socket::tune(&stream, &shared.config);
    match cfg!(unix) && shared.config.lane && !shared.is_tls() {
        true => tracker.spawn(Connection::new(stream, peer, place)),
        false => tracker.spawn(connection::serve(stream, peer, place)),
    };
}

/// A connection's place among the sockets of a listener, until it is dropped.
pub(crate) struct Place<S>(Arc<Shared<S>>);

impl<S> Place<S> {
    /// `None` if there are as many sockets as may be.
    pub(crate) fn take(shared: &Arc<Shared<S>>) -> Option<Self> {
        let open = shared.open.fetch_add(1, Ordering::Relaxed);
        let place = Self(shared.clone());
        (open < shared.config.sockets).then_some(place)
    }
}

impl<S> Deref for Place<S> {
    type Target = Arc<Shared<S>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an error of `accept` is that connection's alone, and the next may be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
