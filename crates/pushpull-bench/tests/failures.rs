//! What cannot be measured is refused, or fails, with a word that says why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

fn bench(arguments: &str) -> Command {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_pushpull-bench"));
    bench.args(["--json", "--runs", "1", "--quiet", "99"]).args(arguments.split(' '));
    bench
}

/// What is said by a run that fails.
fn failure(arguments: &str) -> String {
    let output = bench(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A program by `name` that does what the `script` says.
fn program(name: &str, script: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}

#[test]
fn a_server_that_is_not_there_is_named_and_how_it_is_built() {
    let said = failure("publish --server target/no/hub");
    assert!(said.contains("no such program: target/no/hub; cargo build --release"), "{said}");
}

#[test]
fn what_a_server_says_that_does_not_start_is_passed_on() {
    let server = program("refuses", "echo \"unexpected argument: $5\" >&2; exit 2");
    let server = server.display();
    let said = failure(&format!("publish --server {server} --server-flags --bogus --workers 2"));
    let started = format!("does not start: {server} --listen");
    for told in [&started, "--bogus", "\nunexpected argument: --retain-messages"] {
        assert!(said.contains(told), "{told:?} is not in {said}");
    }
    let server = program("babbles", "echo hello");
    let said = failure(&format!("publish --server {}", server.display()));
    assert!(said.ends_with("\nhello\n"), "{said}");
}

#[test]
fn a_peer_is_refused_what_it_has_not() {
    for (arguments, told) in [
        ("fanout --server fastwebsockets --deflate", "fastwebsockets`: it negotiates no permessage-deflate"),
        ("fanout --server nchan --transport grpc", "nchan`: `--transport grpc` is none of its transports"),
        ("scale --server axum-ws --transport sse", "axum-ws`: `--transport sse` is none of its transports"),
        ("storm --server axum-sse --transport sse", "axum-sse`: it has no history"),
        ("fanout --server raw-writes --tls", "raw-writes`: it speaks no TLS, which `--tls` asks for"),
        (
            "fanout --compare raw-writes --tls",
            "raw-writes is left out: it speaks no TLS, which `--tls` asks for",
        ),
        ("fanout --compare axum-ws --deflate", "axum-ws is left out: it negotiates no permessage-deflate"),
    ] {
        let said = failure(arguments);
        assert!(said.contains(told), "{told:?} is not in {said}");
    }
}

#[test]
fn a_payload_that_is_too_short_for_what_it_is_is_refused() {
    for (arguments, least) in [
        ("fanout --subscribers 1 --content json --payload 199", 200),
        ("catchup --history 10 --messages 10 --payload 41", 42),
        ("publish --payload 10", 40),
    ] {
        let said = failure(&format!("{arguments} --server mounted"));
        assert!(said.contains(&least.to_string()), "{least} is not in {said}");
    }
}

#[test]
fn a_connection_that_is_not_made_is_explained() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for work in ["publish", "poll", "fanout", "storm", "scale"] {
        let said = failure(&format!("{work} --server {socket}"));
        assert!(said.contains(&format!("{socket}: Connection refused")), "{work}: {said}");
    }
}

#[test]
fn a_limit_that_is_met_is_named() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_pushpull-baseline"));
    let mut server = server.arg("mounted").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let socket = line.trim().rsplit('/').next().unwrap();
    // The server has more files than who connects to it.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pushpull-bench")]);
    limited.args(["--runs", "1", "--quiet", "99", "--server", socket, "idle", "--connections", "100"]);
    let output = limited.output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("each connection is one, see `ulimit -n` (when "),
        "{said}"
    );
}

/// Whether a server can be told of its parent's end.
fn has_setpriv() -> bool {
    Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_server_ends_with_who_started_it() {
    if !has_setpriv() {
        eprintln!("skipped: setpriv of util-linux is not installed");
        return;
    }
    let pipe = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lives");
    let _ = fs::remove_file(&pipe);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // It has the pipe open for as long as it lives, and says so when it has outlived its parent for long.
    let server = program(
        "outlives",
        &format!("exec 3>{}; echo here >&3; sleep 15 3>&- >/dev/null & wait; echo lives >&3", pipe.display()),
    );
    let mut bench = bench(&format!("publish --server {}", server.display())).spawn().unwrap();
    let mut lines = BufReader::new(fs::File::open(&pipe).unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("here"));
    bench.kill().unwrap();
    bench.wait().unwrap();
    assert_eq!(lines.next(), None);
}
