//! The context of a call: who asks, from where, until when.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use tokio::time::Instant;

/// Who asks, from where, until when. Cheap to clone.
///
/// Authorization, limits, presence and relays go by it. [`Context::default`] is an anonymous call from
/// within the process, without a deadline.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Context {
    /// Who asks, once somebody has established it.
    pub identity: Option<Identity>,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The caller's address.
    pub peer: Option<SocketAddr>,
    /// What else an application wants to hand down.
    pub extensions: Extensions,
}

/// An established identity. Cheap to clone (shared).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The name by which the application knows the caller.
    pub subject: Arc<str>,
    /// When it ceases to hold.
    pub expires: Option<Instant>,
}

/// In a [`Context`]'s extensions: who publishes wants to hear at once that nothing was published, and tries again by
/// himself. A client half then tries again only what may have been published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailFast;

/// Values by type. Cheap to clone (shared); inserting copies the map.
#[derive(Clone, Default)]
pub struct Extensions(Option<Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Context {
    /// The same, until `deadline`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The same, from `peer`.
    #[must_use]
    pub fn with_peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// The same, by `identity`.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Whether nothing is known of the call but, perhaps, the caller's address.
    pub fn is_anonymous(&self) -> bool {
        let Self { identity, deadline, peer: _, extensions } = self;
        identity.is_none() && deadline.is_none() && extensions.0.is_none()
    }
}

impl Identity {
    /// An identity of that name that does not expire.
    pub fn new(subject: impl Into<Arc<str>>) -> Self {
        Self { subject: subject.into(), expires: None }
    }

    /// The same, until `expires`.
    #[must_use]
    pub fn until(mut self, expires: Instant) -> Self {
        self.expires = Some(expires);
        self
    }
}

impl Extensions {
    /// Puts `value` in, in place of another of its type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        let map = self.0.get_or_insert_default();
        Arc::make_mut(map).insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of that type, if there is one.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.as_ref()?.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.as_ref().map_or(0, |map| map.len()))
    }
}
