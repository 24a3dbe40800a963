//! The examples of services: what they promise holds while they are killed.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    http::{Request, json, publish},
    program::{Program, run},
};

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pushpull-e2e-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("its path is text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies among the temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

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

/// The numbers that the output of a batch holds.
fn numbers_in(path: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).expect("the output can be read");
    assert!(text.is_empty() || text.ends_with('\n'), "the last record is whole");
    let number = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        record["data"].as_u64().unwrap_or_else(|| panic!("no number: {line}"))
    };
    text.lines().map(number).collect()
}

/// How many lines `path` has by now.
fn lines_in(path: &str) -> u64 {
    fs::read(path).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count() as u64)
}

#[test]
fn batch_has_each_record_once_however_often_it_is_killed() {
    const KILLS: u32 = 60;
    const AHEAD: u64 = 500;
    let (_hub, url) = hub(&[]);
    let folder = Folder::new("killed");
    let output = folder.at("out.ndjson");
    let arguments = [&*url, "--topic", "jobs.>", "--output", &output, "--limit", "7", "--every", "0.005"];
    let is_over = AtomicBool::new(false);
    let records = thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut records = 0;
            while !is_over.load(Relaxed) {
                if records < lines_in(&output) + AHEAD {
                    publish_numbers(&url, "jobs.a", records..records + 10);
                    records += 10;
                }
            }
            records
        });
        for _ in 0..KILLS {
            let batch = Program::start("batch", &arguments);
            // Any moment is to do: before its first pull, in the middle of a write, between its two files.
            thread::sleep(Duration::from_micros(fastrand::u64(2_000..50_000)));
            // By SIGKILL.
            drop(batch);
        }
        is_over.store(true, Relaxed);
        publishing.join().expect("it publishes")
    });
    eprintln!("killed {KILLS} times, the last time with {} of {records} records", lines_in(&output));
    assert!(lines_in(&output) > u64::from(KILLS), "it had work while it was killed");
    let (status, said) = run("batch", &[&arguments[..], &["--once"]].concat());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.ends_with(&format!("{output} holds {records} records; 0 gaps")), "{said}");
    assert_eq!(numbers_in(&output), (0..records).collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn batch_trusts_its_output_as_far_as_the_checkpoint_vouches_for_it() {
    let (_hub, url) = hub(&["--retain-messages", "5"]);
    let folder = Folder::new("trust");
    let output = folder.at("out.ndjson");
    let batch = || run("batch", &[&url, "--topic", "jobs", "--output", &output, "--once"]);
    publish_numbers(&url, "jobs", 0..3);
    batch();
    let torn = [&*fs::read(&output).expect("it is there"), br#"{"cursor":"#].concat();
    fs::write(&output, torn).expect("it can be written to");
    publish_numbers(&url, "jobs", 3..10);
    let (status, said) = batch();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("missed evicted after ") && said.contains("5 records more, 8 in all"), "{said}");
    assert!(said.ends_with(&format!("{output} holds 8 records; 1 gaps")), "{said}");
    assert_eq!(numbers_in(&output), [0, 1, 2, 5, 6, 7, 8, 9]);

    let whole = fs::read(&output).expect("it is there");
    fs::write(&output, &whole[1..]).expect("it can be written to");
    let refused = format!(
        "error: {output} has {} bytes, but {output}.checkpoint vouches for {}",
        whole.len() - 1,
        whole.len()
    );
    assert_eq!(batch(), (Some(1), refused));
    fs::remove_file(format!("{output}.checkpoint")).expect("it is there");
    let refused = format!(
        "error: {output} holds something, but there is no {output}.checkpoint: name another --output"
    );
    assert_eq!(batch(), (Some(1), refused));
    assert_eq!(fs::read(&output).expect("it is there"), &whole[1..], "it is left alone");
}

#[test]
fn batch_says_in_a_sentence_what_cannot_be() {
    let folder = Folder::new("cannot");
    let output = folder.at("out.ndjson");
    let batch = |url: &str| run("batch", &[url, "--topic", "jobs", "--output", &output, "--once"]);
    let nobody = format!("http://{}", free_address());
    let (status, said) = batch(&nobody);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with(&format!("error: {nobody}: could not fetch: unavailable: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    let (_hub, url) = hub(&[]);
    let running = Program::start("batch", &[&url, "--topic", "jobs", "--output", &output]);
    publish(&format!("{url}/topics/jobs"), "text \u{263a}");
    assert!(running.line().starts_with("1 records more, 1 in all, up to "));
    assert_eq!(batch(&url), (Some(1), format!("error: {output} is being written by another batch")));
    let text = fs::read_to_string(&output).expect("it is there");
    assert!(text.ends_with("\"topic\":\"jobs\",\"data\":\"text \u{263a}\"}\n"), "{text}");
    assert!(running.terminate().success());
}

/// An address at which nobody listens.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

#[test]
fn pipeline_in_one_process_checks_itself() {
    let (status, said) = run("pipeline", &["--items", "80", "--window", "5", "--effort", "0.01"]);
    assert_eq!(status, Some(0), "{said}");
    let lines: Vec<_> = said.lines().collect();
    let end =
        "80 jobs, 80 results, each once and in order, by a worker of 4 lives; at most 5 in flight, 5 allowed";
    assert_eq!(lines.last(), Some(&end), "{said}");
    for answered in [20, 40, 60, 80] {
        assert!(lines.contains(&&*format!("the worker is gone after {answered} results")), "{said}");
    }
}

/// The job whose result its line tells.
fn number_in(line: &str) -> u64 {
    let told = line.split(' ').next().and_then(|number| number.parse().ok());
    told.unwrap_or_else(|| panic!("not of a worker: {line}"))
}

/// How many jobs its line tells to be in flight.
fn in_flight(line: &str) -> u32 {
    let told = line.strip_suffix(" in flight").and_then(|line| line.rsplit_once("; "));
    told.and_then(|(_, number)| number.parse().ok()).unwrap_or_else(|| panic!("not of a worker: {line}"))
}

#[test]
fn pipeline_worker_goes_on_where_it_was_killed() {
    const ITEMS: &str = "600";
    let broker = Program::start("pipeline", &["broker", "--listen", "127.0.0.1:0"]);
    let url = broker.url().replacen("http", "grpc", 1);
    let work = ["work", "--url", &url, "--window", "3", "--effort", "0.01"];
    let mut first = Program::start("pipeline", &["produce", "--url", &url, "--items", ITEMS]);
    let mut check = Program::start("pipeline", &["results", "--url", &url, "--items", ITEMS]);
    let mut told = Vec::new();
    for _ in 0..5 {
        let worker = Program::start("pipeline", &work);
        told.extend((0..fastrand::usize(1..40)).map(|_| worker.line()));
        thread::sleep(Duration::from_micros(fastrand::u64(..20_000)));
        // By SIGKILL, with jobs in flight.
        drop(worker);
    }
    let last = Program::start("pipeline", &work);
    assert_eq!(check.line(), format!("{ITEMS} results, each once and in order"));
    assert!(check.ended().success());
    assert_eq!(first.line(), format!("{ITEMS} jobs are published"));
    assert!(first.ended().success());
    assert!(last.terminate().success());
    assert_eq!(
        told.iter().map(|line| in_flight(line)).max(),
        Some(3),
        "what it granted is what it gets: {told:?}"
    );
    let numbers: Vec<u64> = told.iter().map(|line| number_in(line)).collect();
    assert!(
        numbers.is_sorted_by(|one, next| one < next),
        "nothing that was answered is begun again: {told:?}"
    );
}

#[test]
fn pipeline_producer_says_that_there_is_no_broker() {
    let url = format!("grpc://{}", free_address());
    let (status, said) = run("pipeline", &["produce", "--url", &url]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with(&format!("error: {url}: could not publish: unavailable: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

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
    let request = Request { method: "GET", url: &endpoint, content_type: "text/plain", body: "" };
    assert_eq!(request.send().expect("an answer").status, 404, "it has removed its endpoint");
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

#[test]
fn hybrid_says_in_a_sentence_what_cannot_be() {
    let hybrid = |url: &str| run("hybrid", &[url, "--topic", "orders.*"]);
    let (_plain, plain) = hub(&[]);
    let (_wary, wary) = hub(&["--webhooks"]);
    let nobody = format!("http://{}", free_address());
    for (url, why) in [(plain, "not-found"), (wary, "bad-request: url: "), (nobody, "unavailable: ")] {
        let (status, said) = hybrid(&url);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.starts_with(&format!("error: {url} sends no webhooks to http://127.0.0.1:")), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
    let (status, said) = run("hybrid", &["http://127.0.0.1:9", "--topic", "a", "--drop", "2"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("'--drop <PART>': not between 0 and 1"), "{said}");
}
