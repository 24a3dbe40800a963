//! Installs what is missing, and says what and why.

use std::process::{Command, Stdio};

use crate::{Failure, run};

/// Makes sure that `cargo NAME` is there.
pub(crate) fn tool(name: &str, package: &str, version: &str, why: &str) -> Result<(), Failure> {
    let known =
        Command::new("cargo").args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if known.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    eprintln!("{package} {version} is missing and will be installed: it {why}");
    run("cargo", &["install", "--locked", package, "--version", version])
}
