//! What a browser cannot speak. A Rust client takes the events from this very server over gRPC and hands them on to the
//! page: each of its subscriptions is one of the client's, so that who cuts the one cuts the other.

use std::sync::{Arc, OnceLock};

use pushpull::{
    BoundServer, Context, ErrorKind, Problem, Push, Source, Subscribe, SubscribeError, Subscription,
    async_trait, connect,
};

/// A client over gRPC of a server whose port is not known yet. Cheap to clone (shared).
#[derive(Clone, Debug, Default)]
pub(crate) struct OverGrpc(Arc<OnceLock<Source>>);

impl OverGrpc {
    /// Takes its events from `server`. It is connected to by the first subscription, not here.
    pub(crate) async fn of(&self, server: &BoundServer) -> Result<(), Problem> {
        let source = connect(&format!("grpc://{}", server.local_addr())).await?;
        // Set twice, the first stays: there is one server.
        let _ = self.0.set(source);
        Ok(())
    }
}

#[async_trait]
impl Push for OverGrpc {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        match self.0.get() {
            Some(source) => source.subscribe(cx, request).await,
            None => Err(Problem::new(ErrorKind::Unavailable, "the server has no port yet").into()),
        }
    }
}
