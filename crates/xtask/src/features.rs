//! Any subset of the features that matters builds, without a warning.

use crate::{
    Failure, run_with, setup,
    trees::{SIDES, TRANSPORTS},
};

/// The facade by every one and every two transports, for each side; by every feature alone; and every other crate
/// that has features by each of its own.
pub(crate) fn check() -> Result<(), Failure> {
    setup::tool("hack", "cargo-hack", "0.6.46", "checks features by themselves and in pairs")?;
    let transports = TRANSPORTS.join(",");
    for side in SIDES {
        hack(&[
            "--package",
            "pushpull",
            "--features",
            side,
            "--feature-powerset",
            "--depth",
            "2",
            "--include-features",
            &transports,
        ])?;
    }
    hack(&["--package", "pushpull", "--each-feature"])?;
    let adapters = TRANSPORTS.map(|transport| format!("pushpull-{transport}"));
    let packages = adapters.iter().map(String::as_str).chain(["pushpull-http"]);
    let packages: Vec<_> = packages.flat_map(|package| ["--package", package]).collect();
    hack(&[&packages[..], &["--each-feature"]].concat())
}

fn hack(arguments: &[&str]) -> Result<(), Failure> {
    run_with("RUSTFLAGS", "-D warnings", &[&["hack", "check", "--no-dev-deps"], arguments].concat())
}
