//! The repository's chores: `cargo xtask test`, `cargo xtask check`, `cargo xtask loom`, and parts of `check`.

mod arrows;
mod features;
mod instructions;
#[cfg(test)]
mod scale;
mod setup;
mod switch;
mod trees;

use std::{
    env,
    process::{Command, ExitCode},
};

/// What went wrong, for people.
type Failure = String;

const USAGE: &str = "usage: cargo xtask <chore>
  test    installs what the tests need and is missing, then runs all of them
  check   formatting, lints, docs, features, dependencies, the layers' arrows, instructions, and what `loom` does
  loom    every interleaving of the wake-up protocol's model
parts of check:
  features  every one and every two transports build, for each side
  trees     every one and every two transports bring no other's dependencies
  instructions [--bless]  hot functions take no more instructions than the table says; or writes the table";

fn main() -> ExitCode {
    let chore = env::args().nth(1).unwrap_or_default();
    let further: Vec<String> = env::args().skip(2).collect();
    let done = match chore.as_str() {
        "test" => test(),
        "check" => check(),
        "loom" => loom(),
        "features" => features::check(),
        "trees" => trees::check(),
        "instructions" => instructions::Purpose::given(&further).and_then(instructions::run),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), Failure> {
    setup::tool("nextest", "cargo-nextest", "0.9.143", "runs the tests")?;
    setup::programs()?;
    run("cargo", &["test", "--workspace", "--all-features", "--doc", "--quiet"])?;
    switch::compare()?;
    run("cargo", &["build", "--workspace", "--all-features", "--examples"])?;
    let tests = ["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"];
    let mut cargo = Command::new("cargo");
    cargo.args(tests).env("PUSHPULL_PYTHON", setup::oracles()?);
    cargo.env("PUSHPULL_REQUIRE", "chromium,grpcio,openssl,standardwebhooks");
    finish(&mut cargo, &format!("cargo {}", tests.join(" ")))
}

fn check() -> Result<(), Failure> {
    setup::tool("deny", "cargo-deny", "0.20.2", "checks licences and sources")?;
    arrows::check()?;
    trees::check()?;
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])?;
    run_with("RUSTDOCFLAGS", "-D warnings", &["doc", "--workspace", "--no-deps", "--all-features"])?;
    features::check()?;
    instructions::run(instructions::Purpose::Compare)?;
    loom()?;
    run("cargo", &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
}

fn loom() -> Result<(), Failure> {
    let arguments = ["test", "--package", "pushpull-core", "--lib", "loom", "--target-dir", "target/loom"];
    run_with("RUSTFLAGS", "--cfg pushpull_loom", &arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    finish(Command::new(program).args(arguments), &format!("{program} {}", arguments.join(" ")))
}

fn run_with(variable: &str, value: &str, arguments: &[&str]) -> Result<(), Failure> {
    let shown = format!("{variable}={value:?} cargo {}", arguments.join(" "));
    finish(Command::new("cargo").args(arguments).env(variable, value), &shown)
}

fn finish(command: &mut Command, shown: &str) -> Result<(), Failure> {
    eprintln!("+ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` failed: {status}")),
        Err(error) => Err(format!("`{shown}` could not be started: {error}")),
    }
}
