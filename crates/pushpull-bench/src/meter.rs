//! What a run cost, and how far the machine was its own.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::process::Server;

/// Clock ticks a second of `/proc/stat` and `/proc/PID/stat`: 100 on every Linux this runs on.
const TICKS: f64 = 100.0;

/// How long the server is given to end what it does after something short, so that its clock is exact.
pub(crate) const TAIL: Duration = Duration::from_millis(20);

/// Runs from its making to [`Meter::stop`].
pub(crate) struct Meter<'a> {
    server: &'a Server,
    began: Instant,
    spent: Spent,
}

/// CPU seconds up to now.
#[derive(Clone, Copy, Debug)]
struct Spent {
    /// Not a number where the server is not ours.
    server: f64,
    own: f64,
    machine: f64,
}

/// CPU in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Seconds of the server.
    pub(crate) server_seconds: f64,
    /// Cores that were busy with the load generator.
    pub(crate) own_cores: f64,
    /// Cores that were busy with neither server nor load generator.
    pub(crate) foreign_cores: f64,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(server: &'a Server) -> Self {
        Self { server, began: Instant::now(), spent: Spent::now(server) }
    }

    pub(crate) fn stop(&self) -> Cost {
        let (now, then) = (Spent::now(self.server), self.spent);
        let seconds = self.began.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let (server_seconds, own) = (now.server - then.server, now.own - then.own);
        Cost {
            server_seconds,
            own_cores: own / seconds,
            foreign_cores: (now.machine - then.machine - own - server_seconds) / seconds,
        }
    }
}

/// Returns when at most `foreign` cores were busy for a second, or after `patience`.
pub(crate) fn wait_for_quiet(foreign: f64, patience: Duration) {
    let busy = || read("/proc/stat", of_machine) - read("/proc/self/stat", of_process);
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let before = busy();
        thread::sleep(Duration::from_secs(1));
        if busy() - before <= foreign {
            return;
        }
    }
}

impl Spent {
    fn now(server: &Server) -> Self {
        Self {
            server: server.cpu_seconds().unwrap_or(f64::NAN),
            own: read("/proc/self/stat", of_process),
            machine: read("/proc/stat", of_machine),
        }
    }
}

fn read(path: &str, spent: fn(&str) -> Option<f64>) -> f64 {
    fs::read_to_string(path).ok().as_deref().and_then(spent).unwrap_or(f64::NAN)
}

/// `utime` and `stime`, the 14th and 15th field; the second is a name in brackets that may hold anything.
fn of_process(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / TICKS)
}

/// All but `idle` and `iowait` of the first line. Guests are in `user` already.
fn of_machine(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks = line.split_whitespace().take(8).map(str::parse).collect::<Result<Vec<f64>, _>>().ok()?;
    Some((ticks.iter().sum::<f64>() - ticks.get(3)? - ticks.get(4)?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_bracket_in_its_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 90 0 0 0 150 50 0 0 20 0 1 0 9 1 1";
        assert_eq!(of_process(stat), Some(2.0));
        assert_eq!(of_process("7 (a) S 1"), None);
    }

    #[test]
    fn a_machine_is_busy_when_it_is_not_idle() {
        let stat = "cpu  100 20 30 5000 400 1 9 40 77 7\ncpu0 50 10 15 2500 200 1 4 20 0 0\n";
        assert_eq!(of_machine(stat), Some(2.0));
        assert_eq!(of_machine("cpu0 1 2 3 4 5 6 7 8\n"), None);
    }
}
