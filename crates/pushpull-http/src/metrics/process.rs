//! What the operating system says of this process. Linux only; elsewhere its families are left out.

/// Memory, CPU time and descriptors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: Option<u64>,
}

#[cfg(target_os = "linux")]
impl Process {
    /// As of now; `None` if `/proc` cannot be read.
    pub(super) fn look() -> Option<Self> {
        use procfs::{WithCurrentSystemInfo, process::LimitValue};

        let process = procfs::process::Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let most = process.limits().ok().map(|limits| limits.max_open_files.soft_limit);
        Some(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            resident_bytes: stat.rss_bytes().get(),
            virtual_bytes: stat.vsize,
            open_fds: process.fd_count().ok()? as u64,
            max_fds: match most? {
                LimitValue::Value(most) => Some(most),
                LimitValue::Unlimited => None,
            },
        })
    }
}

#[cfg(not(target_os = "linux"))]
impl Process {
    pub(super) fn look() -> Option<Self> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen_as_it_is() {
        let before = Process::look().unwrap();
        let files: Vec<_> = (0..32).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = Process::look().unwrap();
        assert!(after.open_fds >= before.open_fds + 32, "{} then {}", before.open_fds, after.open_fds);
        drop(files);
        assert!(after.virtual_bytes > after.resident_bytes && after.resident_bytes > 100_000);
        assert!(after.cpu_seconds >= before.cpu_seconds);
        assert!(after.max_fds.is_none_or(|most| most >= after.open_fds));
    }
}
