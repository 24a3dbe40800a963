//! The `Host` of a request (RFC 9112, 3.2).

use http::{Request, Version, header::HOST};
use pushpull_core::Problem;

/// Refuses an HTTP/1.1 request without a `Host`, and any with several.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let hosts = request.headers().get_all(HOST).iter().count();
    match (request.version(), hosts) {
        (_, 2..) => Err(Problem::invalid("Host", "it is given twice")),
        (Version::HTTP_11, 0) => Err(Problem::invalid("Host", "it is missing")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(request(Version::HTTP_10, &[]));
        assert!(request(Version::HTTP_2, &[]));
    }
}
