//! The examples of services: what they promise holds while they are killed.

mod batch;
mod hybrid;
mod pipeline;

use std::net::{SocketAddr, TcpListener};

use crate::{
    http::Request,
    program::{Program, run},
};

fn hub(more: &[&str]) -> (Program, String) {
    let hub = Program::start("hub", &[&["--listen", "127.0.0.1:0"], more].concat());
    let url = hub.url();
    (hub, url)
}

/// Publishes `numbers` in one request.
fn publish_numbers(url: &str, topic: &str, numbers: impl Iterator<Item = u64>) {
    let url = &format!("{url}/topics/{topic}?batch=ndjson");
    let body = &numbers.map(|number| format!("{number}\n")).collect::<String>();
    let request = Request { method: "POST", url, content_type: "application/x-ndjson", body };
    let answer = request.send().expect("an answer");
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
}

/// An address at which nobody listens.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let begin = format!("error: cannot listen on {address}: ");
    for (name, arguments) in [
        ("pipeline", &["broker"][..]),
        ("pipeline", &["all"]),
        ("hybrid", &["http://127.0.0.1:9", "--topic", "a"]),
    ] {
        let (status, said) = run(name, &[arguments, &["--listen", &address]].concat());
        assert_eq!(status, Some(1), "{name} {arguments:?}: {said}");
        assert!(said.starts_with(&begin) && said.lines().count() == 1, "{name} {arguments:?}: {said}");
    }
}
