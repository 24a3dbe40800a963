//! Instructions of hot functions, counted by callgrind: time is noisy, these are not.
//!
//! Each function runs twice, the second time with twice the operations. What lies between the two counts is what the
//! operations take, without what comes before and after them.

mod table;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{Failure, setup};
use table::{Row, Verdict};

/// The committed counts.
const TABLE: &str = "crates/xtask/instructions.tsv";
/// Where callgrind's profiles are left, for `callgrind_annotate`.
const PROFILES: &str = "target/instructions";

/// Whether to hold the counts to the table, or the table to the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Compare,
    Bless,
}

impl Purpose {
    /// By the arguments of the chore.
    pub(crate) fn given(arguments: &[String]) -> Result<Self, Failure> {
        match arguments {
            [] => Ok(Self::Compare),
            [flag] if flag == "--bless" => Ok(Self::Bless),
            _ => Err("usage: cargo xtask instructions [--bless]".to_owned()),
        }
    }
}

/// Counts, prints, and compares or rewrites the table.
pub(crate) fn run(purpose: Purpose) -> Result<(), Failure> {
    setup::program("valgrind", "counts instructions")?;
    let text = fs::read_to_string(TABLE).map_err(|error| format!("{TABLE}: {error}"))?;
    let mut rows = table::parse(&text)?;
    let program = build()?;
    fs::create_dir_all(PROFILES).map_err(|error| format!("{PROFILES}: {error}"))?;
    let mut verdicts = Vec::new();
    eprintln!("{:<20} {:>12} {:>12} {:>8}", "function", "instructions", "table", "change");
    for row in &mut rows {
        let counted = per_operation(&program, row)?;
        let verdict = match purpose {
            Purpose::Compare => row.judge(counted),
            Purpose::Bless => Verdict::Within,
        };
        let change = row.change(counted);
        eprintln!("{:<20} {counted:>12} {:>12} {change:>7.1}%  {verdict}", row.name, row.count);
        match purpose {
            Purpose::Bless => row.count = counted,
            Purpose::Compare => verdicts.push((row.name.clone(), verdict)),
        }
    }
    if purpose == Purpose::Bless {
        return fs::write(TABLE, table::write(&text, &rows)).map_err(|error| format!("{TABLE}: {error}"));
    }
    held(&verdicts)
}

/// Fails on what lies outside the table on either side: a table that is too high would let the same be lost again
/// unseen.
fn held(verdicts: &[(String, Verdict)]) -> Result<(), Failure> {
    let names = |wanted| {
        let those = verdicts.iter().filter(|(_, verdict)| *verdict == wanted);
        those.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (above, below) = (names(Verdict::Above), names(Verdict::Below));
    let mut faults = Vec::new();
    if !above.is_empty() {
        faults.push(format!(
            "more instructions than {TABLE} allows: {above}; `callgrind_annotate {PROFILES}/NAME.out` says where; \
             what is meant to cost more is put there by `cargo xtask instructions --bless`"
        ));
    }
    if !below.is_empty() {
        faults.push(format!(
            "fewer instructions than {TABLE} says: {below}; keep the gain: run `cargo xtask instructions --bless`"
        ));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Builds the program as it is benchmarked, and returns its path.
fn build() -> Result<PathBuf, Failure> {
    let arguments = ["bench", "--no-run", "--quiet", "--package", "pushpull-ws", "--bench", "instructions"];
    eprintln!("+ cargo {}", arguments.join(" "));
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).args(["--message-format", "json-render-diagnostics"]);
    let output = cargo.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo bench: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo bench: {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut paths = built.filter(|message| message["target"]["name"] == "instructions");
    let path = paths.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.ok_or_else(|| "cargo bench has not built `instructions`".to_owned())
}

fn per_operation(program: &Path, row: &Row) -> Result<u64, Failure> {
    let few = count(program, row, row.operations)?;
    let many = count(program, row, row.operations * 2)?;
    Ok(many.saturating_sub(few) / row.operations)
}

/// Instructions of the whole program.
fn count(program: &Path, row: &Row, operations: u64) -> Result<u64, Failure> {
    let out = format!("--callgrind-out-file={PROFILES}/{}.out", row.name);
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", &out]).arg(program).args([&row.name, &operations.to_string()]);
    // Paths and names of the environment lie on the stack, and move what is measured.
    valgrind.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    let output = valgrind.output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match collected(&said) {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("valgrind, {} {operations}: {}\n{said}", row.name, output.status)),
    }
}

/// What callgrind says in a line as `==7== Collected : 123456`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_says_is_read() {
        let said = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n==7== I   refs:      123,456\n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("==7== Collected : \n"), None);
    }

    #[test]
    fn what_is_outside_the_table_on_either_side_fails() {
        let judged = |verdicts: &[(&str, Verdict)]| {
            held(&verdicts.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect::<Vec<_>>())
        };
        assert_eq!(judged(&[("append", Verdict::Within)]), Ok(()));
        let above = judged(&[("append", Verdict::Within), ("push", Verdict::Above)]).unwrap_err();
        assert!(above.contains("allows: push;") && !above.contains("fewer"), "{above}");
        let below = judged(&[("append", Verdict::Below), ("push", Verdict::Below)]).unwrap_err();
        assert!(below.contains("says: append, push; ") && !below.contains("more"), "{below}");
        assert!(below.contains("run `cargo xtask instructions --bless`"), "{below}");
        let both = judged(&[("append", Verdict::Below), ("push", Verdict::Above)]).unwrap_err();
        assert!(both.contains("allows: push;") && both.contains("says: append;"), "{both}");
    }

    #[test]
    fn arguments_say_the_purpose() {
        let given = |arguments: &[&str]| {
            Purpose::given(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(given(&[]), Ok(Purpose::Compare));
        assert_eq!(given(&["--bless"]), Ok(Purpose::Bless));
        assert!(given(&["--blest"]).is_err());
    }
}
