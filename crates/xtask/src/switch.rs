//! The example `switch` prints the same under every transport's feature.

use std::process::{Command, Stdio};

use crate::Failure;

const FEATURES: [&str; 5] = ["ws", "sse", "longpoll", "http-poll", "grpc-stream"];

pub(crate) fn compare() -> Result<(), Failure> {
    let mut printed = Vec::new();
    for feature in FEATURES {
        printed.push((feature, run(feature)?));
    }
    let (first, wanted) = &printed[0];
    if wanted.lines().count() < 6 {
        return Err(format!("`switch` by {first} printed too little:\n{wanted}"));
    }
    match printed.iter().find(|(_, lines)| lines != wanted) {
        Some((feature, lines)) => {
            Err(format!("`switch` printed by {first}:\n{wanted}but by {feature}:\n{lines}"))
        }
        None => {
            eprintln!("switch: the same {} lines by {}", wanted.lines().count(), FEATURES.join(", "));
            Ok(())
        }
    }
}

fn run(feature: &str) -> Result<String, Failure> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--package", "pushpull-examples", "--example", "switch"]);
    cargo.args(["--no-default-features", "--features", feature]);
    eprintln!("+ {cargo:?}");
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("{cargo:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{cargo:?} failed: {}", output.status)),
    }
}
