//! What cannot be: each example says so in a sentence, and exits with a status that tells.

use std::net::{SocketAddr, TcpListener};

use tokio::net::TcpSocket;

use crate::program::{Program, run};

/// An address that nobody listens on. It is kept as long as this is: a program that is started there gets it, but
/// no other is given its port.
pub(crate) struct Nobody {
    address: SocketAddr,
    _kept: TcpSocket,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let kept = TcpSocket::new_v4().expect("a socket");
        // So that who listens may bind it too.
        kept.set_reuseaddr(true).expect("it is an option of sockets");
        kept.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        Self { address: kept.local_addr().expect("it is bound"), _kept: kept }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A flag with a value that is refused, and in what words.
#[test]
fn a_flag_out_of_its_bounds_is_refused_in_words() {
    let url = "http://127.0.0.1:9/";
    let refused: [(&str, &[&str], &str); 22] = [
        ("scrape", &[url, "--every", "0"], "'--every <SECONDS>': must be more than 0 seconds"),
        ("scrape", &[url, "--every", "nan"], "'--every <SECONDS>': not between 0 and 3200000000 seconds"),
        ("hub", &["--retain-seconds", "0"], "'--retain-seconds <SECONDS>': must be more than 0 seconds"),
        ("hub", &["--retain-messages", "0"], "'--retain-messages <N>': must be at least 1"),
        ("hub", &["--workers", "0"], "'--workers <N>': must be at least 1"),
        ("hub", &["--listen", "localhost:0"], "'--listen <ADDRESS>': an IP address and a port are wanted"),
        ("chat", &["--listen", "8080"], "'--listen <ADDRESS>': an IP address and a port are wanted"),
        ("dashboard", &["--listen", ""], "'--listen <ADDRESS>': an IP address and a port are wanted"),
        ("logtail", &["f", "--listen", "x"], "'--listen <ADDRESS>': an IP address and a port are wanted"),
        ("iot", &["--sensors", "0"], "'--sensors <N>': must be at least 1"),
        ("iot", &["--sensors", "65536"], "'--sensors <N>': too large"),
        ("iot", &["gateway", url, "--period", "0"], "'--period <SECONDS>': must be more than 0 seconds"),
        ("iot", &["watch", url, "--every", "0.0"], "'--every <SECONDS>': must be more than 0 seconds"),
        ("ticker", &["--updates", "0"], "'--updates <N>': must be at least 1"),
        ("ticker", &["watch", url, "--rate", "0"], "'--rate <RATE>': not a number from 0.1 to 1000"),
        ("ticker", &["watch", url, "--rate", "x"], "'--rate <RATE>': not a number from 0.1 to 1000"),
        (
            "batch",
            &[url, "--topic", "a", "--output", "f", "--limit", "0"],
            "'--limit <N>': must be at least 1",
        ),
        (
            "batch",
            &[url, "--topic", "a", "--output", "f", "--limit", "1001"],
            "'--limit <N>': must be at most 1000",
        ),
        ("pipeline", &["produce", "--items", "0"], "'--items <N>': must be at least 1"),
        ("pipeline", &["work", "--window", "0"], "'--window <N>': must be at least 1"),
        ("hybrid", &[url, "--topic", "a", "--drop", "2"], "'--drop <PART>': not between 0 and 1"),
        ("relay", &["--upstream", url, "--topics", "a..b"], "'--topics <PATTERN>': "),
    ];
    for (name, arguments, words) in refused {
        let (status, said) = run(name, arguments);
        assert_eq!(status, Some(2), "{name} {arguments:?}: {said}");
        assert!(said.contains(words), "{name} {arguments:?}: {said}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let hub = Program::start("hub", &["--listen", "127.0.0.1:0"]);
    let upstream = hub.url();
    let missing = std::env::temp_dir().join("pushpull-e2e-is-not-there").display().to_string();
    let listen = ["--listen", &address];
    let begun: [(&str, &[&str]); 10] = [
        ("hub", &[]),
        ("dashboard", &[]),
        ("chat", &[]),
        ("logtail", &[&missing]),
        ("iot", &[]),
        ("ticker", &[]),
        ("pipeline", &["broker"]),
        ("pipeline", &["all"]),
        ("hybrid", &["http://127.0.0.1:9", "--topic", "a"]),
        ("relay", &["--upstream", &upstream]),
    ];
    for (name, arguments) in begun {
        let (status, said) = run(name, &[arguments, &listen].concat());
        let (begin, end) =
            (format!("error: cannot listen on {address}: "), "; use --listen for another address");
        assert_eq!(status, Some(1), "{name} {arguments:?}: {said}");
        // A relay logs that it follows its upstream.
        let told = said.lines().last().unwrap_or_default();
        assert!(told.starts_with(&begin) && told.ends_with(end) && !told.contains('"'), "{name}: {said}");
    }
}

#[test]
fn a_server_that_cannot_be_meant_is_named() {
    for name in ["iot", "ticker"] {
        let (status, said) = run(name, &["watch", "127.0.0.1:8080"]);
        assert_eq!(status, Some(1), "{name}: {said}");
        assert!(said.starts_with("error: ") && said.contains("127.0.0.1:8080"), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
    }
}

#[test]
fn a_relay_does_not_follow_itself() {
    let nobody = Nobody::new();
    let (status, said) = run("relay", &["--upstream", &nobody.url(), "--listen", &nobody.address()]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.contains("is this relay itself"), "{said}");
}

#[test]
fn logtail_follows_no_directory() {
    let folder = std::env::temp_dir().display().to_string();
    let (status, said) = run("logtail", &[&folder, "--listen", "127.0.0.1:0"]);
    assert_eq!(said, format!("error: cannot follow {folder}: is a directory"));
    assert_eq!(status, Some(1));
}

/// So that a script can tell, and a target that came back is none the worse for having been away.
#[test]
fn scrape_ends_as_its_last_pull_did() {
    let hub = Program::start("hub", &["--listen", "127.0.0.1:0"]);
    let url = format!("{}/topics/nothing", hub.url());
    let (status, said) = run("scrape", &[&url, "--every", "0.05", "--times", "2"]);
    assert_eq!(status, Some(1), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert!(
        matches!(lines[..], [one, other, end] if one.starts_with("down: ") && one == other
        && end.starts_with(&format!("error: the last pull of {url} failed: "))),
        "{said}"
    );
}
