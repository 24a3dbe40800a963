//! Why a connection is not made, in words that say where, and what can be done.

use std::{io, net::SocketAddr};

use super::PATIENCE;

/// What the system says where no more files may be open: by this program, or by all (`EMFILE`, `ENFILE`).
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// Says what `error` means on a connection to `server`. One that says so itself is left as it is.
pub(crate) fn explained(error: io::Error, server: SocketAddr) -> io::Error {
    if error.get_ref().is_some() {
        return error;
    }
    let kind = error.kind();
    let is_files = error.raw_os_error().is_some_and(|number| TOO_MANY_FILES.contains(&number));
    let told = match kind {
        _ if is_files => format!("{error}: each connection is one, see `ulimit -n`"),
        io::ErrorKind::AddrNotAvailable => {
            format!("{error}: no local port is left, see `sysctl net.ipv4.ip_local_port_range`")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let seconds = PATIENCE.as_secs();
            format!(
                "no answer within {seconds} s: it may have no room for more, see its limits and `ulimit -n`"
            )
        }
        io::ErrorKind::UnexpectedEof => "it ended the connection".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(kind, format!("{server}: {told}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: io::Error) -> String {
        explained(error, "127.0.0.1:9".parse().unwrap()).to_string()
    }

    #[test]
    fn an_error_says_where_and_what_can_be_done() {
        for (error, words) in [
            (io::Error::from_raw_os_error(111), "Connection refused"),
            (
                io::Error::from_raw_os_error(24),
                "Too many open files (os error 24): each connection is one, see `ulimit -n`",
            ),
            (io::Error::from_raw_os_error(23), "see `ulimit -n`"),
            (io::Error::from_raw_os_error(99), "no local port is left"),
            (io::Error::from_raw_os_error(11), "no answer within 10 s"),
            (io::ErrorKind::UnexpectedEof.into(), "it ended the connection"),
        ] {
            let told = told(error);
            assert!(told.starts_with("127.0.0.1:9: ") && told.contains(words), "{words:?} is not in {told}");
        }
    }

    #[test]
    fn what_says_enough_is_left_as_it_is() {
        assert_eq!(told(io::Error::other("no such topic")), "no such topic");
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "cut in a frame");
        assert_eq!(told(eof), "cut in a frame");
        let once = explained(io::Error::from_raw_os_error(11), "127.0.0.1:9".parse().unwrap());
        let again = explained(once, "127.0.0.1:9".parse().unwrap());
        assert_eq!(again.to_string().matches("127.0.0.1:9").count(), 1);
    }
}
