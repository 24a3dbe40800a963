//! Where a server is.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};
use pushpull_core::{ErrorKind, Problem};

/// Where a server is: `http://host:port/prefix`, or `https`. No query, no fragment, no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    is_https: bool,
    authority: String,
    host: String,
    port: u16,
    prefix: String,
}

impl BaseUrl {
    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: the one given, or the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as given: what stands in the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path under which the server's paths lie; empty for none.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The URL of `path` (with its query), which begins with a slash.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self)
    }

    pub(super) fn check_supported(&self) -> Result<(), Problem> {
        if self.is_https && cfg!(not(feature = "tls")) {
            return Err(Problem::new(ErrorKind::Unsupported, "https needs the feature `tls`"));
        }
        Ok(())
    }
}

impl FromStr for BaseUrl {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Problem::invalid("url", format!("{text:?} {why}"));
        if text.contains('#') {
            return Err(wrong("has a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong("is not http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("names a user: a token is given apart"));
        }
        let port = match authority.port_u16() {
            Some(0) => None,
            Some(port) => Some(port),
            // What stands behind the host is then no port, and must not be taken for the usual one.
            None => (authority.as_str() == authority.host()).then_some(if is_https { 443 } else { 80 }),
        };
        let port = port.ok_or_else(|| wrong("has no port from 1 to 65535"))?;
        if uri.query().is_some() {
            return Err(wrong("has a query"));
        }
        Ok(Self {
            is_https,
            authority: authority.as_str().to_owned(),
            host: host.to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url: BaseUrl = "http://127.0.0.1:8080/live/".parse().unwrap();
        assert_eq!(
            (url.host(), url.port(), url.prefix(), url.is_https()),
            ("127.0.0.1", 8080, "/live", false)
        );
        assert_eq!(url.at("/poll?topic=a"), "http://127.0.0.1:8080/live/poll?topic=a");
        let url: BaseUrl = "https://[::1]".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.authority()), ("::1", 443, "[::1]"));
        for bad in [
            "",
            "host:80",
            "ftp://h",
            "http://",
            "http://h/?q=1",
            "http://h/#f",
            "http://u@h/",
            "http://h:99999",
            "http://h:0",
            "http://h:",
            "https://[::1]:70000",
            "/x",
            "ws://h",
        ] {
            assert_eq!(bad.parse::<BaseUrl>().unwrap_err().parameter(), Some("url"), "{bad:?}");
        }
    }
}
