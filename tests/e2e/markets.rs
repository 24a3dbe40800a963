//! Load under control: the sensors of `iot`, which are asked, and the market of `ticker`, which is thinned out.

use std::{
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    program::{Program, built},
    refusals::Nobody,
};

const NOW: &str = "window.pushpull.now";

/// What a line of `iot` tells.
struct Poll {
    sensors: u64,
    silent: u64,
    published: u64,
    received: u64,
    spared: u64,
}

impl Poll {
    /// Its sentence is the one that is documented, to the letter.
    fn next(iot: &Program) -> Self {
        let line = iot.line();
        let all = numbers(&line);
        let [sensors, silent, whole, tenth, published, received, spared] = all[..] else {
            panic!("seven numbers are wanted: {line}");
        };
        assert_eq!(
            line,
            format!(
                "{sensors} sensors, {silent} silent, {whole}.{tenth} °C: \
                 published {published}, received {received}, spared {spared}"
            )
        );
        Self { sensors, silent, published, received, spared }
    }

    /// What it did not bring is counted.
    fn holds(&self, sensors: u64) {
        assert!(self.sensors <= sensors && self.silent <= self.sensors, "{} sensors", self.sensors);
        assert!(self.received <= self.published, "{} of {}", self.received, self.published);
        assert_eq!(self.spared, self.published.saturating_sub(self.received));
    }
}

/// All in one process: forty sensors that read fifty times a second are asked twice a second.
#[test]
fn iot_asks_for_the_newest_of_each_sensor_and_says_what_it_was_spared() {
    let flags = ["--listen", "127.0.0.1:0", "--sensors", "40", "--period", "0.02", "--every", "0.5"];
    let iot = Program::start("iot", &flags);
    assert!(iot.url().starts_with("http://127.0.0.1:"));
    let (mut received, mut spared) = (0, 0);
    in_time(|| {
        let poll = Poll::next(&iot);
        poll.holds(40);
        received += poll.received;
        spared += poll.spared;
        poll.sensors == 40 && poll.silent > 0 && spared > 4 * received
    });
    assert!(iot.terminate().success());
}

/// Apart, with the hub between them: who watches begins with what there is.
#[test]
fn iot_pushes_to_any_server_and_watches_any() {
    let hub = Program::start("hub", &["--listen", "127.0.0.1:0"]);
    let url = hub.url();
    let gateway = Program::start("iot", &["gateway", &url, "--sensors", "30", "--period", "0.05"]);
    let mut watch = Program::start("iot", &["watch", &url, "--every", "0.2"]);
    in_time(|| Poll::next(&watch).sensors == 30);
    // Every gateway is gone: what is known of its sensors stays, and nothing more comes.
    assert!(gateway.terminate().success());
    let mut last = Poll::next(&watch);
    in_time(|| {
        last = Poll::next(&watch);
        last.holds(30);
        last.received == 0
    });
    assert_eq!((last.sensors, last.published, last.spared), (30, 0, 0));
    assert!(watch.terminate().success());
    // Who comes now gets each sensor that is not silent, once: that is the snapshot.
    watch = Program::start("iot", &["watch", &url]);
    let first = Poll::next(&watch);
    assert_eq!((first.sensors, first.received), (30 - last.silent, 30 - last.silent));
    assert_eq!((first.silent, first.spared), (0, 0));
    assert!(watch.terminate().success());
}

/// A gateway outlives its server, and tells its going and its coming once.
#[test]
fn iot_goes_on_when_the_server_is_back() {
    let path = built("iot").expect("example `iot` is built: cargo build --workspace --examples");
    let there = Nobody::new();
    let url = there.url();
    let both = ["-c", r#"exec "$0" "$@" 2>&1"#];
    let mut command = Command::new("sh");
    let gateway = Program::spawn(command.args(both).arg(path).args(["gateway", &url, "--period", "0.01"]));
    let line = gateway.line();
    assert!(
        line.starts_with("could not publish: unavailable: the server cannot be reached: ")
            && line.ends_with("; trying on"),
        "{line}"
    );
    let hub = Program::start("hub", &["--listen", &there.address()]);
    assert_eq!(hub.url(), url);
    assert_eq!(gateway.line(), "the server is back");
    assert!(gateway.terminate().success());
}

/// Who was not answered does not know whether it was published, and must not say something else by the same number.
#[test]
fn iot_says_nothing_new_by_a_number_that_may_be_known() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let _gateway = Program::start("iot", &["gateway", &url, "--sensors", "1", "--period", "0.05"]);
    let (sender, readings) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The end of the connection is all the answer there is.
            if sender.send(reading(&stream)).is_err() {
                return;
            }
        }
    });
    let next = || readings.recv_timeout(Duration::from_secs(30)).expect("it posts");
    let (first, number) = next();
    assert_eq!(number, 1);
    // It tries the same again, until that is no longer worth it.
    let second = std::iter::repeat_with(next).find(|(id, _)| *id != first).expect("endless");
    assert_eq!(second.1, 2);
}

/// The idempotency id of the request that comes by `stream`, and the number of the reading in it.
fn reading(stream: &TcpStream) -> (String, u64) {
    let mut request = BufReader::new(stream);
    let (mut id, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        request.read_line(&mut line).expect("a request");
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => value.clone_into(&mut id),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().expect("a length");
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    request.read_exact(&mut body).expect("a body");
    let reading: Value = serde_json::from_slice(&body).expect("a reading");
    (id, reading["number"].as_u64().expect("it has a number"))
}

/// Each client at its own rate: the one is spared what the other gets.
#[test]
fn ticker_sends_each_client_what_it_asked_for() {
    let ticker = Program::start("ticker", &["--listen", "127.0.0.1:0", "--updates", "2000"]);
    let url = ticker.url();
    let slow = Program::start("ticker", &["watch", &url, "--rate", "0.5"]);
    let fast = Program::start("ticker", &["watch", &url]);
    let (mut of_slow, mut of_fast) = ([0; 3], [0; 3]);
    in_time(|| {
        add(&mut of_slow, &slow);
        add(&mut of_fast, &fast);
        of_slow[2] >= 4000
    });
    // The snapshot and a flush have come at least, each of 200 symbols at most.
    assert!(of_slow[0] == 200 && of_slow[1] >= 300, "{of_slow:?}");
    assert!(of_slow[2] > 4 * of_slow[1], "{of_slow:?}");
    assert!(of_fast[0] == 200 && of_fast[1] > 2 * of_slow[1], "{of_fast:?} against {of_slow:?}");
    assert!(slow.terminate().success());
    assert!(fast.terminate().success());
    assert!(ticker.terminate().success());
}

/// A zero would say that nothing was left out.
#[test]
fn ticker_does_not_say_what_it_cannot_know() {
    let ticker = Program::start("ticker", &["--listen", "127.0.0.1:0", "--updates", "2000"]);
    let url = ticker.url();
    for pinned in ["sse", "poll"] {
        let watch = Program::start("ticker", &["watch", &format!("{pinned}+{url}")]);
        let line = watch.line();
        let all = numbers(&line);
        let told = format!("{} symbols, received {}, spared unknown", all[0], all[1]);
        assert!(line.starts_with(&told) && all[1] > 0, "{pinned}: {line}");
    }
}

/// Takes the next line: the symbols it knows of, and what was received and spared since the last.
fn add([symbols, received, spared]: &mut [u64; 3], watch: &Program) {
    let line = watch.line();
    let all = numbers(&line);
    let told = format!("{} symbols, received {}, spared {} ({} %)", all[0], all[1], all[2], all[3]);
    assert!(line.starts_with(&told), "{line}");
    (*symbols, *received, *spared) = (all[0], *received + all[1], *spared + all[2]);
}

#[test]
fn the_page_of_the_ticker_is_spared_what_its_slider_says() {
    let Some(browser) = Browser::start() else { return };
    let ticker = Program::start("ticker", &["--listen", "127.0.0.1:0", "--updates", "2000"]);
    browser.go(&ticker.url());
    browser.resize(1280, 800);
    browser.until(&format!("{NOW}.state === 'live' && {NOW}.symbols === 200 && {NOW}.spared > 1000"), NOW);
    assert_eq!(browser.read("document.querySelectorAll('#board > div').length"), 200);
    let fast = share(&browser, "document.getElementById('rate').value = 8");
    let slow = share(&browser, "document.getElementById('rate').value = 1");
    assert!(
        fast > 3.0 * slow && slow < 0.3,
        "received of what was published: {fast} as it comes, {slow} every 2 s"
    );
    let now = browser.read(NOW);
    assert_eq!((&now["missed"], &now["rate"]), (&json!(0), &json!(0.5)), "{now:#}");
    let whole = "document.documentElement.scrollHeight <= innerHeight";
    assert_eq!(browser.read(whole), true, "all of it is seen without scrolling");
    assert_eq!(browser.log(), json!([]), "the console is clean");
    assert!(ticker.terminate().success());
}

/// Who moves the slider in the middle of a snapshot, behind the gap that it began with, is owed the rest of it.
#[test]
fn the_page_of_the_ticker_has_no_place_before_its_snapshot_is_whole() {
    let Some(browser) = Browser::start() else { return };
    let ticker = Program::start("ticker", &["--listen", "127.0.0.1:0"]);
    browser.go(&ticker.url());
    browser.until(&format!("window.pushpull && {NOW}.state === 'live'"), "document.title");
    // The page once more, on a link that says what the test wants.
    browser.read(
        "(window.asked = [], \
         window.WebSocket = class { constructor(url) { asked.push(url.search); window.link = this; } close() {} }, \
         window.told = (...frames) => link.onmessage({ data: JSON.stringify(frames) }), \
         import(`${location.origin}/ticker.js?again`), 0)",
    );
    browser.until("asked.length === 1", "asked");
    let slide = "document.getElementById('rate').dispatchEvent(new Event('change'))";
    let asked = |frames: &str| browser.read(&format!("(told({frames}), {slide}, asked.at(-1))"));
    let gap = r#"{ gap: { after: "k-1", before: "k-5", cursor: "k-1", reason: "evicted" } }"#;
    let event = r#"{ topic: "quotes.A", cursor: "k-7", key: "A", snapshot: true, data: { price: 1 } }"#;
    let whole = r#"{ heartbeat: { cursor: "k-9", conflated: 0 } }"#;
    let later = r#"{ topic: "quotes.A", cursor: "k-11", key: "A", data: { price: 2 } }"#;
    let lost = r#"{ gap: { after: "k-9", before: "k-99", cursor: "k-98", reason: "skipped" } }"#;
    for (frames, from) in [
        (format!("{gap}, {event}"), "start=snapshot"),
        (format!("{gap}, {event}, {whole}"), "after=k-9"),
        (later.to_owned(), "after=k-11"),
        (lost.to_owned(), "after=k-98"),
    ] {
        let query = asked(&frames);
        let query = query.as_str().expect("a query");
        assert!(query.contains(&format!("&{from}")), "{query} after {frames}");
    }
    assert!(ticker.terminate().success());
}

/// The page goes on from its place at another rate; the part of what is published that it then gets.
fn share(browser: &Browser, moved: &str) -> f64 {
    let slide = "document.getElementById('rate').dispatchEvent(new Event('change'))";
    // What is under way on the old connection is nobody's.
    let before = browser.read(&format!("({moved}, {slide}, {NOW})"));
    let count = |now: &Value, what: &str| now[what].as_f64().unwrap_or_else(|| panic!("no {what}: {now}"));
    let all = count(&before, "received") + count(&before, "spared");
    browser.until(&format!("{NOW}.received + {NOW}.spared > {all} + 8000"), NOW);
    let after = browser.read(NOW);
    let received = count(&after, "received") - count(&before, "received");
    received / (count(&after, "received") + count(&after, "spared") - all)
}

/// Looks until it is so, a line at a time.
fn in_time(mut is_so: impl FnMut() -> bool) {
    assert!((0..100).any(|_| is_so()), "a hundred lines, and it never was so");
}

/// The runs of digits of `line`.
fn numbers(line: &str) -> Vec<u64> {
    let digits = line.split(|one: char| !one.is_ascii_digit()).filter(|run| !run.is_empty());
    digits.map(|run| run.parse().expect("digits are a number")).collect()
}
