//! Browser origins and CORS (wire contract, section 7; Fetch, 3.2).

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, header,
    request::Parts,
    uri::{Authority, Uri},
};
use pushpull_core::{ErrorKind, Problem};

use crate::Body;

const EXPOSED: &str = "ETag, Retry-After, Preference-Applied, Pushpull-Cursor, Pushpull-Event, Pushpull-Key";
const ALLOWED: &str = "Authorization, Content-Type, If-None-Match, Last-Event-ID, Prefer, \
     Idempotency-Key, Pushpull-Event, Pushpull-Key";

/// How long a preflight's answer holds if nothing else is said.
pub(crate) const DEFAULT_AGE: Duration = Duration::from_secs(600);

/// Which browser origins may come: the server's own, and those on a list. Cheap to clone (shared).
#[derive(Clone, Debug)]
pub struct Origins {
    allowed: Arc<[Origin]>,
    max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    place: Place,
}

/// A host in lower case and a port; `None` is the scheme's default.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: Option<u16>,
}

impl Origins {
    /// The server's own origin alone.
    pub(crate) fn own() -> Self {
        Self { allowed: Arc::new([]), max_age: DEFAULT_AGE }
    }

    /// The server's own origin and those of `allowed`, each as in `https://app.example:8443`.
    ///
    /// # Errors
    /// The first text that is no origin.
    pub fn new<T: AsRef<str>>(
        allowed: impl IntoIterator<Item = T>,
        max_age: Duration,
    ) -> Result<Self, String> {
        let parse = |text: T| Origin::parse(text.as_ref()).ok_or_else(|| text.as_ref().to_owned());
        Ok(Self { allowed: allowed.into_iter().map(parse).collect::<Result<_, _>>()?, max_age })
    }

    /// The origin of the request, if it bears one and that may come.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] if it may not: another host or port than `Host` that is not on the list,
    /// `null`, no origin at all, or several.
    pub fn check(&self, request: &Parts) -> Result<Option<HeaderValue>, Problem> {
        let mut values = request.headers.get_all(header::ORIGIN).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let origin = value.to_str().ok().and_then(Origin::parse).filter(|_| values.next().is_none());
        match origin {
            Some(origin) if self.allowed.contains(&origin) || origin.is_host_of(request) => {
                Ok(Some(value.clone()))
            }
            _ => Err(Problem::new(ErrorKind::Forbidden, "this origin is not allowed")),
        }
    }

    /// The answer to `OPTIONS`, for a path that takes `methods`: a preflight's if it is one.
    pub fn preflight(&self, request: &Parts, methods: &'static str) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        if request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.as_secs().into());
        }
        response
    }
}

/// Puts the CORS headers of an answer to `origin` in.
pub(crate) fn insert_cors(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// Whether this is an `OPTIONS`, which is answered without asking who it is.
pub(crate) fn is_options(request: &Parts) -> bool {
    request.method == Method::OPTIONS
}

impl Origin {
    /// Scheme, host and port, and nothing behind them. Default ports are dropped.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let named = scheme.bytes().next()?.is_ascii_alphabetic()
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        let scheme = named.then(|| scheme.to_ascii_lowercase())?;
        let mut place = Place::parse(authority)?;
        if place.port == default_port(&scheme) {
            place.port = None;
        }
        Some(Self { scheme, place })
    }

    fn is_host_of(&self, request: &Parts) -> bool {
        let Some(mut host) = host_of(request) else { return false };
        if host.port == default_port(&self.scheme) {
            host.port = None;
        }
        default_port(&self.scheme).is_some() && self.place == host
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        if text.contains('@') {
            return None;
        }
        let authority: Authority = text.parse().ok()?;
        let host = authority.host().to_ascii_lowercase();
        let rest = &text[authority.host().len()..];
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()))?),
            None => None,
        };
        let is_host =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
        (is_host && (rest.is_empty() || port.is_some())).then_some(Self { host, port })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// The place the request was sent to: `:authority` or the absolute form, else the one `Host`.
fn host_of(request: &Parts) -> Option<Place> {
    if let Some(authority) = Uri::authority(&request.uri) {
        return Place::parse(authority.as_str());
    }
    let mut values = request.headers.get_all(header::HOST).iter();
    let host = values.next().filter(|_| values.next().is_none())?;
    Place::parse(host.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn request(uri: &str, host: &[&str], origin: &[&str]) -> Parts {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        for host in host {
            request.headers_mut().append(header::HOST, host.parse().unwrap());
        }
        for origin in origin {
            request.headers_mut().append(header::ORIGIN, origin.parse().unwrap());
        }
        request.into_parts().0
    }

    fn listed(allowed: &[&str]) -> Origins {
        Origins::new(allowed, DEFAULT_AGE).unwrap()
    }

    fn may_come(origins: &Origins, request: &Parts) -> bool {
        match origins.check(request) {
            Ok(origin) => {
                assert_eq!(origin.as_ref(), request.headers.get(header::ORIGIN), "it is echoed as it came");
                true
            }
            Err(problem) => {
                assert_eq!(problem.kind(), ErrorKind::Forbidden);
                false
            }
        }
    }

    #[test]
    fn the_servers_own_origin_may_come() {
        for (host, origin, expected) in [
            ("app.example", "https://app.example", true),
            ("app.example", "http://app.example", true),
            ("App.Example", "https://aPP.example", true),
            ("app.example:80", "http://app.example", true),
            ("app.example:443", "https://app.example", true),
            ("app.example", "https://app.example:443", true),
            ("app.example:443", "http://app.example", false),
            ("app.example:80", "https://app.example", false),
            ("app.example", "http://app.example:443", false),
            ("app.example:8080", "http://app.example:8080", true),
            ("app.example:8080", "https://app.example:8080", true),
            ("app.example:8080", "http://app.example", false),
            ("app.example:8080", "http://app.example:8081", false),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("127.0.0.1:8080", "http://localhost:8080", false),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("[::1]", "http://[::1]", true),
            ("[::1]:8080", "http://[::2]:8080", false),
            ("app.example", "http://sub.app.example", false),
            ("sub.app.example", "http://app.example", false),
            ("app.example", "http://app.example.evil.test", false),
            ("app.example", "http://evil.test", false),
            ("app.example", "null", false),
            ("app.example", "", false),
            ("app.example", "app.example", false),
            ("app.example", "http://", false),
            ("app.example", "://app.example", false),
            ("app.example", "http://app.example/", false),
            ("app.example", "http://app.example/x", false),
            ("app.example", "http://app.example?x", false),
            ("app.example", "http://app.example#x", false),
            ("app.example", "http://user@app.example", false),
            ("app.example", "http://app.example:", false),
            ("app.example", "http://app.example:0x50", false),
            ("app.example", "http://app.example:+80", false),
            ("app.example", "http://app.example:65616", false),
            ("app.example", "http://app.example http://app.example", false),
            ("app.example", "http://app.example,http://evil.test", false),
            ("app.example", "file://app.example", false),
            ("app.example", "chrome-extension://app.example", false),
            ("app.example@evil.test", "http://evil.test", false),
            ("", "http://app.example", false),
        ] {
            let request = request("/sse", &[host], &[origin]);
            assert_eq!(may_come(&Origins::own(), &request), expected, "{origin} at {host}");
        }
    }

    #[test]
    fn the_host_is_where_the_request_went() {
        let own = Origins::own();
        assert!(may_come(&own, &request("https://app.example/sse", &[], &["https://app.example"])));
        assert!(!may_come(&own, &request("https://app.example/sse", &["evil.test"], &["https://evil.test"])));
        assert!(!may_come(&own, &request("/sse", &[], &["https://app.example"])));
        assert!(!may_come(&own, &request("/sse", &["a.test", "b.test"], &["http://a.test"])));
        let mut forwarded = request("/sse", &["inner.test"], &["https://app.example"]);
        forwarded.headers.insert("x-forwarded-host", "app.example".parse().unwrap());
        forwarded.headers.insert("forwarded", "host=app.example".parse().unwrap());
        assert!(!may_come(&own, &forwarded), "what anybody may write is no proof");
    }

    #[test]
    fn one_origin_or_none() {
        let own = Origins::own();
        assert!(may_come(&own, &request("/sse", &["a.test"], &[])), "no browser");
        assert!(!may_come(&own, &request("/sse", &["a.test"], &["http://a.test", "http://a.test"])));
        let mut broken = request("/sse", &["a.test"], &[]);
        broken.headers.insert(header::ORIGIN, HeaderValue::from_bytes(b"http://a.test\xff").unwrap());
        assert!(!may_come(&own, &broken));
    }

    #[test]
    fn the_list_is_exact() {
        let origins = listed(&[
            "https://app.example",
            "http://app.example:8080",
            "HTTPS://Other.Example:443",
            "app://x",
        ]);
        for (origin, expected) in [
            ("https://app.example", true),
            ("https://app.example:443", true),
            ("http://app.example", false),
            ("http://app.example:8080", true),
            ("https://app.example:8080", false),
            ("https://other.example", true),
            ("https://www.app.example", false),
            ("app://x", true),
            ("app://y", false),
            ("null", false),
        ] {
            assert_eq!(may_come(&origins, &request("/sse", &["hub.test"], &[origin])), expected, "{origin}");
        }
        for bad in [
            "*",
            "null",
            "https://app.example/",
            "app.example",
            "https://*.example",
            "https://a b",
            "https://",
        ] {
            assert_eq!(Origins::new([bad], DEFAULT_AGE).unwrap_err(), bad);
        }
    }
}
