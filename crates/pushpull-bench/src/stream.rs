//! Connections to a server: bare, or under TLS.

mod explain;
mod session;

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    net,
    time::Duration,
};

use mio::{Events, Poll};

use crate::{dialect::Address, tls::Protocol};
pub(crate) use explain::explained;
use session::Session;

/// How long a handshake may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of records that are read at once: several of the longest, which have 16 KiB.
const RECORDS: usize = 128 << 10;

thread_local! {
    /// What records are read to and deciphered in, by all sessions of a thread.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORDS]);
}

/// A connection, of whose TLS whoever reads and writes sees nothing. Bare it costs nothing more than its socket.
pub(crate) struct Stream<S = mio::net::TcpStream> {
    socket: S,
    session: Option<Box<Session>>,
    /// Whether the last read of a session took all that the socket had.
    is_drained: bool,
}

/// Connects, shakes hands, and lets no read take longer than [`PATIENCE`].
///
/// # Errors
///
/// They name the server, and what can be done where that is known.
pub(crate) fn connect(server: Address, protocol: Protocol) -> io::Result<Stream<net::TcpStream>> {
    connected(server, protocol).map_err(|error| explained(error, server.socket))
}

fn connected(server: Address, protocol: Protocol) -> io::Result<Stream<net::TcpStream>> {
    let socket = net::TcpStream::connect(server.socket)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = Stream::over(socket, server, protocol)?;
    stream.shake_hands()?;
    Ok(stream)
}

/// Waits for what is watched. Who was stopped and goes on may find that nothing came before its time.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, time: Duration) -> io::Result<()> {
    match poll.poll(events, Some(time)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        waited => waited,
    }
}

/// Reads again if a read was interrupted, as one with a timeout is where the program was stopped and goes on.
fn whole(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

impl Stream {
    /// Begins to connect. Once the socket can be written to what is first written begins the handshake, too.
    pub(crate) fn begin(server: Address, protocol: Protocol) -> io::Result<Self> {
        let socket = mio::net::TcpStream::connect(server.socket);
        Self::over(socket.map_err(|error| explained(error, server.socket))?, server, protocol)
    }
}

impl Stream<net::TcpStream> {
    /// From now on nothing blocks.
    pub(crate) fn into_nonblocking(self) -> io::Result<Stream> {
        let Self { socket, session, is_drained } = self;
        socket.set_nonblocking(true)?;
        Ok(Stream { socket: mio::net::TcpStream::from_std(socket), session, is_drained })
    }

    /// Shows what comes next and leaves it there. Whoever is not content asks again: then more has come, or may have.
    pub(crate) fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &self.session else { return whole(|| self.socket.peek(into)) };
        let known = session.kept();
        // Not every record holds something for us: a ticket does not.
        while self.session.as_ref().is_some_and(|session| session.kept() == known) {
            if self.read_records(&mut [])?.is_none() {
                break;
            }
        }
        Ok(self.session.as_ref().map_or(0, |session| session.show(into)))
    }

    /// Lets reads take as long as they will.
    pub(crate) fn wait_for_ever(&self) -> io::Result<()> {
        self.socket.set_read_timeout(None)
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.send(&[])?;
        self.write_records()?;
        while self.session.as_ref().is_some_and(|session| !session.stands()) {
            self.read_records(&mut [])?.ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        Ok(())
    }
}

impl<S: Read + Write> Stream<S> {
    fn over(socket: S, server: Address, protocol: Protocol) -> io::Result<Self> {
        let session = server.tls.map(|tls| tls.session(server.socket.ip(), protocol)).transpose()?;
        let session = session.map(|session| Box::new(Session::new(session)));
        Ok(Self { socket, session, is_drained: true })
    }

    /// What is waited for.
    pub(crate) fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether more is there than the socket knows of: it was read and not handed out.
    pub(crate) fn keeps_some(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.kept() > 0)
    }

    /// Whether a read of `read` bytes, where there was room for `room`, left nothing in the socket: what comes later
    /// is a new edge (epoll(7)), but for an end that came with it.
    pub(crate) fn is_drained(&self, read: usize, room: usize) -> bool {
        if self.session.is_some() { self.is_drained } else { read < room }
    }

    /// Reads from the socket once, and returns how many bytes of what the records held came `into`; what has no room
    /// is kept. None at the end.
    fn read_records(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(session) = self.session.as_mut().filter(|session| !session.is_over()) else {
            return Ok(None);
        };
        let taken = SCRATCH.with_borrow_mut(|scratch| {
            let free = session.room(scratch);
            let room = free.len();
            let read = whole(|| self.socket.read(free))?;
            if read == 0 {
                return Ok(None);
            }
            let taken = session.take(scratch, read, into)?;
            self.is_drained = read < room && session.kept() == 0 && !session.is_over();
            Ok(Some(taken))
        });
        self.write_records()?;
        taken
    }

    /// Writes what the socket takes: the rest goes with the next.
    fn write_records(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        while !session.out().is_empty() {
            match self.socket.write(session.out()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => session.written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return whole(|| self.socket.read(into)) };
        let kept = session.take_kept(into);
        if kept > 0 {
            self.is_drained = false;
            return Ok(kept);
        }
        loop {
            match self.read_records(into)? {
                // A record without anything for us.
                Some(0) => {}
                read => return Ok(read.unwrap_or(0)),
            }
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.socket.write(bytes) };
        session.send(bytes)?;
        self.write_records()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_records()?;
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests;
