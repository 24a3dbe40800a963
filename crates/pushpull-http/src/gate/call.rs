//! gRPC calls, which bear no query: let in by their head alone.

use http::request::Parts;
use pushpull_core::Context;

use super::{ConnectionGuard, Gate, Refusal, RefusalKind};
use crate::Transport;

/// What a gRPC call takes while it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallKind {
    /// Nothing: it is answered as soon as it is read.
    Brief,
    /// A place in the count of connections: it streams, or may wait.
    Lasting,
}

/// A gRPC call that was let in. What it asks for is still to be authorized.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call {
    /// Who asks.
    pub cx: Context,
    /// Holds the call's place in the count until dropped; `None` for [`CallKind::Brief`].
    pub guard: Option<ConnectionGuard>,
}

impl Gate {
    /// Lets a gRPC call in. In this order: draining, the connection limit, the origin, who asks by `authorization`.
    /// The refusal is counted.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn enter_call(&self, request: &Parts, kind: CallKind) -> Result<Call, Refusal> {
        let admitted = self.admit_call(request, kind).await;
        admitted.inspect_err(|refusal| self.count(refusal))
    }

    async fn admit_call(&self, request: &Parts, kind: CallKind) -> Result<Call, Refusal> {
        let mut guard = self.reserve((kind == CallKind::Lasting).then_some(Transport::Grpc))?;
        let origin = self.0.origins.check(request);
        origin.map_err(|problem| Refusal::new(RefusalKind::Origin, problem))?;
        let cx = self.identify(request, None).await?;
        if let Some(guard) = &mut guard {
            guard.count();
        }
        Ok(Call { cx, guard })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use pushpull_core::{ErrorKind, Retry};

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("http://h:1/pushpull.v1.Delivery/Subscribe");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[tokio::test]
    async fn a_lasting_call_takes_a_place_and_a_brief_one_none() {
        let gate = Gate::builder().with_max_connections(1).build().unwrap();
        let lasting = gate.enter_call(&head(&[]), CallKind::Lasting).await.unwrap();
        assert_eq!(gate.metrics().connections(Transport::Grpc), 1);
        assert!(gate.enter_call(&head(&[]), CallKind::Brief).await.unwrap().guard.is_none());
        let full = gate.enter_call(&head(&[]), CallKind::Lasting).await.unwrap_err();
        assert_eq!((full.kind, full.problem.kind()), (RefusalKind::Full, ErrorKind::Busy));
        drop(lasting);
        assert_eq!(gate.metrics().connections(Transport::Grpc), 0);
        assert!(gate.enter_call(&head(&[]), CallKind::Lasting).await.is_ok());
    }

    #[tokio::test]
    async fn a_foreign_origin_and_a_draining_server_are_refused() {
        let gate = Gate::open();
        let foreign = gate.enter_call(&head(&[("origin", "https://evil.example")]), CallKind::Brief).await;
        assert_eq!(foreign.unwrap_err().kind, RefusalKind::Origin);
        gate.drain().begin();
        let refused = gate.enter_call(&head(&[]), CallKind::Brief).await.unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Draining);
        assert!(matches!(refused.problem.retry(), Retry::After(_)));
    }
}
