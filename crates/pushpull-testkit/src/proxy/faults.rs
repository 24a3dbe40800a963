//! What goes wrong.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

/// Everything that a [`Proxy`](super::Proxy) does to connections. Default: nothing.
///
/// Unless its doc says otherwise a fault is for the connections there are as much as for those to come. What speaks of
/// requests and responses touches HTTP/1.1 alone: anything else (TLS, HTTP/2, what follows an upgrade) goes through as
/// bytes, and feels the other faults only. Without faults too a head of HTTP/1.1 goes on once it is complete.
///
/// ```
/// use std::time::Duration;
/// use pushpull_testkit::proxy::{Buffering, Faults, Upgrade};
///
/// let old_proxy = Faults::none()
///     .with_upgrade(Upgrade::Stripped)
///     .with_buffering(Buffering::Whole)
///     .with_patience(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub(super) flow: Flow,
    pub(super) cuts: Cuts,
    pub(super) door: Door,
    pub(super) upgrade: Upgrade,
    pub(super) buffering: Buffering,
    pub(super) patience: Option<Duration>,
}

/// What happens to bytes on their way, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// They are forwarded.
    #[default]
    Forward,
    /// They are forwarded this much later. At most 256 KiB are on their way at once.
    Delay(Duration),
    /// So many bytes a second are forwarded, each way of each connection.
    Throttle(NonZeroU32),
    /// They are not read: either side feels it by its full buffers.
    Stall,
    /// They vanish, and no side is told: what a half-open connection is to both. A connection that lost bytes stays
    /// silent for good, whatever flow follows.
    Swallow,
}

/// Where connections made from now on are cut, by RST in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cuts {
    /// Nowhere.
    #[default]
    Never,
    /// After a random number of bytes from the server.
    Within(RangeInclusive<u64>),
}

/// What happens to those who connect from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Door {
    /// They are led to the server.
    #[default]
    Open,
    /// Nobody listens: they are refused, as by a server that is down.
    Refused,
}

/// What happens to requests that ask for an upgrade (HTTP/1.1), from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Upgrade {
    /// They are forwarded as they are.
    #[default]
    Passed,
    /// They lose `Upgrade`, `Connection` and what that names, as a proxy does that knows no WebSocket: the server sees a
    /// plain `GET`.
    Stripped,
}

/// What happens to responses (HTTP/1.1), those under way included: what is held goes on when the response ends, when
/// it grew to 1 MiB, or when this is off again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Buffering {
    /// They are forwarded as they come.
    #[default]
    Off,
    /// Their bodies are held.
    Body,
    /// They are held, heads and bodies.
    Whole,
}

impl Cuts {
    /// After a random number of bytes within `bytes`.
    pub fn within(bytes: RangeInclusive<u64>) -> Self {
        Self::Within(bytes)
    }
}

impl Faults {
    /// None: a proxy that nobody notices.
    pub fn none() -> Self {
        Self::default()
    }

    /// Lets bytes flow as `flow` says.
    #[must_use]
    pub fn with_flow(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    /// Cuts the connections made from now on as `cuts` says.
    #[must_use]
    pub fn with_cuts(mut self, cuts: Cuts) -> Self {
        self.cuts = cuts;
        self
    }

    /// Does with those who connect from now on what `door` says.
    #[must_use]
    pub fn with_door(mut self, door: Door) -> Self {
        self.door = door;
        self
    }

    /// Does with upgrades what `upgrade` says.
    #[must_use]
    pub fn with_upgrade(mut self, upgrade: Upgrade) -> Self {
        self.upgrade = upgrade;
        self
    }

    /// Holds responses back as `buffering` says.
    #[must_use]
    pub fn with_buffering(mut self, buffering: Buffering) -> Self {
        self.buffering = buffering;
        self
    }

    /// Cuts, by RST in both directions, a connection with a request (HTTP/1.1) whose response has not begun within
    /// `patience`, as long polls meet it. A stream that began is left alone. Default: waits for ever.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }
}
