//! The page, embedded: it asks no other host for anything.

use axum::{Router, http::header, response::IntoResponse, routing::get};

/// What the page may load and talk to: this server alone.
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(|| file(HTML, include_str!("page/index.html"))))
        .route("/style.css", get(|| file(CSS, include_str!("page/style.css"))))
        .route("/app.js", get(|| file(JS, include_str!("page/app.js"))))
        .route("/panel.js", get(|| file(JS, include_str!("page/panel.js"))))
        .route("/notes.js", get(|| file(JS, include_str!("page/notes.js"))))
        .route("/proof.js", get(|| file(JS, include_str!("page/proof.js"))))
        .route("/transports.js", get(|| file(JS, include_str!("page/transports.js"))))
        .route("/chart.js", get(|| file(JS, include_str!("page/chart.js"))))
}

async fn file(content_type: &'static str, content: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content)
}
