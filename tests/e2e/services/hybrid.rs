//! Webhooks that get lost, and the polls that find what they told.

use std::process::Command;

use super::hub;
use crate::{
    http::{Request, json, publish},
    program::{Program, built, run},
    refusals::Nobody,
};

#[test]
fn hybrid_has_each_event_once_whatever_its_webhooks_lose() {
    const EVENTS: usize = 60;
    let (_hub, url) =
        hub(&["--webhooks", "--webhook-allow", "127.0.0.1/32", "--webhook-first-retry", "0.05"]);
    let arguments = ["--topic", "orders.*", "--drop", "0.4", "--every", "0.1", "--events", "60"];
    let mut hybrid = Program::start("hybrid", &[&[&*url], &arguments[..]].concat());
    let endpoint = hybrid.line().split_once("/hook as ").expect("its URL, and its endpoint").1.to_owned();
    assert_eq!(json(&endpoint)["state"], "active");
    let mut ways = Vec::new();
    for number in 0..EVENTS {
        publish(&format!("{url}/topics/orders.{}", number % 3), &format!("order {number}"));
        let line = hybrid.line();
        let (way, event) = line.split_once(' ').expect("a way, and an event");
        assert!(event.ends_with(&format!(" orders.{} order {number}", number % 3)), "{line}");
        ways.push(way.to_owned());
    }
    let count = |wanted: &str| ways.iter().filter(|way| *way == wanted).count();
    let (pushed, pulled) = (count("pushed"), count("pulled"));
    assert!(pushed > 0 && pulled > 0 && pushed + pulled == EVENTS, "{ways:?}");
    assert_eq!(hybrid.line(), format!("{pushed} pushed, {pulled} pulled, 0 gaps"));
    assert!(hybrid.ended().success());
    assert_eq!(status_of(&endpoint), 404, "it has removed its endpoint");
}

fn status_of(url: &str) -> u16 {
    let request = Request { method: "GET", url, content_type: "text/plain", body: "" };
    request.send().expect("an answer").status
}

/// As `hybrid ... | head -1` has it: by the first event nobody reads any more.
#[test]
fn hybrid_leaves_no_endpoint_behind_when_nobody_reads_it() {
    let (_hub, url) = hub(&["--webhooks", "--webhook-allow", "127.0.0.1/32"]);
    let path = built("hybrid").expect("example `hybrid` is built: cargo build --workspace --examples");
    let head = r#""$0" "$@" 2>&3 3>&- | { read -r line; exec <&-; echo "$line"; }"#;
    let both = format!("exec 3>&1; {head}");
    let mut command = Command::new("sh");
    let mut hybrid = Program::spawn(command.args(["-c", &both]).arg(path).args([&url, "--topic", "o"]));
    let endpoint = hybrid.line().split_once("/hook as ").expect("its URL, and its endpoint").1.to_owned();
    assert_eq!(json(&endpoint)["state"], "active");
    publish(&format!("{url}/topics/o"), "x");
    assert_eq!(hybrid.line(), "error: Broken pipe (os error 32)");
    hybrid.ended();
    assert_eq!(status_of(&endpoint), 404, "it has removed its endpoint");
}

#[test]
fn hybrid_tells_by_which_way_an_event_came() {
    let (_hub, url) = hub(&["--webhooks", "--webhook-allow", "127.0.0.1/32"]);
    for (drop, every, wanted) in [("0", "60", "pushed"), ("1", "0.1", "pulled")] {
        let hybrid = Program::start("hybrid", &[&url, "--topic", "o", "--drop", drop, "--every", every]);
        assert!(hybrid.line().starts_with("listening on "));
        let mut ways = Vec::new();
        for _ in 0..8 {
            publish(&format!("{url}/topics/o"), "x");
            ways.push(hybrid.line().split(' ').next().expect("a word").to_owned());
        }
        // The first may come by the poll that it begins with.
        assert!(ways[1..].iter().all(|way| way == wanted), "{ways:?}");
        assert!(hybrid.terminate().success());
    }
}

#[test]
fn hybrid_says_in_a_sentence_what_cannot_be() {
    let hybrid = |url: &str| run("hybrid", &[url, "--topic", "orders.*"]);
    let (_plain, plain) = hub(&[]);
    let (_wary, wary) = hub(&["--webhooks"]);
    let there = Nobody::new();
    let nobody = there.url();
    for (url, why) in [(plain, "not-found"), (wary, "bad-request: url: "), (nobody, "unavailable: ")] {
        let (status, said) = hybrid(&url);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.starts_with(&format!("error: {url} sends no webhooks to http://127.0.0.1:")), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
}
