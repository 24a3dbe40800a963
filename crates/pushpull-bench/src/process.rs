//! The server as a process: started on a core of its own, and what it costs.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
};

use crate::{
    dialect::Address,
    launch::{Launch, Needs},
};

/// A running server.
pub(crate) struct Server {
    pub(crate) address: Address,
    child: Option<Child>,
}

/// Leaves the first core to the server.
pub(crate) fn pin_to_last_core() {
    if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.last().copied()) {
        core_affinity::set_for_current(core);
    }
}

impl Server {
    /// Starts the server on the first cores, or takes one that runs already.
    pub(crate) fn start(launch: &Launch, needs: &Needs) -> io::Result<Self> {
        let program = &launch.program;
        if let Ok(address) = program.parse::<SocketAddr>() {
            return Ok(Self::at(address.into()));
        }
        let mut child = launch.command(needs)?.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let told = line
            .trim()
            .strip_prefix("listening on http://")
            .and_then(|address| address.parse::<SocketAddr>().ok());
        let Some(address) = told else {
            let _ = child.kill();
            return Err(io::Error::other(format!("{program} did not say where it listens, but {line:?}")));
        };
        Ok(Self { address: address.into(), child: Some(child) })
    }

    /// A server that runs already, and whose cost nobody knows.
    pub(crate) fn at(address: Address) -> Self {
        Self { address, child: None }
    }

    /// CPU seconds it has used, to the nanosecond: those of its threads, none of which ends while it serves.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid()?)).ok()?;
        let nanos = threads.flatten().filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<f64>().ok()
        });
        Some(nanos.sum::<f64>() / 1e9)
    }

    /// Its proportional set size, in bytes.
    pub(crate) fn memory_bytes(&self) -> Option<f64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()?)).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
    }

    fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
