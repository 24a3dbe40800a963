//! Health and reflection, served beside.

mod ending;
mod health;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use http::{Request, Response};
use pushpull_core::{ErrorKind, Problem};
use pushpull_http::{Body, Gate};
use tokio::sync::Semaphore;
use tonic::{body::Body as TonicBody, server::NamedService};
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service;

use super::{GrpcService, Incoming};
use crate::{DESCRIPTOR, status};
use ending::{Ending, Listening};
use health::GateHealth;

/// Most watchers and reflection streams at once. They are nobody's events, and count as no connections.
const STREAMS: usize = 256;

type Answering = Pin<Box<dyn Future<Output = Response<TonicBody>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// The services beside our own, by what their paths begin with.
#[derive(Clone)]
pub(super) struct Extras {
    handlers: Arc<[(String, Handler)]>,
    permits: Arc<Semaphore>,
    gate: Gate,
}

impl Extras {
    pub(super) fn new(gate: &Gate) -> Self {
        let mut handlers = vec![handler(HealthServer::new(GateHealth::new(gate.clone(), GrpcService::NAME)))];
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTOR)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        match (described().build_v1(), described().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => handlers.extend([handler(v1), handler(v1alpha)]),
            // The committed description is held to be one by a test.
            (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "no reflection"),
        }
        let permits = Arc::new(Semaphore::new(STREAMS));
        Self { handlers: handlers.into(), permits, gate: gate.clone() }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let Some((_, handler)) = self.handlers.iter().find(|(service, _)| path.starts_with(&**service))
        else {
            return refuse(&Problem::new(ErrorKind::Unsupported, "there is no such service"));
        };
        let is_brief = path.ends_with("/Check");
        let permit = (!is_brief).then(|| self.permits.clone().try_acquire_owned()).transpose();
        let Ok(permit) = permit else {
            return refuse(&Problem::new(ErrorKind::Busy, "too many watch health or ask for descriptions"));
        };
        let response =
            handler(request.map(|body| Incoming::new(Listening::new(body, self.gate.drain().clone())))).await;
        response.map(|body| Body::new(Ending::new(body, self.gate.drain().clone(), permit)))
    }
}

fn refuse(problem: &Problem) -> Response<Body> {
    status::status_of(problem, None, None).into_http()
}

fn handler<S>(service: S) -> (String, Handler)
where
    S: Service<Request<Incoming>, Response = Response<TonicBody>>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    S::Error: fmt::Debug,
{
    let handler = move |request| {
        let mut service = service.clone();
        Box::pin(async move {
            let answered = service.call(request).await;
            answered.unwrap_or_else(|error| tonic::Status::internal(format!("{error:?}")).into_http())
        }) as Answering
    };
    (format!("/{}/", S::NAME), Arc::new(handler))
}
