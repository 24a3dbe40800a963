//! The dashboard: five transports side by side, each cut and resumed.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    http::{Request, json},
    program::Program,
};

const PANELS: [&str; 5] = ["ws", "sse", "longpoll", "poll", "grpc"];
const STATE: &str = "window.pushpull.panels";
/// What a panel says once the server's history is another.
const ANEW: &str = r"^The history began anew \(reset\): what came before cannot be known\.( Since then caught up \d+ in \d+ ms\.)?$";

#[test]
fn every_transport_is_cut_and_goes_on_with_nothing_lost_and_nothing_twice() {
    let Some(browser) = Browser::start() else { return };
    let dashboard = Program::start("dashboard", &["--listen", "127.0.0.1:0"]);
    browser.go(&dashboard.url());
    browser.resize(1280, 800);
    for panel in PANELS {
        moves(&browser, panel);
    }
    for panel in PANELS {
        cut_and_resume(&browser, panel);
        tells_in_sight(&browser, panel, r"^Caught up \d+ in \d+ ms: none lost, none twice\.$");
    }
    picture(&browser);
    all_at_once(&browser);
    for panel in PANELS {
        holds(panel, &browser.read(&format!("{STATE}.{panel}")));
    }
    assert_eq!(browser.read("document.querySelectorAll('.fault').length"), 0);
    assert_eq!(browser.log(), json!([]), "the console is clean");
    assert!(dashboard.terminate().success());
}

/// What no browser speaks is spoken for it: the panel's button opens and ends a gRPC stream.
#[test]
fn behind_the_fifth_panel_stands_a_stream_over_grpc() {
    let Some(browser) = Browser::start() else { return };
    let dashboard = Program::start("dashboard", &["--listen", "127.0.0.1:0"]);
    let url = dashboard.url();
    browser.go(&url);
    moves(&browser, "ws");
    moves(&browser, "grpc");
    assert_eq!(grpc_streams(&url), 1);
    browser.click("#grpc button");
    let ahead = number(&browser.read(&format!("{STATE}.ws.events"))) + 10.0;
    browser.until(&format!("{STATE}.ws.events >= {ahead}"), STATE);
    assert_eq!(grpc_streams(&url), 0);
    browser.click("#grpc button");
    browser.until(&format!("{STATE}.grpc.caughtUp"), STATE);
    assert_eq!(grpc_streams(&url), 1);
    assert!(dashboard.terminate().success());
}

/// How many the server itself counts.
fn grpc_streams(url: &str) -> u64 {
    let url = format!("{url}/metrics");
    let request = Request { method: "GET", url: &url, content_type: "text/plain", body: "" };
    let answer = request.send().expect("the server answers");
    let page = String::from_utf8(answer.body).expect("it is text");
    let mut lines =
        page.lines().filter_map(|line| line.strip_prefix("pushpull_connections{transport=\"grpc\"} "));
    lines.next().expect("it counts them").parse().expect("it is a number")
}

/// The server's history is gone with it: every panel is told so, once, and goes on.
#[test]
fn every_transport_is_told_that_the_server_began_anew() {
    let Some(browser) = Browser::start() else { return };
    let dashboard = Program::start("dashboard", &["--listen", "127.0.0.1:0"]);
    let url = dashboard.url();
    browser.go(&url);
    for panel in PANELS {
        moves(&browser, panel);
    }
    assert!(dashboard.terminate().success());
    let address = url.strip_prefix("http://").expect("it is plain HTTP");
    let dashboard = Program::start("dashboard", &["--listen", address]);
    assert_eq!(dashboard.url(), url);
    for panel in PANELS {
        let now = format!("{STATE}.{panel}");
        browser.until(&format!("{now}.gaps === 1 && {now}.state === 'live'"), STATE);
        let links = browser.read(&format!("{now}.links"));
        browser.until(&format!("{now}.links >= {links} + 12"), STATE);
        let state = browser.read(&now);
        for fault in ["lost", "repeats", "broken", "disorder"] {
            assert_eq!(state[fault], 0, "{panel}: {fault} in {state:#}");
        }
        assert_eq!(state["anew"], 1, "{panel}: {state:#}");
        tells(&browser, panel, ANEW);
        for (part, figure) in [("lost", "0"), ("repeats", "0"), ("order", "rising")] {
            let shown =
                browser.read(&format!("document.querySelector('#{panel} [data-part={part}]').textContent"));
            assert_eq!(shown, format!("{figure} since it began anew"), "{panel}: {part}");
        }
    }
    let header =
        "['lost-label', 'repeated-label', 'gaps'].map((id) => document.getElementById(id).textContent)";
    assert_eq!(browser.read(header), json!(["lost since then", "repeated since then", "5"]));
    let told = "['anew', 'claim'].map((id) => document.getElementById(id).checkVisibility())";
    assert_eq!(browser.read(told), json!([true, false]));
    assert!(dashboard.terminate().success());
}

/// While a server is away every panel says so, in a sentence.
#[test]
fn a_link_that_broke_is_told_in_words() {
    let Some(browser) = Browser::start() else { return };
    let dashboard = Program::start("dashboard", &["--listen", "127.0.0.1:0"]);
    browser.go(&dashboard.url());
    for panel in PANELS {
        moves(&browser, panel);
    }
    drop(dashboard);
    for panel in PANELS {
        let connects = if panel == "sse" { "the browser connects" } else { "connecting" };
        tells(&browser, panel, &format!(r"^The link broke; {connects} again\.$"));
        assert_eq!(browser.read(&format!("{STATE}.{panel}.state")), "retrying", "{panel}");
    }
}

/// What is said of a resume claims no more than is known.
#[test]
fn the_sentence_about_a_resume_tells_its_gap() {
    let Some(browser) = Browser::start() else { return };
    let dashboard = Program::start("dashboard", &["--listen", "127.0.0.1:0"]);
    browser.go(&dashboard.url());
    let sentence = |what: Value| {
        browser.read(&format!("import('/notes.js').then(({{ caughtUp }}) => caughtUp({what}))"))
    };
    let resume = |events: u64, lost: u64, gap: Value| {
        sentence(json!({"events": events, "took": 4.2, "lost": lost, "repeats": 0, "gap": gap}))
    };
    assert_eq!(resume(0, 0, Value::Null), "Nothing was published while it was away.");
    assert_eq!(resume(60, 0, Value::Null), "Caught up 60 in 4 ms: none lost, none twice.");
    assert_eq!(resume(60, 2, Value::Null), "Caught up 60 in 4 ms: 2 lost, 0 repeated.");
    let anew = |reason| json!({"reason": reason, "before": "f-1", "cursor": "f-0"});
    for reason in ["reset", "rewound"] {
        let told = format!("The history began anew ({reason}): what came before cannot be known.");
        assert_eq!(resume(0, 0, anew(reason)), told);
        assert_eq!(resume(7, 0, anew(reason)), format!("{told} Since then caught up 7 in 4 ms."));
    }
    let evicted = json!({"reason": "evicted", "before": "e-9", "cursor": "e-2"});
    assert_eq!(
        resume(3, 0, evicted),
        "Told of a gap (evicted): some events before e-9 are gone. Since then caught up 3 in 4 ms."
    );
}

/// CPU use and throughput are measured over time: nothing is published before a whole period has passed.
#[test]
fn the_first_sample_measures_a_whole_period() {
    let begun = SystemTime::now();
    let dashboard = Program::start("dashboard", &["--listen", "127.0.0.1:0"]);
    let page = json(&format!("{}/longpoll?topic=host.cpu&start=earliest&wait=20&limit=1", dashboard.url()));
    let first = &page["events"][0];
    assert_eq!(first["data"]["sample"], 1, "{page:#}");
    let begun = begun.duration_since(UNIX_EPOCH).expect("the clock is right").as_millis() as f64;
    assert!(number(&first["time"]) >= begun + 500.0, "{page:#}, begun at {begun}");
    assert!(dashboard.terminate().success());
}

/// The proof that the page shows is worth something only if it sees what it looks for.
#[test]
fn the_proof_notices_every_fault() {
    let Some(browser) = Browser::start() else { return };
    let dashboard = Program::start("dashboard", &["--listen", "127.0.0.1:0"]);
    browser.go(&dashboard.url());
    let sound = [(2, "1"), (3, "2"), (5, "3")];
    assert_eq!(faults(&browser, &sound), json!([0, 0, 0, 3]));
    assert_eq!(faults(&browser, &[(2, "1"), (5, "3")]), json!([1, 0, 0, 1]), "one was lost");
    assert_eq!(faults(&browser, &[(2, "1"), (2, "1")]), json!([1, 1, 0, 1]), "one came twice");
    assert_eq!(faults(&browser, &[(3, "1"), (2, "3")]), json!([0, 0, 1, 2]), "the order is wrong");
    let lost = "import('/proof.js').then(({ Ledger }) => {
        const ledger = new Ledger();
        for (const seq of [2, 3, 4]) ledger.add('one', `e-${seq}`);
        for (const seq of [2, 4]) ledger.add('other', `e-${seq}`);
        const whole = { start: 1, top: 4, epoch: 'e' };
        return [ledger.lost('one', whole), ledger.lost('other', whole), ledger.lost('other', { ...whole, start: 3 })];
    })";
    assert_eq!(browser.read(lost), json!([0, 1, 0]));
}

/// Broken links, repeats, disorder and sound links of one topic's events after place 1.
fn faults(browser: &Browser, events: &[(u64, &str)]) -> Value {
    let events: Vec<_> = events
        .iter()
        .map(|(seq, prev)| json!({"topic": "a", "cursor": format!("e-{seq}"), "prev": format!("e-{prev}")}))
        .collect();
    browser.read(&format!(
        "import('/proof.js').then(({{ Proof }}) => {{
            const proof = new Proof();
            proof.place('e-1');
            for (const event of {}) proof.event(event);
            return [proof.broken, proof.repeats, proof.disorder, proof.links];
        }})",
        json!(events)
    ))
}

/// Events beyond the snapshot arrive, and are chained.
fn moves(browser: &Browser, panel: &str) {
    let now = format!("{STATE}.{panel}");
    browser.until(&format!("{now}?.state === 'live' && {now}.links >= 12 && {now}.rate > 0"), STATE);
}

fn cut_and_resume(browser: &Browser, panel: &str) {
    let now = format!("{STATE}.{panel}");
    browser.click(&format!("#{panel} button"));
    let cut = browser.read(&now);
    assert_eq!(cut["state"], "cut", "{panel}");
    // The others are not disturbed, and it gets nothing: it lags behind by what they get meanwhile.
    let other = PANELS.iter().find(|other| **other != panel).expect("there are five");
    let ahead = number(&browser.read(&format!("{STATE}.{other}.events"))) + 10.0;
    browser.until(&format!("{STATE}.{other}.events >= {ahead}"), STATE);
    let still = browser.read(&now);
    assert_eq!(still["state"], "cut", "{panel} came back too early");
    assert_eq!((&still["events"], &still["place"]), (&cut["events"], &cut["place"]), "{panel}");
    browser.until(&format!("{now}.state === 'live' && {now}.caughtUp"), STATE);
    let after = browser.read(&now);
    holds(panel, &after);
    assert!(number(&after["caughtUp"]["events"]) >= 10.0, "{panel}: {after:#}");
    assert_eq!(
        (&after["caughtUp"]["lost"], &after["caughtUp"]["repeats"]),
        (&Value::from(0), &Value::from(0))
    );
    assert_eq!(after["cuts"], 1, "{panel}");
}

/// The panel's sentence comes to match.
fn tells(browser: &Browser, panel: &str, pattern: &str) {
    let note = format!("document.querySelector('#{panel} .note').textContent");
    browser.until(&format!("/{pattern}/.test({note})"), &note);
}

/// And can be read without scrolling.
fn tells_in_sight(browser: &Browser, panel: &str, pattern: &str) {
    tells(browser, panel, pattern);
    let bottom = format!("document.querySelector('#{panel} .note').getBoundingClientRect().bottom");
    assert!(number(&browser.read(&bottom)) <= number(&browser.read("innerHeight")), "{panel}");
}

/// Cut by one button, back by their own.
fn all_at_once(browser: &Browser) {
    browser.click("#cut-all");
    for panel in PANELS {
        assert_eq!(browser.read(&format!("{STATE}.{panel}.state")), "cut", "{panel}");
        browser.click(&format!("#{panel} button"));
    }
    for panel in PANELS {
        let now = format!("{STATE}.{panel}");
        browser.until(&format!("{now}.state === 'live' && {now}.cuts >= 2 && {now}.caughtUp"), STATE);
    }
}

/// No gap, no repeat, and a chain without a hole.
fn holds(panel: &str, state: &Value) {
    for fault in ["lost", "repeats", "gaps", "broken", "disorder"] {
        assert_eq!(state[fault], 0, "{panel}: {fault} in {state:#}");
    }
    assert!(number(&state["links"]) > 0.0, "{panel}: {state:#}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// For the README, where `PUSHPULL_SCREENSHOT=1` asks for it: one transport away, the others going on.
fn picture(browser: &Browser) {
    if std::env::var("PUSHPULL_SCREENSHOT").is_ok_and(|asked| asked == "1") {
        browser.prefer("light");
        let first = number(&browser.read(&format!("{STATE}.ws.events")));
        browser.until(&format!("{STATE}.ws.events >= {first} + 200"), STATE);
        browser.click("#longpoll button");
        browser.until(&format!("{STATE}.ws.events >= {first} + 240"), STATE);
        browser.screenshot(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboard.png"));
        browser.click("#longpoll button");
    }
}
