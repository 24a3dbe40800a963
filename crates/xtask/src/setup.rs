//! Installs what is missing, and says what and why.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Failure, run};

/// What the tests start besides Rust: a program, the Debian package that has it, and what it is for.
const PROGRAMS: [(&str, &str, &str); 5] = [
    ("chromium", "chromium", "a real browser looks at the dashboard"),
    ("chromedriver", "chromium-driver", "the tests drive the browser by it"),
    ("python3", "python3", "the wire contract is tested by its standard library alone"),
    ("openssl", "openssl", "makes the certificate of the TLS tests"),
    ("curl", "curl", "the most plain of clients"),
];

/// No package asks anything while it is installed.
const UNATTENDED: &str = "DEBIAN_FRONTEND=noninteractive";

/// Python packages whose clients and verifiers the tests hold the adapters to, and a line that finds them all.
const ORACLES: [&str; 4] = [
    "grpcio==1.85.3",
    "grpcio-reflection==1.85.1",
    "grpcio-health-checking==1.85.1",
    "standardwebhooks==1.1.0",
];
const FIND_ORACLES: &str =
    "import grpc, grpc_reflection.v1alpha.reflection_pb2, grpc_health.v1.health_pb2, standardwebhooks";

/// Makes sure that there is a Python with the packages of other people that the tests need, in a folder below
/// `target`, and returns its path.
pub(crate) fn oracles() -> Result<PathBuf, Failure> {
    let folder = env::current_dir().map_err(|error| error.to_string())?.join("target/oracles");
    let python = folder.join("bin/python");
    let found = Command::new(&python).args(["-c", FIND_ORACLES]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!(
            "{} will be installed into target/oracles: stock clients of other languages",
            ORACLES.join(", ")
        );
        run("python3", &["-m", "venv", &folder.to_string_lossy()])?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(&python.to_string_lossy(), &[&install[..], &ORACLES[..]].concat())?;
    }
    Ok(python)
}

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

/// Makes sure that `program`, which is of a Debian package of the same name, is there.
pub(crate) fn program(program: &str, why: &str) -> Result<(), Failure> {
    if is_on_path(program) {
        return Ok(());
    }
    eprintln!("{program} is missing and will be installed: it {why}");
    install(&[program])
}

/// Makes sure that the programs the tests start are there.
pub(crate) fn programs() -> Result<(), Failure> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, ..)| !is_on_path(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (program, package, why) in &missing {
        eprintln!("{program} is missing and will be installed (package {package}): {why}");
    }
    let packages: Vec<_> = missing.iter().map(|(_, package, _)| *package).collect();
    install(&packages)
}

fn install(packages: &[&str]) -> Result<(), Failure> {
    if !is_on_path("apt-get") {
        return Err(format!("there is no apt-get here: install {} by hand", packages.join(", ")));
    }
    let apt = |arguments: &[&str]| {
        let as_root = env::var_os("USER").is_some_and(|user| user != "root") && is_on_path("sudo");
        match as_root {
            true => run("sudo", &[&["env", UNATTENDED, "apt-get"], arguments].concat()),
            false => run("env", &[&[UNATTENDED, "apt-get"], arguments].concat()),
        }
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-qq", "-y"], packages].concat())
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}
