//! The committed code is what the committed description makes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

const CODE: &str = "src/gen/pushpull.v1.rs";

/// Run it with `PUSHPULL_BLESS=1` after a change of the description.
#[test]
fn the_generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = generate(root);
    if std::env::var_os("PUSHPULL_BLESS").is_some() {
        fs::write(root.join(CODE), &code).unwrap();
    }
    assert!(fs::read_to_string(root.join(CODE)).unwrap() == code, "{CODE} is not current");
}

fn generate(root: &Path) -> String {
    let proto = root.join("proto");
    let described = protox::compile([proto.join("pushpull/v1/pushpull.proto")], [proto]).unwrap();
    let out = std::env::temp_dir().join(format!("pushpull-messages-{}", std::process::id()));
    fs::create_dir_all(&out).unwrap();
    prost_build::Config::new().bytes([".pushpull.v1"]).out_dir(&out).compile_fds(described).unwrap();
    let code = fs::read_to_string(out.join("pushpull.v1.rs")).unwrap();
    fs::remove_dir_all(&out).unwrap();
    code
}
