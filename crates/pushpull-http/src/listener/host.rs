//! The `Host` of a request (RFC 9112, 3.2).

use http::{Request, Version, header::HOST, uri::Authority};
use pushpull_core::Problem;

/// Refuses an HTTP/1.1 request without a `Host`, and any with several or with one that names no host.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Problem::invalid("Host", "it is given twice")),
        (None, _) if request.version() == Version::HTTP_11 => Err(Problem::invalid("Host", "it is missing")),
        (Some(host), _) if !is_host(host.as_bytes()) => Err(Problem::invalid("Host", "it names no host")),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]`, of which the host may be empty (RFC 9110, 7.2) but bears no user.
fn is_host(host: &[u8]) -> bool {
    is_name(host) || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
}

/// Letters, digits, dots and hyphens, with a port or without: what nearly every host is, told without a parser.
fn is_name(host: &[u8]) -> bool {
    let (name, port) = match host.iter().position(|byte| *byte == b':') {
        Some(colon) => (&host[..colon], &host[colon + 1..]),
        None => (host, &b"0"[..]),
    };
    let is_port = (1..=4).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    is_port
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        && (!name.is_empty() || host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_is_an_authority(host in "[a-zA-Z0-9.:-]{0,9}") {
            let is_authority = host.is_empty() || Authority::try_from(host.as_bytes()).is_ok();
            prop_assert!(!is_name(host.as_bytes()) || is_authority, "{host}");
            prop_assert_eq!(is_host(host.as_bytes()), is_authority);
        }
    }

    #[test]
    fn most_hosts_are_told_without_a_parser() {
        for name in ["", "a", "hub.example:8080", "127.0.0.1", "10.0.0.1:443"] {
            assert!(is_name(name.as_bytes()), "{name}");
        }
        for other in ["[::1]", "a b", "a@b", "a:", ":80", "a:b", "a:80:80", "a_b", "\u{e4}"] {
            assert!(!is_name(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn hosts() {
        let request = |version, hosts: &[&str]| {
            let mut request = Request::builder().version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            check(&request.body(()).unwrap()).is_ok()
        };
        assert!(request(Version::HTTP_11, &["a"]));
        assert!(!request(Version::HTTP_11, &[]));
        assert!(!request(Version::HTTP_11, &["a", "a"]));
        for good in ["", "a.b:80", "[::1]:8080", "127.0.0.1", "x_y.example"] {
            assert!(request(Version::HTTP_11, &[good]), "{good}");
        }
        for bad in ["a b", "a/b", "user@a", "http://a", "a,b c", "a?b", "[::1"] {
            assert!(!request(Version::HTTP_11, &[bad]), "{bad}");
        }
        assert!(request(Version::HTTP_10, &[]));
        assert!(request(Version::HTTP_2, &[]));
    }
}
