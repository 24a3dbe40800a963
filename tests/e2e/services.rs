//! The examples of services: what they promise holds while they are killed.

mod batch;
mod hybrid;
mod pipeline;

use crate::{http::Request, program::Program};

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
