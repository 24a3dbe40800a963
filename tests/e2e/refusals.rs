//! What cannot be: each example says so in a sentence, and exits with a status that tells.

use std::net::TcpListener;

use crate::program::{Program, run};

/// A flag with a value that is refused, and in what words.
#[test]
fn a_flag_out_of_its_bounds_is_refused_in_words() {
    let url = "http://127.0.0.1:9/";
    let refused: [(&str, &[&str], &str); 9] = [
        ("scrape", &[url, "--every", "0"], "'--every <SECONDS>': must be more than 0 seconds"),
        ("scrape", &[url, "--every", "nan"], "'--every <SECONDS>': not between 0 and 3200000000 seconds"),
        ("hub", &["--retain-seconds", "0"], "'--retain-seconds <SECONDS>': must be more than 0 seconds"),
        ("hub", &["--retain-messages", "0"], "'--retain-messages <N>': must be at least 1"),
        ("hub", &["--workers", "0"], "'--workers <N>': must be at least 1"),
        ("hub", &["--listen", "localhost:0"], "'--listen <ADDRESS>': an IP address and a port are wanted"),
        ("chat", &["--listen", "8080"], "'--listen <ADDRESS>': an IP address and a port are wanted"),
        ("dashboard", &["--listen", ""], "'--listen <ADDRESS>': an IP address and a port are wanted"),
        ("logtail", &["f", "--listen", "x"], "'--listen <ADDRESS>': an IP address and a port are wanted"),
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
    let missing = std::env::temp_dir().join("pushpull-e2e-is-not-there").display().to_string();
    let listen = ["--listen", &address];
    for (name, file) in [("hub", None), ("dashboard", None), ("chat", None), ("logtail", Some(&*missing))] {
        let (status, said) = run(name, &[file.as_slice(), &listen].concat());
        let (begin, end) =
            (format!("error: cannot listen on {address}: "), "; use --listen for another address");
        assert_eq!(status, Some(1), "{name}: {said}");
        assert!(said.starts_with(&begin) && said.ends_with(end) && !said.contains('"'), "{name}: {said}");
    }
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
