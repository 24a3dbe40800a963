//! Where connections come in, or are refused.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{
    MAX_CONNECTIONS, Shared,
    faults::{Door, Faults},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// After how long listening, or accepting, is tried again where it failed: no descriptor was free, most likely.
const AGAIN: Duration = Duration::from_millis(10);

/// A port that stays ours while nobody listens on it.
pub(super) struct Port {
    address: SocketAddr,
    /// Bound and never listening: who connects meanwhile is refused, and no other program gets the port.
    _holder: Socket,
}

impl Port {
    /// A free port, and a listener on it.
    pub(super) fn reserve() -> io::Result<(Self, TcpListener)> {
        let holder = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = holder.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let port = Self { address, _holder: holder };
        let tcp = port.listen()?;
        Ok((port, tcp))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = bind(self.address)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // For the holder and the listener to share it.
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts while the door is open.
pub(super) async fn keep(port: Port, tcp: TcpListener, shared: Arc<Shared>) {
    let mut faults = shared.faults.subscribe();
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    let mut listener = Some(tcp);
    loop {
        let is_open = |faults: &Faults| faults.door == Door::Open;
        match &listener {
            Some(tcp) => tokio::select! {
                client = accept(tcp) => welcome(client, &shared, &mut connections),
                // The sender is in `shared`.
                _ = faults.wait_for(|faults| !is_open(faults)) => listener = None,
            },
            None => {
                let _ = faults.wait_for(is_open).await;
                listener = port.listen().ok();
                if listener.is_none() {
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

/// The next client. What cannot be accepted stays in the queue, so it is tried again, but not in a busy loop.
async fn accept(tcp: &TcpListener) -> TcpStream {
    loop {
        match tcp.accept().await {
            Ok((client, _)) => return client,
            Err(_) => sleep(AGAIN).await,
        }
    }
}

fn welcome(client: TcpStream, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    while connections.try_join_next().is_some() {}
    if shared.open.load(Ordering::Acquire) >= MAX_CONNECTIONS {
        return;
    }
    shared.open.fetch_add(1, Ordering::AcqRel);
    shared.accepted.fetch_add(1, Ordering::AcqRel);
    let (generation, cut_at) = (shared.generation.subscribe(), shared.next_cut());
    let shared = shared.clone();
    connections.spawn(async move { shared.connect(client, generation, cut_at).await });
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_cannot_accept_pauses() {
        // Never told to listen, so that every attempt fails at once.
        let deaf = TcpListener::from_std(bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap().into()).unwrap();
        assert!(deaf.accept().await.is_err());
        let begun = Instant::now();
        // Virtual time goes on only while nothing is to be done.
        assert!(timeout(AGAIN * 10, accept(&deaf)).await.is_err());
        assert_eq!(begun.elapsed(), AGAIN * 10);
    }
}
