//! `grpc.health.v1`: what the gate says of itself.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pushpull_http::Gate;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

/// Tells whether a gate lets further calls in.
#[derive(Clone, Debug)]
pub(super) struct GateHealth {
    gate: Gate,
    service: &'static str,
}

impl GateHealth {
    /// Speaks for the server as a whole and for `service`.
    pub(super) fn new(gate: Gate, service: &'static str) -> Self {
        Self { gate, service }
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || service == self.service
    }
}

fn status(gate: &Gate) -> ServingStatus {
    match gate.drain().is_draining() || gate.is_full() {
        true => ServingStatus::NotServing,
        false => ServingStatus::Serving,
    }
}

fn says(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for GateHealth {
    type WatchStream = Watch;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.knows(&request.get_ref().service) {
            true => Ok(Response::new(says(status(&self.gate)))),
            false => Err(Status::not_found("there is no such service")),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let is_known = self.knows(&request.get_ref().service);
        Ok(Response::new(Watch::new(self.gate.clone(), is_known)))
    }
}

/// Tells the status, and each change of it: at once that of a drain, else within a keep-alive interval.
pub(super) struct Watch {
    gate: Gate,
    is_known: bool,
    told: Option<ServingStatus>,
    looks: Interval,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_draining: bool,
}

impl Watch {
    fn new(gate: Gate, is_known: bool) -> Self {
        let mut looks = interval(gate.keep_alive());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let told = gate.drain().clone();
        let drain = Box::pin(async move { told.cancelled().await });
        Self { gate, is_known, told: None, looks, drain, is_draining: false }
    }
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let now = if self.is_known { status(&self.gate) } else { ServingStatus::ServiceUnknown };
            if self.told != Some(now) {
                self.told = Some(now);
                return Poll::Ready(Some(Ok(says(now))));
            }
            if !self.is_draining && self.drain.as_mut().poll(cx).is_ready() {
                self.is_draining = true;
                continue;
            }
            std::task::ready!(self.looks.poll_tick(cx));
        }
    }
}
