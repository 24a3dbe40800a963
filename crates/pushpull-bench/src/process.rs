//! The server as a process: started on a core of its own, and what it costs.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use crate::{
    compare::Peer,
    dialect::{Address, Dialect},
    folder::Folder,
    launch::{Launch, Needs},
    said::Said,
    tls::Identity,
};

/// A running server.
pub(crate) struct Server {
    pub(crate) address: Address,
    process: Option<Process>,
}

/// A program of ours, which ends with this.
struct Process {
    child: Child,
    /// A folder made for it. A server that has one also has children, and is told to end them.
    folder: Option<Folder>,
}

/// Leaves the first core to the server.
pub(crate) fn pin_to_last_core() {
    if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.last().copied()) {
        core_affinity::set_for_current(core);
    }
}

impl Server {
    /// Starts the server on the first cores, or takes one that runs already. By the name of a [`Peer`] it is that.
    pub(crate) fn start(launch: &Launch, needs: &Needs) -> io::Result<Self> {
        if let Ok(address) = launch.program.parse::<SocketAddr>() {
            let known = launch.tls.is_none().then(|| Self::at(address.into()));
            return known.ok_or_else(|| io::Error::other("`--tls` trusts no server that runs already"));
        }
        match Peer::named(&launch.program) {
            Some(peer) => peer.start(launch, needs),
            None => Self::launch(&mut launch.command(needs)?, Dialect::Pushpull, launch.tls),
        }
    }

    /// Starts a program that says where it listens. What it shows over TLS it is given in files, which are there until
    /// it listens.
    pub(crate) fn launch(
        command: &mut Command,
        dialect: Dialect,
        tls: Option<&'static Identity>,
    ) -> io::Result<Self> {
        let files = tls.map(Identity::files).transpose()?;
        if let Some(files) = &files {
            command.arg("--tls-cert").arg(files.certificate()).arg("--tls-key").arg(files.key());
        }
        let said = Said::by(command)?;
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", command.get_program().display()))
        })?;
        let stdout = child.stdout.take();
        let process = Process { child, folder: None };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let Some(socket) = told(&line, tls.is_some()) else {
            // Whatever it is at, it has come to an end before it is asked what it said.
            drop(process);
            return Err(silent(command, &line, &said.told()));
        };
        Ok(Self { address: Address { socket, dialect, tls }, process: Some(process) })
    }

    /// Takes over a program that has children, and the `folder` that was made for it.
    pub(crate) fn of(child: Child, folder: Folder, address: Address) -> Self {
        Self { address, process: Some(Process { child, folder: Some(folder) }) }
    }

    /// A server that runs already, and whose cost nobody knows.
    pub(crate) fn at(address: Address) -> Self {
        Self { address, process: None }
    }

    /// Whether its program runs; one that is not ours does.
    pub(crate) fn is_running(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_none_or(|process| matches!(process.child.try_wait(), Ok(None)))
    }

    /// CPU seconds it has used, to the nanosecond: those of all threads of it and its children, none of which ends
    /// while it serves.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        self.sum(|pid| {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let nanos = threads.flatten().filter_map(|thread| {
                let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
                stat.split(' ').next()?.parse::<f64>().ok()
            });
            Some(nanos.sum::<f64>() / 1e9)
        })
    }

    /// The proportional set size of it and its children, in bytes.
    pub(crate) fn memory_bytes(&self) -> Option<f64> {
        self.sum(|pid| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
            Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
        })
    }

    /// Something of it and its children, together.
    fn sum(&self, each: impl Fn(u32) -> Option<f64>) -> Option<f64> {
        family(self.process.as_ref()?.child.id()).into_iter().map(each).sum()
    }
}

/// Where a server listens, by the line that says so.
fn told(line: &str, is_tls: bool) -> Option<SocketAddr> {
    let scheme = if is_tls { "https" } else { "http" };
    let url = line.trim().strip_prefix("listening on ")?.strip_prefix(scheme)?;
    url.strip_prefix("://")?.parse().ok()
}

/// A program did not say where it listens, but something else, or nothing at all.
fn silent(command: &Command, line: &str, said: &str) -> io::Error {
    // What it is put on cores by says nothing.
    let own = command.get_args().skip_while(|argument| *argument != "-c").skip(2);
    let arguments: Vec<_> = own.map(OsStr::to_string_lossy).collect();
    let mut text = format!("the server does not start: {}", arguments.join(" "));
    for said in [line.trim(), said].into_iter().filter(|said| !said.is_empty()) {
        text.push('\n');
        text.push_str(said);
    }
    io::Error::other(text)
}

/// A process and all that came of it.
fn family(pid: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(pid) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
        at += 1;
    }
    family
}

/// The fourth field; the second is a name in brackets that may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

impl Drop for Process {
    fn drop(&mut self) {
        let tell = |pid: u32| Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        let is_told = self.folder.is_some() && tell(self.child.id()).is_ok_and(|status| status.success());
        if !is_told {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_children() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'echo here; read line; true'; true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let found = family(shell.id());
        assert_eq!((found.len(), found[0]), (2, shell.id()));
        assert_eq!(parent(found[1]), Some(shell.id()));
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
