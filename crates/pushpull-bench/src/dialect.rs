//! What servers say differently: the hub, a server written by hand, and Nchan.
//!
//! All answer on the same paths (Nchan by its configuration), so that only the forms of
//! answers are told apart here.

pub(crate) mod nchan;

use std::{fmt, io, net::SocketAddr};

use crate::{tls::Identity, wire::http::refused};

/// Where a server listens, and how it speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    pub(crate) dialect: Dialect,
    /// What it shows, where it is reached over TLS. There is one for as long as the program runs.
    pub(crate) tls: Option<&'static Identity>,
}

/// How a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The wire contract.
    Pushpull,
    /// The same paths and frames, but no history and no cursors: a POST is answered with 201 and no body.
    Plain,
    /// Raw payloads; a message's place is its `Last-Modified` and `ETag`; a POST that nobody listens to is
    /// answered with 202.
    Nchan,
}

impl<T: Into<SocketAddr>> From<T> for Address {
    fn from(socket: T) -> Self {
        Self { socket: socket.into(), dialect: Dialect::Pushpull, tls: None }
    }
}

/// As a `Host`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl Dialect {
    /// Judges the status of the answer to a POST.
    ///
    /// # Errors
    ///
    /// It was not published; the error shows the answer's `bytes`.
    pub(crate) fn published(self, status: u16, bytes: &[u8]) -> io::Result<()> {
        let is_published = match self {
            Self::Pushpull | Self::Plain => status == 201,
            Self::Nchan => matches!(status, 201 | 202),
        };
        is_published.then_some(()).ok_or_else(|| refused(bytes))
    }
}
