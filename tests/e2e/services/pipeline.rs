//! Workers that are killed, and the jobs that they are given.

use std::{process::Command, thread, time::Duration};

use super::publish_numbers;
use crate::{
    http::json,
    program::{Program, built, run},
    refusals::Nobody,
};

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

/// The first worker of all has no place to be told a gap from.
#[test]
fn pipeline_worker_that_comes_too_late_tells_what_it_missed() {
    let path = built("pipeline").expect("example `pipeline` is built: cargo build --workspace --examples");
    let first_of = |jobs: u64, lines: usize| -> Vec<String> {
        let broker = Program::start("pipeline", &["broker", "--listen", "127.0.0.1:0"]);
        let url = broker.url();
        // A request has 10,000 at most.
        publish_numbers(&url, "jobs", 1..jobs / 2 + 1);
        publish_numbers(&url, "jobs", jobs / 2 + 1..jobs + 1);
        let url = url.replacen("http", "grpc", 1);
        let mut work = Command::new("sh");
        work.args(["-c", r#"exec "$0" "$@" 2>&1"#]).arg(&path).args(["work", "--url", &url]);
        let worker = Program::spawn(&mut work);
        (0..lines).map(|_| worker.line()).collect()
    };
    let late = first_of(12_000, 2);
    assert!(
        late[0].starts_with("missed all jobs up to ")
            && late[0].ends_with("-2000: the broker keeps them no longer"),
        "{late:?}"
    );
    assert_eq!(number_in(&late[1]), 2001);
    let in_time: Vec<_> = first_of(3, 3).iter().map(|line| number_in(line)).collect();
    assert_eq!(in_time, [1, 2, 3]);
}

/// Its jobs would have the numbers of those before, whose results would pass for theirs.
#[test]
fn pipeline_producer_leaves_alone_a_broker_that_has_jobs() {
    let broker = Program::start("pipeline", &["broker", "--listen", "127.0.0.1:0"]);
    let http = broker.url();
    for scheme in ["grpc", "ws"] {
        let url = http.replacen("http", scheme, 1);
        let (status, said) = run("pipeline", &["produce", "--url", &url, "--items", "3"]);
        let refused = format!("error: {url}: has jobs of an earlier run: start the broker anew");
        match scheme {
            "grpc" => assert_eq!((status, &*said), (Some(0), "3 jobs are published")),
            _ => assert_eq!((status, said), (Some(1), refused)),
        }
    }
    let jobs = json(&format!("{http}/poll?topic=jobs&start=earliest"));
    assert_eq!(jobs["events"].as_array().map(Vec::len), Some(3), "nothing was added");
}

#[test]
fn pipeline_producer_says_that_there_is_no_broker() {
    let there = Nobody::new();
    let url = there.url().replacen("http", "grpc", 1);
    let (status, said) = run("pipeline", &["produce", "--url", &url]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with(&format!("error: {url}: could not publish: unavailable: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
