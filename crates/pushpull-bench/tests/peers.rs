//! Every peer answers the load generator: all events come, in order, each as it was sent, and its cost is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, path::Path, process::Command};

use serde_json::Value;

/// A run of `peer` with so few events that it takes no time. It fails if anything was missing, repeated or garbled.
fn figures(peer: &str, arguments: &str) -> Value {
    run(peer, "1", arguments)["median"].clone()
}

fn run(peer: &str, runs: &str, arguments: &str) -> Value {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_pushpull-bench"));
    bench.args(["--json", "--runs", runs, "--quiet", "99", "--server", peer]);
    let output = bench.args(arguments.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{peer} {arguments}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn tells(peer: &str, transport: &str) {
    let arguments =
        format!("fanout --transport {transport} --subscribers 7 --seconds 60 --messages 40 --ahead 4");
    let told = figures(peer, &arguments);
    for name in ["deliveries/s", "server CPU s/M deliveries", "p50 us"] {
        assert!(told[name].as_f64().unwrap() > 0.0, "{name} of {peer} in {told}");
    }
}

fn rests(peer: &str, transport: &str) {
    let told = figures(peer, &format!("idle --transport {transport} --connections 50 --topics 5"));
    assert!(told["bytes a connection"].as_f64().unwrap() > 100.0, "{peer} in {told}");
}

fn tells_over_tls(peer: &str, transport: &str) {
    let arguments = "--subscribers 5 --seconds 60 --messages 40 --ahead 4";
    let told = figures(peer, &format!("fanout --tls --transport {transport} {arguments}"));
    assert!(told["deliveries/s"].as_f64().unwrap() > 0.0, "{peer} in {told}");
}

/// Whether nginx and the module are there. It is told where they are not, and a failure where they must be.
fn has_nchan() -> bool {
    let parts = ["/usr/sbin/nginx", "/usr/lib/nginx/modules/ngx_nchan_module.so"];
    let is_there = parts.iter().all(|part| Path::new(part).exists());
    if !is_there {
        let required = env::var("PUSHPULL_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "nchan"), "nginx with Nchan is not installed");
        eprintln!("skipped: nginx with Nchan is not installed (libnginx-mod-nchan)");
    }
    is_there
}

#[test]
fn baselines_tell_all_in_order() {
    assert!(Path::new(env!("CARGO_BIN_EXE_pushpull-baseline")).exists());
    for (peer, transport) in [
        ("axum-ws", "ws"),
        ("fastwebsockets", "ws"),
        ("axum-sse", "sse"),
        ("tonic", "grpc"),
        ("mounted", "ws"),
        ("raw-writes", "ws"),
    ] {
        tells(peer, transport);
    }
}

#[test]
fn a_figure_has_what_it_needs_of_the_mounted_service() {
    // More than the 10,000 that it keeps by itself.
    let told = figures("mounted", "catchup --transport ws --messages 10500 --history 10500");
    assert!(told["messages/s"].as_f64().unwrap() > 0.0, "{told}");
}

#[test]
fn the_memory_of_a_baseline_is_told() {
    rests("fastwebsockets", "ws");
}

#[test]
fn baselines_acknowledge() {
    for peer in ["axum-ws", "fastwebsockets", "axum-sse", "tonic"] {
        let told = figures(peer, "publish --connections 2 --seconds 0");
        assert_eq!(told["acknowledgements"], 2.0, "{peer}");
    }
}

#[test]
fn baselines_tell_all_over_tls() {
    for (peer, transport) in [
        ("axum-ws", "ws"),
        ("fastwebsockets", "ws"),
        ("axum-sse", "sse"),
        ("tonic", "grpc"),
        ("mounted", "ws-proto"),
        ("mounted", "longpoll"),
    ] {
        tells_over_tls(peer, transport);
    }
}

#[test]
fn every_figure_is_measured_over_tls() {
    for arguments in [
        "many --transport sse --topics 3 --seconds 0",
        "burst --transport ws --subscribers 3 --messages 2 --pause 0",
        "storm --transport grpc --connections 3",
        "storm --transport sse --connections 3",
        "idle --transport ws --connections 3 --topics 1",
        "catchup --transport ws-json --messages 50",
        "poll --connections 2 --behind 3 --seconds 0",
        "publish --connections 2 --seconds 0",
    ] {
        figures("mounted", &format!("{arguments} --tls"));
    }
}

#[test]
fn scale_tells_medians_of_several_runs() {
    let arguments = "scale --subscribers 3 --threads 1 --messages 20 --seconds 60";
    let told = run("mounted", "2", arguments);
    let points = told["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| &point["subscribers"]).collect::<Vec<_>>(), [3]);
    for point in points {
        assert_eq!(point["runs"], 2);
        let rate = &point["figures"][0];
        let [least, median, most] = ["least", "median", "most"].map(|of| rate[of].as_f64().unwrap());
        assert!(rate["name"] == "deliveries/s" && least <= median && median <= most, "{rate}");
        assert!(least < most, "two runs that took the same time to the nanosecond: {rate}");
    }
}

#[test]
fn nchan_tells_all_over_tls() {
    if has_nchan() {
        for transport in ["ws", "sse", "longpoll"] {
            tells_over_tls("nchan", transport);
        }
    }
}

#[test]
fn nchan_tells_all_in_order() {
    if has_nchan() {
        for transport in ["ws", "sse", "longpoll"] {
            tells("nchan", transport);
        }
    }
}

/// Messages come deflated, or the run fails.
fn deflates(peer: &str) {
    let arguments = "--content json --subscribers 3 --seconds 60 --messages 40 --ahead 4";
    let told = figures(peer, &format!("fanout --deflate {arguments}"));
    assert!(told["bytes a delivery"].as_f64().unwrap() < 700.0, "{peer} in {told}");
}

#[test]
fn messages_come_deflated() {
    deflates("mounted");
    if has_nchan() {
        deflates("nchan");
    }
}

#[test]
fn the_memory_of_nginx_and_its_worker_is_told() {
    if has_nchan() {
        rests("nchan", "ws");
    }
}

#[test]
fn nchan_keeps_acknowledges_and_is_polled() {
    if has_nchan() {
        for transport in ["ws", "sse", "longpoll", "http-poll"] {
            let told = figures("nchan", &format!("catchup --transport {transport} --messages 50"));
            assert!(told["messages/s"].as_f64().unwrap() > 0.0, "{transport}");
        }
        assert_eq!(figures("nchan", "publish --connections 2 --seconds 0")["acknowledgements"], 2.0);
        assert_eq!(figures("nchan", "poll --connections 2 --seconds 0")["answers 304"], 2.0);
        assert_eq!(figures("nchan", "poll --connections 2 --behind 1 --seconds 0")["answers 200"], 2.0);
    }
}

#[test]
fn peers_run_in_turns_and_ratios_are_told() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_pushpull-bench"));
    // A baseline stands for the server, so that no other program is needed.
    bench.args(["--json", "--runs", "2", "--quiet", "99", "--server", "axum-ws"]);
    bench.args(["--compare", "fastwebsockets,tonic", "fanout", "--transport", "ws"]);
    let output = bench.args(["--subscribers", "3", "--messages", "20", "--seconds", "60"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("tonic is left out"), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = told["contestants"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["pushpull", "fastwebsockets"]);
    assert!(told["ratios"]["fastwebsockets"]["deliveries/s"].as_f64().unwrap() > 0.0, "{told}");
    assert_eq!(told["contestants"][1]["runs"].as_array().unwrap().len(), 2);
}
