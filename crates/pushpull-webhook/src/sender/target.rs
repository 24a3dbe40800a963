//! Where an endpoint is, and whether it may be reached.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use http::{Uri, uri::Scheme};
use pushpull_core::{ErrorKind, Problem};

use super::address::{Cidr, is_public};

const MAX_URL: usize = 2048;

/// A checked URL: http or https, a host, no user, no fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_https: bool,
    /// An IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: String,
    pub(super) path: String,
}

/// Finds a host's addresses.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, which is no address itself.
    ///
    /// # Errors
    /// If it has none or cannot be found.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

/// Says which addresses may be reached.
#[derive(Clone)]
pub(super) struct Guard {
    allowed: Arc<[Cidr]>,
    resolver: Arc<dyn Resolve>,
}

/// Why a target cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("its host cannot be resolved: {0}")]
    Resolve(#[from] io::Error),
    #[error("its host has no address")]
    Nowhere,
    #[error("{0} lies in a private or special range")]
    Refused(IpAddr),
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &'static str| Problem::invalid("url", why);
        if text.len() > MAX_URL || text.contains('#') {
            return Err(wrong("it has more than 2048 bytes, or a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong("it is not http:// or https://")),
        };
        if is_https && cfg!(not(feature = "tls")) {
            return Err(wrong("https needs the feature `tls`"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(wrong("it names no host, or a user"));
        }
        // What `Authority::port` cannot read it takes for none.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            rest => match rest.and_then(|rest| rest.strip_prefix(':')?.parse().ok()) {
                Some(port @ 1..) => port,
                _ => return Err(wrong("its port is none")),
            },
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            is_https,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        })
    }
}

impl Guard {
    pub(super) fn new(allowed: Vec<Cidr>, resolver: Arc<dyn Resolve>) -> Self {
        Self { allowed: allowed.into(), resolver }
    }

    /// The addresses of `target`, all of which may be reached. A connection goes to one of these, never to the name
    /// again.
    pub(super) async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Unreachable> {
        let found = match target.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, target.port)],
            Err(_) => self.resolver.resolve(&target.host, target.port).await?,
        };
        if let Some(refused) = found.iter().map(SocketAddr::ip).find(|address| !self.allows(*address)) {
            return Err(Unreachable::Refused(refused));
        }
        if found.is_empty() { Err(Unreachable::Nowhere) } else { Ok(found) }
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|range| range.contains(address))
    }
}

impl From<Unreachable> for Problem {
    fn from(error: Unreachable) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string()).with_parameter("url")
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<&'static str>);

    #[async_trait]
    impl Resolve for Fixed {
        async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(self.0.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
        }
    }

    #[test]
    fn urls() {
        let target = Target::parse("http://Example.com:8080/hook?a=b").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.authority.as_str(), target.path.as_str()),
            ("Example.com", 8080, "Example.com:8080", "/hook?a=b")
        );
        let target = Target::parse("http://[::1]?x").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("::1", 80, "/?x"));
        let long = format!("http://h/{}", "x".repeat(2048));
        for bad in [
            "",
            "/x",
            "h:80",
            "ftp://h/",
            "ws://h/",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://u@h/",
            "http://u:p@h/",
            "http://h:0/",
            "http://h:/",
            "http://h:99999/",
            "http://h/#f",
            "http://h /",
            "http://ü/",
            &long,
        ] {
            assert_eq!(Target::parse(bad).unwrap_err().parameter(), Some("url"), "{bad:?}");
        }
        assert_eq!(Target::parse("https://h/").is_ok(), cfg!(feature = "tls"));
    }

    #[tokio::test]
    async fn every_address_must_be_allowed() {
        for (found, allowed, expected) in [
            (vec!["1.1.1.1", "2606:4700::1111"], vec![], Ok(2)),
            (vec!["1.1.1.1", "10.0.0.1"], vec![], Err("10.0.0.1 lies in a private or special range")),
            (vec!["10.0.0.1"], vec!["10.0.0.0/8"], Ok(1)),
            (
                vec!["10.0.0.1", "127.0.0.1"],
                vec!["10.0.0.0/8"],
                Err("127.0.0.1 lies in a private or special range"),
            ),
            (vec![], vec!["0.0.0.0/0"], Err("its host has no address")),
        ] {
            let allowed = allowed.iter().map(|range| range.parse().unwrap()).collect();
            let guard = Guard::new(allowed, Arc::new(Fixed(found)));
            let addresses = guard.addresses(&Target::parse("http://h/").unwrap()).await;
            let count = addresses.map(|addresses| addresses.len()).map_err(|error| error.to_string());
            assert_eq!(count, expected.map_err(str::to_owned));
        }
    }

    /// Spellings that a C library takes for addresses go through the resolver, and are judged by what they mean.
    #[tokio::test]
    async fn no_spelling_of_loopback_passes() {
        let guard = Guard::new(Vec::new(), Arc::new(SystemResolver));
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "0",
            "localhost",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:ffff:7f00:1]",
            "[fe80::1%25lo]",
        ] {
            let target = Target::parse(&format!("http://{host}/"));
            if let Ok(target) = target {
                let reached = guard.addresses(&target).await;
                assert!(
                    matches!(reached, Err(Unreachable::Refused(_) | Unreachable::Resolve(_))),
                    "{host}: {reached:?}"
                );
            }
        }
    }
}
