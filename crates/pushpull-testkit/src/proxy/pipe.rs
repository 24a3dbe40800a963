//! One connection: two directions.

use std::{collections::VecDeque, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    faults::{Faults, Flow},
    http::{Exchange, Requests, Responses},
};

/// Bytes taken at once.
const CHUNK: usize = 16 * 1024;

/// Bytes of one direction that may be on their way.
const QUEUE: usize = 256 * 1024;

/// Into how many pieces a second a throttled direction is cut.
const PIECES: usize = 20;

/// How long either side may take to see that it was hung up on.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ended {
    /// Either side closed it.
    #[default]
    Closed,
    /// It is to be reset.
    Cut,
    /// It is to be ended in order.
    HungUp,
}

/// What is done to the bytes of one direction, beyond moving them.
pub(super) trait Stage {
    /// Takes what came, and adds to `out` what goes on.
    fn pass(&mut self, came: &[u8], faults: &Faults, out: &mut Vec<u8>);

    /// Adds to `out` what goes on since the faults are others now.
    fn change(&mut self, faults: &Faults, out: &mut Vec<u8>);

    /// Adds to `out` all that is left: no more comes.
    fn end(&mut self, out: &mut Vec<u8>);
}

/// Moves bytes both ways until both sides have closed, or `cut_at` bytes came from the server.
pub(super) async fn run(
    client: &mut TcpStream,
    server: &mut TcpStream,
    faults: &watch::Sender<Faults>,
    cut_at: u64,
) -> Ended {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let exchange = Exchange::default();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = Pipe::new(Requests::new(&exchange), faults, u64::MAX).run(from_client, to_server);
    let down = Pipe::new(Responses::new(&exchange), faults, cut_at).run(from_server, to_client);
    tokio::pin!(up, down);
    // The server's end of a response may come long before the client's end, and the other way round.
    let both = async {
        tokio::select! {
            ended = &mut up => if ended == Ended::Closed { down.await } else { ended },
            ended = &mut down => if ended == Ended::Closed { up.await } else { ended },
        }
    };
    tokio::select! {
        ended = both => ended,
        () = exchange.lose_patience(faults.subscribe()) => Ended::Cut,
    }
}

/// One direction.
struct Pipe<S> {
    stage: S,
    faults: watch::Receiver<Faults>,
    /// What is on its way, and when each piece arrives.
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued: usize,
    /// When the last piece arrives.
    last: Instant,
    /// Bytes after which the connection is cut.
    left: u64,
    /// TCP loses no bytes from its middle: what follows swallowed ones must not come either.
    is_half_open: bool,
}

impl<S: Stage> Pipe<S> {
    fn new(stage: S, faults: &watch::Sender<Faults>, left: u64) -> Self {
        let (queue, last) = (VecDeque::new(), Instant::now());
        Self { stage, faults: faults.subscribe(), queue, queued: 0, last, left, is_half_open: false }
    }

    /// Moves bytes one way until their end, or until no more are left to move.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Ended {
        let mut buffer = vec![0; CHUNK];
        let mut is_open = true;
        while is_open || !self.queue.is_empty() {
            if self.flow() == Flow::Stall {
                self.changed().await;
                continue;
            }
            let arrives = self.queue.front().map(|(at, _)| *at);
            if arrives.is_some_and(|at| at <= Instant::now()) {
                if let Some(ended) = self.deliver(&mut to).await {
                    return ended;
                }
                continue;
            }
            let (bite, has_room) = (self.bite(), is_open && self.queued < QUEUE);
            tokio::select! {
                read = from.read(&mut buffer[..bite]), if has_room => match read {
                    Ok(count @ 1..) => self.take(&buffer[..count]),
                    _ => {
                        is_open = false;
                        self.end();
                    }
                },
                () = sleep_until(arrives.unwrap_or_else(Instant::now)), if arrives.is_some() => {}
                () = self.changed() => {}
            }
        }
        if self.is_half_open {
            // Nobody is told.
            std::future::pending::<()>().await;
        }
        let _ = to.shutdown().await;
        Ended::Closed
    }

    fn flow(&self) -> Flow {
        self.faults.borrow().flow
    }

    /// Waits until the faults are others.
    async fn changed(&mut self) {
        // The sender outlives the connection.
        let _ = self.faults.changed().await;
        let faults = self.faults.borrow_and_update().clone();
        let mut out = Vec::new();
        self.stage.change(&faults, &mut out);
        self.send(out, faults.flow);
        match faults.flow {
            Flow::Swallow => self.lose_all(),
            Flow::Forward => {
                self.last = Instant::now();
                self.queue.iter_mut().for_each(|(at, _)| *at = self.last);
            }
            _ => {}
        }
    }

    /// What was on its way is lost.
    fn lose_all(&mut self) {
        self.is_half_open |= !self.queue.is_empty();
        self.queue.clear();
        self.queued = 0;
    }

    /// How many bytes to take at once.
    fn bite(&self) -> usize {
        match self.flow() {
            Flow::Throttle(rate) => (rate.get() as usize / PIECES).clamp(1, CHUNK),
            _ => CHUNK,
        }
    }

    fn take(&mut self, came: &[u8]) {
        let faults = self.faults.borrow().clone();
        self.is_half_open |= faults.flow == Flow::Swallow;
        let mut out = Vec::new();
        self.stage.pass(came, &faults, &mut out);
        self.send(out, faults.flow);
    }

    fn end(&mut self) {
        let flow = self.flow();
        self.is_half_open |= flow == Flow::Swallow;
        let mut out = Vec::new();
        self.stage.end(&mut out);
        self.send(out, flow);
    }

    fn send(&mut self, bytes: Vec<u8>, flow: Flow) {
        if bytes.is_empty() || self.is_half_open {
            return;
        }
        let now = Instant::now();
        self.last = self.last.max(match flow {
            Flow::Delay(delay) => now + delay,
            Flow::Throttle(rate) => self.last.max(now) + time_of(bytes.len(), rate.get()),
            _ => now,
        });
        self.queued += bytes.len();
        self.queue.push_back((self.last, bytes));
    }

    /// Hands over what is first on its way; says how that ended the direction, if it did.
    async fn deliver(&mut self, to: &mut WriteHalf<'_>) -> Option<Ended> {
        let (_, bytes) = self.queue.pop_front()?;
        self.queued -= bytes.len();
        let passes = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if to.write_all(&bytes[..passes]).await.is_err() {
            return Some(Ended::Closed);
        }
        self.left -= passes as u64;
        (self.left == 0).then_some(Ended::Cut)
    }
}

/// How long so many bytes take at so many a second.
fn time_of(bytes: usize, rate: u32) -> Duration {
    Duration::from_secs_f64(bytes as f64 / f64::from(rate))
}

/// Makes closing `stream` send RST instead of FIN.
pub(super) fn reset(stream: &TcpStream) {
    // Where it cannot be set the connection still ends, though politely.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Ends `stream` by FIN: closing it with bytes unread would reset it, so they are read until the peer ends too, or
/// [`FAREWELL`] is over.
pub(super) async fn hang_up(stream: &mut TcpStream) {
    let leave = async {
        stream.shutdown().await?;
        tokio::io::copy(stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(FAREWELL, leave).await;
}
