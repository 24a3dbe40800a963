//! The pages of examples, embedded: they ask no other host for anything.

use axum::{Router, http::header, response::IntoResponse, routing::get};

/// What a page may load and talk to: its own server alone.
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

/// Serves `files`, each a path and its content: scripts (`.js`), style sheets (`.css`), all else HTML.
pub fn page(files: &[(&'static str, &'static str)]) -> Router {
    files.iter().fold(Router::new(), |router, (path, content)| router.route(path, get(file(path, content))))
}

fn file(path: &'static str, content: &'static str) -> impl IntoResponse + Clone + Send + Sync + 'static {
    let content_type = match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "text/html; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content)
}
