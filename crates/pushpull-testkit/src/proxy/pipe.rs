//! One connection: two directions.

use std::time::Duration;

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::sleep,
};

use super::Flow;

/// Bytes taken at once.
const CHUNK: usize = 16 * 1024;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Either side closed it.
    Closed,
    /// It is to be cut.
    Cut,
}

/// Moves bytes both ways until both sides have closed, or `cut_at` bytes came from the server.
pub(super) async fn run(
    client: &mut TcpStream,
    server: &mut TcpStream,
    flow: &watch::Sender<Flow>,
    cut_at: u64,
) -> Ended {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = copy(from_client, to_server, flow.subscribe(), u64::MAX);
    let down = copy(from_server, to_client, flow.subscribe(), cut_at);
    tokio::pin!(up, down);
    // The server's end of a response may come long before the client's end, and the other way round.
    tokio::select! {
        ended = &mut up => if ended == Ended::Closed { down.await } else { ended },
        ended = &mut down => if ended == Ended::Closed { up.await } else { ended },
    }
}

/// Moves bytes one way until their end, or until `limit` of them went through.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut flow: watch::Receiver<Flow>,
    limit: u64,
) -> Ended {
    let mut left = limit;
    // TCP loses no bytes from its middle: what follows swallowed ones must not come either.
    let mut is_half_open = false;
    let mut buffer = vec![0; CHUNK];
    loop {
        if flow.wait_for(|flow| *flow != Flow::Stall).await.is_err() {
            return Ended::Cut;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = flow.changed() => continue,
        };
        let Ok(count @ 1..) = read else { break };
        let now = *flow.borrow_and_update();
        if let Flow::Delay(delay) = now {
            sleep(delay).await;
        }
        let passes = usize::try_from(left).map_or(count, |left| left.min(count));
        is_half_open |= now == Flow::Swallow;
        if !is_half_open && to.write_all(&buffer[..passes]).await.is_err() {
            break;
        }
        left -= passes as u64;
        if left == 0 {
            return Ended::Cut;
        }
    }
    is_half_open |= *flow.borrow() == Flow::Swallow;
    if is_half_open {
        // Nobody is told.
        std::future::pending::<()>().await;
    }
    let _ = to.shutdown().await;
    Ended::Closed
}

/// Makes closing `stream` send RST instead of FIN.
pub(super) fn reset(stream: &TcpStream) {
    // Where it cannot be set the connection still ends, though politely.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
