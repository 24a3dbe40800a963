//! The transports, as metrics name them.

use std::fmt;

/// A transport, as the label `transport` of the metrics names it (wire contract, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// WebSocket.
    Ws,
    /// Server-Sent Events.
    Sse,
    /// Long polling.
    Longpoll,
    /// HTTP polling.
    Poll,
    /// gRPC streaming.
    Grpc,
}

impl Transport {
    /// Every transport there is.
    pub const ALL: [Self; 5] = [Self::Ws, Self::Sse, Self::Longpoll, Self::Poll, Self::Grpc];

    /// The word in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::Longpoll => "longpoll",
            Self::Poll => "poll",
            Self::Grpc => "grpc",
        }
    }

    /// The Cargo feature of `pushpull` that enables it.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Poll => "http-poll",
            Self::Grpc => "grpc-stream",
            Self::Ws | Self::Sse | Self::Longpoll => self.as_str(),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
