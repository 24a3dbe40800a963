//! What is measured: one topic a metric, one key a core, disk or interface.

use std::{collections::BTreeMap, time::Instant};

use pushpull::{Message, Topic};
use serde::Serialize;
use serde_json::{Value, json};
use sysinfo::{Disks, Networks, System};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads the machine's counters. All readings of one sample bear the same number.
pub(crate) struct Sampler {
    system: System,
    disks: Disks,
    networks: Networks,
    last: Instant,
    sample: u64,
}

impl Sampler {
    pub(crate) fn new() -> Self {
        Self {
            system: System::new_all(),
            disks: Disks::new_with_refreshed_list(),
            networks: Networks::new_with_refreshed_list(),
            last: Instant::now(),
            sample: 0,
        }
    }

    /// The readings since the last call. May wait for a disk.
    pub(crate) fn take(&mut self) -> Result<Vec<(Topic, Vec<Message>)>, Failure> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(true);
        self.networks.refresh(true);
        let seconds = self.last.elapsed().as_secs_f64().max(0.001);
        self.last = Instant::now();
        self.sample += 1;
        [
            ("host.cpu", self.cpu()),
            ("host.memory", self.memory()),
            ("host.load", load()),
            ("host.disk", self.disk(seconds)),
            ("host.network", self.network(seconds)),
        ]
        .into_iter()
        .filter(|(_, readings)| !readings.is_empty())
        .map(|(topic, readings)| Ok((topic.parse()?, self.messages(readings)?)))
        .collect()
    }

    /// Percent busy, of all cores together (`all`) and of each.
    fn cpu(&self) -> BTreeMap<String, Value> {
        let cores = self.system.cpus().iter().enumerate();
        let mut readings: BTreeMap<_, _> =
            cores.map(|(n, core)| (format!("cpu{n}"), json!({"busy": tenths(core.cpu_usage())}))).collect();
        readings.insert("all".to_owned(), json!({"busy": tenths(self.system.global_cpu_usage())}));
        readings
    }

    /// Bytes.
    fn memory(&self) -> BTreeMap<String, Value> {
        let system = &self.system;
        let mut readings = BTreeMap::new();
        readings
            .insert("ram".to_owned(), json!({"used": system.used_memory(), "total": system.total_memory()}));
        if system.total_swap() > 0 {
            readings
                .insert("swap".to_owned(), json!({"used": system.used_swap(), "total": system.total_swap()}));
        }
        readings
    }

    /// Bytes, and bytes a second; a disk that is mounted twice counts once.
    fn disk(&self, seconds: f64) -> BTreeMap<String, Value> {
        let real = self.disks.iter().filter(|disk| disk.total_space() > 0 && !disk.name().is_empty());
        real.map(|disk| {
            let usage = disk.usage();
            let reading = json!({
                "used": disk.total_space().saturating_sub(disk.available_space()),
                "total": disk.total_space(),
                "read": a_second(usage.read_bytes, seconds),
                "written": a_second(usage.written_bytes, seconds),
            });
            (disk.name().to_string_lossy().into_owned(), reading)
        })
        .collect()
    }

    /// Bytes a second.
    fn network(&self, seconds: f64) -> BTreeMap<String, Value> {
        let interfaces = self.networks.iter();
        interfaces
            .map(|(name, counters)| {
                let received = a_second(counters.received(), seconds);
                let sent = a_second(counters.transmitted(), seconds);
                (name.clone(), json!({"received": received, "sent": sent}))
            })
            .collect()
    }

    fn messages(&self, readings: BTreeMap<String, Value>) -> Result<Vec<Message>, Failure> {
        let readings = readings.into_iter();
        readings
            .map(|(key, reading)| {
                let reading = Reading { sample: self.sample, reading };
                Ok(Message::json(&reading)?.with_key(key))
            })
            .collect()
    }
}

#[derive(Serialize)]
struct Reading {
    sample: u64,
    #[serde(flatten)]
    reading: Value,
}

/// Runnable processes, averaged over 1, 5 and 15 minutes.
fn load() -> BTreeMap<String, Value> {
    let load = System::load_average();
    let reading = json!({"one": load.one, "five": load.five, "fifteen": load.fifteen});
    BTreeMap::from([("average".to_owned(), reading)])
}

fn tenths(percent: f32) -> f64 {
    (f64::from(percent) * 10.0).round() / 10.0
}

fn a_second(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds).round() as u64
}
