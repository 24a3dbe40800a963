//! What a URL says of the transport.

use pushpull_core::{ErrorKind, Problem};
use pushpull_http::Transport;

/// What a URL may begin with.
const SCHEMES: &str = "http, ws, sse, longpoll, poll, grpc, and the same with s";

/// Whether there is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "a build has one of them")]
pub(crate) enum Tls {
    On,
    Off,
}

/// What is connected to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The transport that the scheme pins.
    pub(super) pinned: Option<Transport>,
    /// The URL without the pin.
    pub(super) url: String,
    /// As it was given, in lower case.
    scheme: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, Problem> {
        let no_url = || Problem::invalid("url", format!("not a URL: {url}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(no_url)?;
        let scheme = scheme.to_ascii_lowercase();
        let (pinned, base) = read(&scheme).ok_or_else(|| {
            Problem::invalid("url", format!("the scheme is one of {SCHEMES}, not {scheme}"))
        })?;
        Ok(Self { pinned, url: format!("{base}://{rest}"), scheme })
    }

    /// # Errors
    /// If it is to be reached over TLS, and there is none.
    pub(super) fn check_tls(&self, tls: Tls) -> Result<(), Problem> {
        if tls == Tls::Off && self.url.starts_with("https://") {
            let detail = format!("{} needs the feature `tls`", self.scheme);
            return Err(Problem::new(ErrorKind::Unsupported, detail));
        }
        Ok(())
    }
}

/// What `scheme` pins, and the scheme of the requests.
fn read(scheme: &str) -> Option<(Option<Transport>, &'static str)> {
    let pinned = match scheme {
        "http" => return Some((None, "http")),
        "https" => return Some((None, "https")),
        "ws" | "wss" => Transport::Ws,
        "sse" | "sses" | "sse+http" | "sse+https" => Transport::Sse,
        "longpoll" | "longpolls" | "longpoll+http" | "longpoll+https" => Transport::Longpoll,
        "poll" | "polls" | "poll+http" | "poll+https" => Transport::Poll,
        "grpc" | "grpcs" => Transport::Grpc,
        _ => return None,
    };
    let is_plain = scheme.ends_with("+http") || scheme == pinned.as_str();
    Some((Some(pinned), if is_plain { "http" } else { "https" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_pins_a_transport() {
        let parsed = |url: &str| {
            let parsed = Target::parse(url).map_err(|problem| problem.to_string())?;
            Ok((parsed.pinned, parsed.url))
        };
        let target = |pinned, url: &str| Ok::<_, String>((pinned, url.to_owned()));
        assert_eq!(parsed("http://h:1/live"), target(None, "http://h:1/live"));
        assert_eq!(parsed("HTTP://h"), target(None, "http://h"));
        for (pinned, plain, secure) in [
            (Transport::Ws, &["ws"][..], &["wss"][..]),
            (Transport::Sse, &["sse", "sse+http"], &["sses", "sse+https"]),
            (Transport::Longpoll, &["longpoll", "longpoll+http"], &["longpolls", "longpoll+https"]),
            (Transport::Poll, &["poll", "POLL+http"], &["polls", "poll+https"]),
            (Transport::Grpc, &["grpc"], &["grpcs"]),
        ] {
            for scheme in plain {
                assert_eq!(
                    parsed(&format!("{scheme}://h:1")),
                    target(Some(pinned), "http://h:1"),
                    "{scheme}"
                );
            }
            for scheme in secure {
                assert_eq!(parsed(&format!("{scheme}://h")), target(Some(pinned), "https://h"), "{scheme}");
            }
        }
        for scheme in ["ftp", "ws+http", "+http", "grpc+https", "ssesss"] {
            assert_eq!(
                parsed(&format!("{scheme}://h")),
                Err(format!("bad-request: url: the scheme is one of {SCHEMES}, not {scheme}"))
            );
        }
        assert_eq!(parsed("h:1"), Err("bad-request: url: not a URL: h:1".to_owned()));
    }

    #[test]
    fn what_needs_tls_is_named_as_it_was_asked_for() {
        let refused = |url: &str, tls| {
            Target::parse(url).unwrap().check_tls(tls).map_err(|problem| problem.to_string())
        };
        for scheme in ["https", "wss", "polls", "sse+https", "grpcs"] {
            let needs = format!("unsupported: {scheme} needs the feature `tls`");
            assert_eq!(refused(&format!("{scheme}://h"), Tls::Off), Err(needs));
            assert_eq!(refused(&format!("{scheme}://h"), Tls::On), Ok(()));
        }
        assert_eq!(refused("ws://https", Tls::Off), Ok(()));
    }
}
