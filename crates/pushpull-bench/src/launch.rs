//! How the server is started: its flags and its cores.

use std::{env, io, path::Path, process::Command, thread};

use crate::tls::Identity;

/// How the server is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Its program, or IP address and port of one that runs already.
    pub(crate) program: String,
    /// Worker threads, each on a core of its own while there are cores.
    pub(crate) workers: usize,
    /// Flags that are handed on as they are, and stand above what a figure needs.
    pub(crate) flags: Vec<String>,
    /// What it shows where it is reached over TLS.
    pub(crate) tls: Option<&'static Identity>,
    /// Whether deflated messages are asked for, where that is nothing a server does unasked.
    pub(crate) deflates: bool,
}

/// Flags of the hub that a figure needs, each with the least value that will do.
pub(crate) type Needs = Vec<(&'static str, u64)>;

/// What every figure needs.
const ALWAYS: (&str, u64) = ("--retain-messages", 20_000);

/// What so many connections need, where it is more than the hub allows by itself.
pub(crate) fn room_for(connections: usize) -> Needs {
    const ALLOWED: u64 = 10_000;
    let connections = connections as u64 + 64;
    if connections > ALLOWED { vec![("--max-connections", connections)] } else { Vec::new() }
}

impl Launch {
    /// The command that starts it, on the first cores.
    ///
    /// # Errors
    ///
    /// There is no such program.
    pub(crate) fn command(&self, needs: &Needs) -> io::Result<Command> {
        if !is_program(&self.program) {
            let program = &self.program;
            return Err(io::Error::other(format!(
                "no such program: {program}; cargo build --release -p pushpull-examples --example hub"
            )));
        }
        let mut command = taskset();
        command.args(self.arguments(needs, thread::available_parallelism()?.get()));
        Ok(command)
    }

    /// What `taskset` is given on a machine of so many `cores`.
    fn arguments(&self, needs: &Needs, cores: usize) -> Vec<String> {
        let last = self.workers.clamp(1, cores.max(1)) - 1;
        let own = ["-c", &format!("0-{last}"), &self.program, "--listen", "127.0.0.1:0", "--workers"];
        let mut arguments = own.map(str::to_owned).to_vec();
        arguments.push(self.workers.to_string());
        arguments.extend(self::arguments(needs, &self.flags));
        arguments
    }
}

/// `taskset`, which puts a program on cores. The program is told to end when this one ends by whatever, a signal that
/// cannot be caught too, where util-linux has `setpriv`; it must be started by a thread that stays, such as the first.
pub(crate) fn taskset() -> Command {
    if !is_program("setpriv") {
        return Command::new("taskset");
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset"]);
    command
}

/// Whether there is a program of this name: at that path, or in a folder of `PATH` where it is a bare name.
fn is_program(name: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    let is_in = |folder: &Path| folder.join(name).is_file();
    match name.contains('/') {
        true => is_in(Path::new("")),
        false => env::split_paths(&folders).any(|folder| is_in(&folder)),
    }
}

/// What is needed, by a figure and by all, but for what is said by `flags`, and then those.
pub(crate) fn arguments(needs: &Needs, flags: &[String]) -> Vec<String> {
    let has = |name: &str| flags.iter().any(|flag| flag.split('=').next() == Some(name));
    let always = Some(ALWAYS).filter(|(name, _)| !needs.iter().any(|(needed, _)| needed == name));
    let needed = needs.iter().copied().chain(always).filter(|(name, _)| !has(name));
    let needed = needed.flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
    needed.chain(flags.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(workers: usize, flags: &[&str], needs: &Needs) -> String {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Launch { program: "hub".to_owned(), workers, flags, tls: None, deflates: false }
            .arguments(needs, 2)
            .join(" ")
    }

    #[test]
    fn a_worker_has_a_core_while_there_are_cores() {
        let started = |cores| format!("-c 0-{cores} hub --listen 127.0.0.1:0 --workers");
        assert_eq!(arguments(1, &[], &vec![]), started(0) + " 1 --retain-messages 20000");
        assert_eq!(arguments(2, &[], &vec![]), started(1) + " 2 --retain-messages 20000");
        assert_eq!(arguments(8, &[], &vec![]), started(1) + " 8 --retain-messages 20000");
    }

    #[test]
    fn a_program_is_at_its_path_or_in_a_folder_of_programs() {
        let is = ["sh", "/bin/sh", "no-such-program", "/bin/no-such-program", "/bin", "", "src/launch.rs"];
        assert_eq!(is.map(is_program), [true, true, false, false, false, false, true]);
    }

    #[test]
    fn what_is_said_stands_above_what_is_needed() {
        let needs = vec![("--retain-messages", 50_000), ("--max-connections", 15_100)];
        let told = arguments(1, &[], &needs);
        assert!(told.ends_with(" --retain-messages 50000 --max-connections 15100"), "{told}");
        let told = arguments(1, &["--max-connections=9", "--drain", "1"], &needs);
        assert!(told.ends_with(" 1 --retain-messages 50000 --max-connections=9 --drain 1"), "{told}");
        let told = arguments(1, &["--retain-messages", "7"], &vec![]);
        assert!(told.ends_with(" --workers 1 --retain-messages 7"), "{told}");
    }
}
