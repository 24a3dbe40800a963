//! Subscribers that lose their connections and come back.

use std::io;

use mio::Token;

use super::{State, Subscribers};

impl Subscribers {
    /// Cuts every connection.
    pub(crate) fn cut_all(&mut self) -> io::Result<()> {
        self.connections.iter_mut().try_for_each(|connection| connection.cut(self.poll.registry()))
    }

    /// Begins a new connection for the subscriber of this number, which goes on from its place.
    pub(crate) fn reopen(&mut self, number: usize) -> io::Result<()> {
        self.connections[number].reopen(&self.target, self.poll.registry(), Token(number))
    }

    /// How far the subscriber of this number has come, and the number of the message it waits for.
    pub(crate) fn progress(&self, number: usize) -> (State, u64) {
        let connection = &self.connections[number];
        (connection.state(), connection.next())
    }
}
