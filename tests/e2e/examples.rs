//! Every other example: it starts, says what it should, and ends well.

use std::{fs, io::Write};

use crate::{
    http::{json, publish},
    program::{Program, run},
};

#[test]
fn hub_listens_and_drains() {
    let hub = Program::start("hub", &["--listen", "127.0.0.1:0", "--drain", "5"]);
    assert!(hub.url().starts_with("http://127.0.0.1:"));
    assert!(hub.terminate().success());
}

#[test]
fn hub_refuses_a_flag_that_it_does_not_know() {
    let mut hub = Program::start("hub", &["--no-such-flag"]);
    assert_eq!(hub.ended().code(), Some(2));
}

#[test]
fn hub_tells_its_version() {
    assert_eq!(run("hub", &["--version"]), (Some(0), format!("hub {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn quickstart_prints_what_was_published() {
    let mut quickstart = Program::start("quickstart", &[]);
    for price in ["189.3", "189.4", "189.1"] {
        assert_eq!(quickstart.line(), format!("quotes.AAPL b\"{price}\""));
    }
    assert!(quickstart.ended().success());
}

#[test]
fn logtail_serves_what_is_written_to_the_file() {
    let path = std::env::temp_dir().join(format!("pushpull-e2e-{}.log", std::process::id()));
    fs::write(&path, "one\ntwo\n").expect("a temporary file can be written");
    let file = path.to_str().expect("its path is text");
    let logtail = Program::start("logtail", &[file, "--from-start", "--listen", "127.0.0.1:0"]);
    let url = logtail.url();
    assert_eq!(logtail.line(), format!("curl -N '{url}/sse?topic=log&start=earliest'"));

    let mut file = fs::OpenOptions::new().append(true).open(&path).expect("it can be appended to");
    file.write_all(b"three\n").expect("it can be written to");
    let mut lines = Vec::new();
    let mut from = "start=earliest".to_owned();
    while lines.len() < 3 {
        let page = json(&format!("{url}/longpoll?topic=log&{from}"));
        let events = page["events"].as_array().expect("a page has events");
        assert!(!events.is_empty(), "nothing more came after {lines:?}");
        lines.extend(events.iter().map(|event| event["data"].clone()));
        from = format!("after={}", page["cursor"].as_str().expect("a page has a cursor"));
    }
    assert_eq!(lines, ["one", "two", "three"]);
    assert!(logtail.terminate().success());
    fs::remove_file(path).expect("it can be removed");
}

#[test]
fn scrape_prints_what_changed() {
    let hub = Program::start("hub", &["--listen", "127.0.0.1:0"]);
    let exporter = format!("{}/topics/exporter", hub.url());
    publish(&exporter, "# HELP up whether it is\nup 1\nload 0.5\n");
    let scrape = Program::start("scrape", &[&exporter, "--every", "0.05"]);
    assert_eq!([scrape.line(), scrape.line()], ["+ load 0.5", "+ up 1"]);
    publish(&exporter, "up 0\ncores 2\n");
    assert_eq!([scrape.line(), scrape.line(), scrape.line()], ["+ cores 2", "  up 1 -> 0", "- load"]);

    let mut once = Program::start("scrape", &[&exporter, "--times", "1"]);
    assert_eq!([once.line(), once.line()], ["+ cores 2", "+ up 0"]);
    assert!(once.ended().success());
}

#[test]
fn relays_make_a_tree_of_a_hub() {
    let hub = Program::start("hub", &["--listen", "127.0.0.1:0"]);
    let (root, here) = (hub.url(), ["--listen", "127.0.0.1:0"]);
    publish(&format!("{root}/topics/news.a"), "before");
    let first = Program::start("relay", &["--upstream", &root, "--topics", "news.>", here[0], here[1]]);
    let relay = first.url();
    let second = Program::start(
        "relay",
        &["--upstream", &format!("sse+{relay}"), "--topics", "news.>", here[0], here[1]],
    );
    let leaf = second.url();

    publish(&format!("{leaf}/topics/news.b"), "from the leaf");
    let pages: Vec<_> =
        [&root, &relay, &leaf].map(|url| json(&format!("{url}/poll?topic=news.>&start=earliest"))).into();
    let texts: Vec<_> =
        pages[0]["events"].as_array().expect("a page").iter().map(|event| &event["data"]).collect();
    assert_eq!(texts, ["before", "from the leaf"]);
    assert_eq!((&pages[0], &pages[0]), (&pages[1], &pages[2]), "the same events at the same places");
    let cursor = pages[0]["events"][0]["cursor"].as_str().expect("an event has a cursor");
    let rest = json(&format!("{leaf}/poll?topic=news.>&after={cursor}"));
    assert_eq!(rest["events"].as_array().map(Vec::len), Some(1), "a cursor of the root is one of the leaf");

    let mut refused = Program::start("relay", &["--upstream", &leaf, "--topics", "other", here[0], here[1]]);
    assert_eq!(refused.ended().code(), Some(1), "a relay does not carry what its upstream does not");
    for program in [second, first, hub] {
        assert!(program.terminate().success());
    }
}
