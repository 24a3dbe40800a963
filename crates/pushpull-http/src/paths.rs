//! The paths of the wire contract, under an optional prefix.

/// Knows the paths of the wire contract, under an optional prefix. Cheap to clone.
///
/// ```
/// use pushpull_http::{Paths, Route};
/// let paths = Paths::under("/live");
/// assert_eq!(paths.route("/live/sse"), Some(Route::Sse));
/// assert_eq!(paths.route("/live/topics/quotes.AAPL"), Some(Route::Topic("quotes.AAPL")));
/// assert_eq!(paths.route("/sse"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    prefix: std::sync::Arc<str>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route<'a> {
    /// `/ws`
    Ws,
    /// `/sse`
    Sse,
    /// `/longpoll`
    Longpoll,
    /// `/poll`
    Poll,
    /// `/topics/{topic}`: what stands behind `/topics/`, still percent-encoded and not checked.
    Topic(&'a str),
    /// `/webhooks`, and what lies below
    Webhooks,
    /// `/metrics`
    Metrics,
    /// `/health`
    Health,
    /// `/health/live`
    HealthLive,
}

impl Paths {
    /// The paths under `prefix`, as in `/live`; a slash is put before it and none behind.
    pub fn under(prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        Self { prefix: if prefix.is_empty() { "".into() } else { format!("/{prefix}").into() } }
    }

    /// The prefix, as in `/live`; empty if there is none.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What `path` leads to, if anything.
    pub fn route<'a>(&self, path: &'a str) -> Option<Route<'a>> {
        match path.strip_prefix(&*self.prefix)? {
            "/ws" => Some(Route::Ws),
            "/sse" => Some(Route::Sse),
            "/longpoll" => Some(Route::Longpoll),
            "/poll" => Some(Route::Poll),
            "/metrics" => Some(Route::Metrics),
            "/health" => Some(Route::Health),
            "/health/live" => Some(Route::HealthLive),
            "/webhooks" => Some(Route::Webhooks),
            rest if rest.starts_with("/webhooks/") => Some(Route::Webhooks),
            rest => rest.strip_prefix("/topics/").map(Route::Topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_somewhere() {
        let plain = Paths::default();
        for (path, route) in [
            ("/ws", Some(Route::Ws)),
            ("/sse", Some(Route::Sse)),
            ("/longpoll", Some(Route::Longpoll)),
            ("/poll", Some(Route::Poll)),
            ("/metrics", Some(Route::Metrics)),
            ("/health", Some(Route::Health)),
            ("/health/live", Some(Route::HealthLive)),
            ("/topics/a%2Fb", Some(Route::Topic("a%2Fb"))),
            ("/topics/a/b", Some(Route::Topic("a/b"))),
            ("/topics/", Some(Route::Topic(""))),
            ("/topics", None),
            ("/ws/", None),
            ("/WS", None),
            ("//ws", None),
            ("/", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(plain.route(path), route, "{path}");
        }
    }

    #[test]
    fn a_prefix_is_matched_whole() {
        for prefix in ["live", "/live", "/live/"] {
            let paths = Paths::under(prefix);
            assert_eq!(paths.prefix(), "/live");
            assert_eq!(paths.route("/live/sse"), Some(Route::Sse));
            assert_eq!(paths.route("/lively/sse"), None);
            assert_eq!(paths.route("/livesse"), None);
            assert_eq!(paths.route("/sse"), None);
        }
        assert_eq!(Paths::under("/"), Paths::default());
        assert_eq!(Paths::under("/a/b").route("/a/b/poll"), Some(Route::Poll));
    }
}
