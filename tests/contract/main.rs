//! The wire contract, walked through from outside by a suite in Python's standard library.
//!
//! One test a module. It needs `python3` (3.11 or newer) and the hub with every transport:
//!
//!     cargo build -p pushpull-examples --example hub
//!
//! By hand, in this folder: `PUSHPULL_HUB=path/to/hub python3 -m unittest -v test_poll`. There a transport that the
//! hub was built without is skipped; here it fails.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// `target/<profile>/examples/hub`: this test runs from `target/<profile>/deps`.
fn hub() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
    let hub = profile.join("examples").join("hub");
    assert!(
        hub.exists(),
        "there is no {}: build it first, by `cargo build -p pushpull-examples --example hub`",
        hub.display()
    );
    hub
}

fn run(module: &str) {
    let output = Command::new("python3")
        .args(["-B", "-W", "ignore::ResourceWarning", "-m", "unittest", "-v", module])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("contract"))
        .env("PUSHPULL_HUB", hub())
        .env("PUSHPULL_CONTRACT_ALL", "1")
        .output()
        .expect("python3 runs the suite of the wire contract: install Python 3.11 or newer");
    let Output { status, stdout, stderr } = output;
    assert!(
        status.success(),
        "{module}: {status}\n{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
}

macro_rules! modules {
    ($($test:ident => $module:literal)*) => {$(
        #[test]
        fn $test() {
            run($module);
        }
    )*};
}

modules! {
    publish => "test_publish"
    latest => "test_latest"
    query => "test_query"
    poll => "test_poll"
    longpoll => "test_longpoll"
    sse => "test_sse"
    ws_handshake => "test_ws_handshake"
    ws_frames => "test_ws_frames"
    ws_json => "test_ws_json"
    ws_raw => "test_ws_raw"
    ws_proto => "test_ws_proto"
    gaps => "test_gaps"
    choices => "test_choices"
    auth => "test_auth"
    origins => "test_origins"
    service => "test_service"
    tls => "test_tls"
    signals => "test_signals"
    hygiene => "test_hygiene"
    http2 => "test_http2"
    cross => "test_cross"
    slow => "test_slow"
    webhooks => "test_webhooks"
}
