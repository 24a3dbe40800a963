//! What lies between the hub and the receiver: a way on which things go wrong.

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use pushpull::webhook::{ReceiverService, WEBHOOK_ID};

/// The receiver at `/hook`, behind a way that lets the part `drop` of all requests not through.
pub(crate) fn router(receiver: ReceiverService, drop: f64) -> Router {
    let way = from_fn(move |request, next| pass(drop, request, next));
    Router::new().route_service("/hook", receiver).layer(way)
}

async fn pass(drop: f64, request: Request, next: Next) -> Response {
    if fastrand::f64() >= drop {
        return next.run(request).await;
    }
    let id = request.headers().get(WEBHOOK_ID).and_then(|id| id.to_str().ok()).unwrap_or("?");
    let (word, status) = match fastrand::bool() {
        true => ("refused", StatusCode::SERVICE_UNAVAILABLE),
        // The worst that can happen: the hub believes that it arrived.
        false => ("lost", StatusCode::NO_CONTENT),
    };
    eprintln!("{word} the webhook {id}");
    status.into_response()
}
