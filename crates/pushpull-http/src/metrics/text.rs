//! The text formats: Prometheus 0.0.4 and OpenMetrics 1.0.

use std::{fmt::Write, sync::atomic::Ordering::Relaxed};

use super::{BUCKETS, Metrics, Observation, Rejection, process::Process};
use crate::Transport;
use pushpull_core::GapReason;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Exposition {
    /// Prometheus text 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The `Content-Type` of that format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// All families as text. The gauges that only the source knows come from `observed`.
    pub fn render(&self, format: Exposition, observed: Option<&Observation>) -> String {
        let mut page = Page { out: String::with_capacity(4096), format };
        let published = observed.and_then(|observed| observed.published);
        self.render_counts(&mut page, published);
        if let Some(observed) = observed {
            page.observed(observed);
        }
        self.render_histogram(&mut page);
        if let Some(process) = Process::look() {
            page.process(&process);
        }
        page.family("pushpull_build_info", "gauge", "The version that runs.");
        page.labelled("pushpull_build_info", "version", env!("CARGO_PKG_VERSION"), 1);
        if format == Exposition::OpenMetrics {
            page.out.push_str("# EOF\n");
        }
        page.out
    }

    fn render_counts(&self, page: &mut Page, published: Option<u64>) {
        let counters = &self.0;
        page.family("pushpull_connections", "gauge", "Connections and waiting polls.");
        for transport in Transport::ALL {
            let value = self.connections(transport);
            page.labelled("pushpull_connections", "transport", transport.as_str(), value);
        }
        let published = published.unwrap_or_else(|| counters.published.load(Relaxed));
        page.counter("pushpull_published", "Messages published.", published);
        page.family("pushpull_delivered", "counter", "Events written to consumers.");
        for transport in Transport::ALL {
            let value = counters.delivered[transport as usize].load(Relaxed);
            page.labelled("pushpull_delivered_total", "transport", transport.as_str(), value);
        }
        page.family("pushpull_gaps", "counter", "Gaps told to consumers.");
        for (reason, value) in GapReason::ALL.iter().zip(&counters.gaps) {
            page.labelled("pushpull_gaps_total", "reason", reason.as_str(), value.load(Relaxed));
        }
        page.family("pushpull_rejected", "counter", "Requests refused.");
        for (reason, value) in Rejection::ALL.iter().zip(&counters.rejected) {
            page.labelled("pushpull_rejected_total", "reason", reason.as_str(), value.load(Relaxed));
        }
        let conflated = counters.conflated.load(Relaxed);
        page.counter("pushpull_conflated", "Events left out by conflation.", conflated);
    }

    fn render_histogram(&self, page: &mut Page) {
        let name = "pushpull_publish_seconds";
        let histogram = &self.0.publish_seconds;
        page.family(name, "histogram", "Time from a whole publish request to its acknowledgement.");
        let mut count = 0;
        for (at, bucket) in histogram.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = BUCKETS.get(at).map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
            page.labelled("pushpull_publish_seconds_bucket", "le", &bound, count);
        }
        let seconds = histogram.nanos.load(Relaxed) as f64 / 1e9;
        page.line(format_args!("{name}_sum {seconds:?}"));
        page.line(format_args!("{name}_count {count}"));
    }
}

struct Page {
    out: String,
    format: Exposition,
}

impl Page {
    /// The lines before a family's samples. A counter's samples end in `_total`: in OpenMetrics its name
    /// does not, in the older format it does.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let total = if kind == "counter" && self.format == Exposition::Prometheus { "_total" } else { "" };
        self.line(format_args!("# HELP {name}{total} {help}"));
        self.line(format_args!("# TYPE {name}{total} {kind}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.line(format_args!("{name}_total {value}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.line(format_args!("{name} {value}"));
    }

    fn labelled(&mut self, sample: &str, label: &str, value: &str, number: u64) {
        self.line(format_args!("{sample}{{{label}=\"{value}\"}} {number}"));
    }

    fn observed(&mut self, observed: &Observation) {
        self.gauge("pushpull_retained_events", "Events retained.", observed.retained_events);
        self.gauge("pushpull_retained_bytes", "Bytes retained.", observed.retained_bytes);
        self.gauge("pushpull_topics", "Topics known.", observed.topics);
        self.gauge("pushpull_engine_up", "Whether the engine is up.", observed.engine_up.into());
    }

    fn process(&mut self, process: &Process) {
        self.family("process_cpu_seconds", "counter", "CPU time used, user and system.");
        self.line(format_args!("process_cpu_seconds_total {:?}", process.cpu_seconds));
        self.gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes);
        self.gauge("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes);
        self.gauge("process_open_fds", "Open file descriptors.", process.open_fds);
        if let Some(most) = process.max_fds {
            self.gauge("process_max_fds", "Most file descriptors that may be open.", most);
        }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{text}");
    }
}
