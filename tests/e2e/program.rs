//! An example's binary, started and stopped as a user would.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running example; killed when dropped.
pub(crate) struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// Where cargo puts the example `name`, if it was built.
pub(crate) fn built(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/PROFILE/deps/TEST and target/PROFILE/examples/NAME.
    let profile = test.ancestors().nth(2).expect("a test lies two folders deep");
    Some(profile.join("examples").join(name)).filter(|path| path.exists())
}

impl Program {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(path(name)).args(arguments))
    }

    /// Starts any command, whose standard output it reads.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = lines(child.stdout.take().expect("standard output is piped"));
        Self { child, lines }
    }

    /// The next line it prints.
    pub(crate) fn line(&self) -> String {
        self.next_line().expect("it prints a line before it ends")
    }

    /// The next line it prints; `None` if it ends before.
    pub(crate) fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it printed no line in time"),
        }
    }

    /// The URL of its line `listening on URL`.
    pub(crate) fn url(&self) -> String {
        let line = self.line();
        let url = line.strip_prefix("listening on ");
        url.unwrap_or_else(|| panic!("not the address: {line}")).to_owned()
    }

    /// Asks it to end, by SIGTERM.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", r#"kill -TERM "$1""#, "sh", &pid]).status();
        assert!(sent.expect("there is a shell").success(), "SIGTERM could not be sent to {pid}");
        self.ended()
    }

    /// Waits for its end; everything it has printed until then may still be read by nobody.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.said().0
    }

    /// Waits for its end; how it ended, and what it printed that was not read yet.
    fn said(&mut self) -> (ExitStatus, String) {
        let mut said = Vec::new();
        // The end of its output is the end of the process, but for the reaping.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    break (self.child.wait().expect("it can be waited for"), said.join("\n"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it did not end in time"),
            }
        }
    }
}

/// Runs the example `name` to its end: the status it exits with, and all that it printed on either output.
pub(crate) fn run(name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let both = ["-c", r#"exec "$0" "$@" 2>&1"#];
    let (status, said) = Program::spawn(Command::new("sh").args(both).arg(path(name)).args(arguments)).said();
    (status.code(), said)
}

fn path(name: &str) -> PathBuf {
    built(name).unwrap_or_else(|| panic!("example `{name}` is not built: cargo build --workspace --examples"))
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
