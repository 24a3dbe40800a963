//! Who is at the other end, in little room.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use pushpull_core::Context;
use tokio::time::Instant;

/// A [`Context`] as a connection keeps it: of most callers no more is known than the address.
#[derive(Debug)]
pub(super) enum Caller {
    Unknown,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
    Known(Box<Context>),
}

impl Caller {
    /// What calls are made with.
    pub(super) fn context(&self) -> Context {
        match self {
            Self::Unknown => Context::default(),
            Self::V4(peer) => Context::default().with_peer((*peer).into()),
            Self::V6(peer) => Context::default().with_peer((**peer).into()),
            Self::Known(cx) => Context::clone(cx),
        }
    }

    /// When the identity ceases to hold.
    pub(super) fn expires(&self) -> Option<Instant> {
        match self {
            Self::Known(cx) => cx.identity.as_ref().and_then(|identity| identity.expires),
            _ => None,
        }
    }
}

impl From<Context> for Caller {
    fn from(cx: Context) -> Self {
        match cx.peer {
            _ if !cx.is_anonymous() => Self::Known(Box::new(cx)),
            None => Self::Unknown,
            Some(SocketAddr::V4(peer)) => Self::V4(peer),
            Some(SocketAddr::V6(peer)) => Self::V6(Box::new(peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pushpull_core::Identity;

    use super::*;

    #[test]
    fn whoever_calls_is_told_as_it_was() {
        let until = Instant::now() + Duration::from_secs(7);
        let mut tagged = Context::default();
        tagged.extensions.insert(7u8);
        let identity = Identity::new("ada").until(until);
        let v4 = Context::default().with_peer("192.0.2.1:7".parse().unwrap());
        for cx in [
            Context::default(),
            v4.clone(),
            Context::default().with_peer("[2001:db8::7%3]:7".parse().unwrap()),
            v4.clone().with_identity(identity),
            v4.with_deadline(until),
            tagged,
        ] {
            let told = Caller::from(cx.clone()).context();
            assert_eq!((told.peer, told.deadline), (cx.peer, cx.deadline));
            assert_eq!(told.identity, cx.identity);
            assert_eq!(told.extensions.get::<u8>(), cx.extensions.get::<u8>());
        }
    }

    #[test]
    fn an_identity_ceases_to_hold_when_it_says() {
        let until = Instant::now();
        let known = Context::default().with_identity(Identity::new("ada").until(until));
        assert_eq!(Caller::from(known).expires(), Some(until));
        assert_eq!(Caller::from(Context::default()).expires(), None);
    }
}
