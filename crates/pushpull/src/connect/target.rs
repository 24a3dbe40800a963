//! What a URL says of the transport.

use pushpull_core::Problem;
use pushpull_http::Transport;

/// What a URL may begin with.
const SCHEMES: &str = "http, ws, sse+http, longpoll+http, poll+http, grpc, and the same with s";

/// What is connected to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The transport that the scheme pins.
    pub(super) pinned: Option<Transport>,
    /// The URL without the pin.
    pub(super) url: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, Problem> {
        let no_url = || Problem::invalid("url", format!("not a URL: {url}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(no_url)?;
        let scheme = &*scheme.to_ascii_lowercase();
        let (pin, base) = scheme.split_once('+').unwrap_or(("", scheme));
        let (pinned, base) = match (pin, base) {
            ("", "http" | "https") => (None, base),
            ("", "ws") => (Some(Transport::Ws), "http"),
            ("", "wss") => (Some(Transport::Ws), "https"),
            ("", "grpc") => (Some(Transport::Grpc), "http"),
            ("", "grpcs") => (Some(Transport::Grpc), "https"),
            ("sse", "http" | "https") => (Some(Transport::Sse), base),
            ("longpoll", "http" | "https") => (Some(Transport::Longpoll), base),
            ("poll", "http" | "https") => (Some(Transport::Poll), base),
            _ => {
                return Err(Problem::invalid("url", format!("the scheme is one of {SCHEMES}, not {scheme}")));
            }
        };
        Ok(Self { pinned, url: format!("{base}://{rest}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_pins_a_transport() {
        let parsed = |url| Target::parse(url).map_err(|problem| problem.to_string());
        let target = |pinned, url: &str| Ok(Target { pinned, url: url.to_owned() });
        assert_eq!(parsed("http://h:1/live"), target(None, "http://h:1/live"));
        assert_eq!(parsed("HTTP://h"), target(None, "http://h"));
        assert_eq!(parsed("wss://h"), target(Some(Transport::Ws), "https://h"));
        assert_eq!(parsed("ws://h:1"), target(Some(Transport::Ws), "http://h:1"));
        assert_eq!(parsed("sse+http://h"), target(Some(Transport::Sse), "http://h"));
        assert_eq!(parsed("longpoll+https://h"), target(Some(Transport::Longpoll), "https://h"));
        assert_eq!(parsed("poll+http://h"), target(Some(Transport::Poll), "http://h"));
        assert_eq!(
            parsed("ftp://h"),
            Err(format!("bad-request: url: the scheme is one of {SCHEMES}, not ftp"))
        );
        assert_eq!(parsed("h:1"), Err("bad-request: url: not a URL: h:1".to_owned()));
    }
}
