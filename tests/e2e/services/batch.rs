//! A file that holds each record once, whatever its writer dies of.

use std::{fs, path::PathBuf, sync::mpsc, thread, time::Duration};

use serde_json::Value;

use super::{hub, publish_numbers};
use crate::{
    http::{Request, json, publish},
    program::{Program, run},
    refusals::Nobody,
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
    let (begin, begun) = mpsc::channel();
    let records = thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut records = 0;
            // Beside the batch, and far enough ahead that it does not run out of work.
            for () in begun {
                for ahead in (records..lines_in(&output) + AHEAD).step_by(10) {
                    publish_numbers(&url, "jobs.a", ahead..ahead + 10);
                    records = ahead + 10;
                }
            }
            records
        });
        for _ in 0..KILLS {
            begin.send(()).expect("it publishes");
            let batch = Program::start("batch", &arguments);
            // Any moment is to do: before its first pull, in the middle of a write, between its two files.
            thread::sleep(Duration::from_micros(fastrand::u64(2_000..50_000)));
            // By SIGKILL.
            drop(batch);
        }
        drop(begin);
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
    assert!(said.ends_with(&format!("{output} holds 8 records; 1 gap")), "{said}");
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
    let there = Nobody::new();
    let nobody = there.url();
    let (status, said) = batch(&nobody);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with(&format!("error: {nobody}: could not fetch: unavailable: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    let (_hub, url) = hub(&[]);
    let running = Program::start("batch", &[&url, "--topic", "jobs", "--output", &output]);
    publish(&format!("{url}/topics/jobs"), "text");
    assert!(running.line().starts_with("1 record more, 1 in all, up to "));
    assert_eq!(batch(&url), (Some(1), format!("error: {output}: another batch writes to it")));
    assert!(running.terminate().success());
}

/// Each line is the object that a poll has for the event, so that nothing of it is lost, and nothing said otherwise.
#[test]
fn batch_writes_events_as_the_hub_tells_them() {
    let (_hub, url) = hub(&[]);
    let folder = Folder::new("records");
    let output = folder.at("out.ndjson");
    let target = &format!("{url}/topics/jobs");
    for (content_type, body) in [
        ("application/json", "[104,105]"),
        ("application/octet-stream", "hi"),
        ("text/plain; charset=utf-8", "text \u{263a}"),
        ("application/vnd.jobs+json", r#"{"big": 123456789012345678901234567890, "px": 1.10}"#),
        ("application/octet-stream", ""),
    ] {
        let answer = Request { method: "POST", url: target, content_type, body }.send().expect("an answer");
        assert_eq!(answer.status, 201, "{content_type}");
    }
    let (status, said) = run("batch", &[&url, "--topic", "jobs", "--output", &output, "--once"]);
    assert_eq!(status, Some(0), "{said}");
    let page = json(&format!("{url}/poll?topic=jobs&start=earliest"));
    let text = fs::read_to_string(&output).expect("it is there");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(Some(&lines), page["events"].as_array());
    assert!(text.contains(r#""data":{"big": 123456789012345678901234567890, "px": 1.10}"#), "{text}");
}

/// A cursor is good for any topics, so that it would jump over what other ones had before it.
#[test]
fn batch_goes_on_with_its_own_topics_alone() {
    let (_hub, url) = hub(&[]);
    let folder = Folder::new("topics");
    let output = folder.at("out.ndjson");
    let batch =
        |topics: [&str; 4]| run("batch", &[&[&*url, "--output", &output, "--once"], &topics[..]].concat());
    publish_numbers(&url, "others", 0..3);
    publish_numbers(&url, "jobs", 3..6);
    let (status, said) = batch(["--topic", "jobs", "--topic", "more.*"]);
    assert_eq!(status, Some(0), "{said}");
    let refused = format!("error: {output} is of jobs, more.*, not of jobs, others: name another --output");
    assert_eq!(batch(["--topic", "others", "--topic", "jobs"]), (Some(1), refused));
    publish_numbers(&url, "more.a", 6..8);
    let (status, said) = batch(["--topic", "more.*", "--topic", "jobs"]);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(numbers_in(&output), [3, 4, 5, 6, 7]);
}
