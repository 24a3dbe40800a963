//! pushpull in somebody else's server: mounted into axum, served by hyper, on tokio's scheduler.
//!
//! No peer, but what the standalone server is to be compared with: nothing of its listener is in it.

use axum::Router;
use pushpull::Broker;

pub(crate) fn app() -> Router {
    let (service, _drain) = pushpull::service(Broker::memory());
    Router::new().fallback_service(service)
}
