//! What comes of publishing to subscribers, whatever the load.

use std::io;

use hdrhistogram::Histogram;

use crate::{
    meter::Cost,
    report::{Faults, GENERATOR, Run},
    stamp::Stamp,
    subscriber::Received,
};

/// The longest latency that is told as it is, in microseconds.
const LONGEST: u64 = 60_000_000;

/// Latencies, of every event, from before its POST was written, or was due, to the return of the read that brought it.
pub(crate) struct Latency(Histogram<u64>);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) received: Received,
    /// What was wrong with that, or came behind it.
    pub(crate) faults: Faults,
    /// From the first POST to the last event.
    pub(crate) seconds: f64,
    pub(crate) cost: Cost,
    pub(crate) latency: Latency,
}

impl Latency {
    pub(crate) fn new() -> io::Result<Self> {
        Histogram::new_with_bounds(1, LONGEST, 3).map(Self).map_err(io::Error::other)
    }

    /// Notes an event that came at `now`, in nanoseconds of the clock that its stamp was made by.
    pub(crate) fn note(&mut self, stamp: Stamp, now: u64) {
        self.0.saturating_record(now.saturating_sub(stamp.sent) / 1000);
    }

    /// In microseconds, to three digits.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }
}

impl Outcome {
    /// In figures.
    pub(crate) fn told(&self) -> Run {
        let Self { received, faults, seconds, cost, latency } = self;
        let events = received.events as f64;
        Run {
            figures: vec![
                ("deliveries/s", events / seconds),
                ("server CPU s/M deliveries", cost.server_seconds / events * 1e6),
                ("p50 us", latency.quantile(0.5)),
                ("p99 us", latency.quantile(0.99)),
                ("events a read", events / received.reads.max(1) as f64),
                ("server cores", cost.server_seconds / seconds),
                (GENERATOR, cost.own_cores),
                ("bytes a delivery", received.bytes as f64 / events),
            ],
            foreign_cores: cost.foreign_cores,
            faults: *faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_told_in_microseconds() {
        let mut latency = Latency::new().unwrap();
        for sent in [1_000_000, 2_000_000, 3_000_000] {
            latency.note(Stamp { number: 0, sent }, 4_000_000);
        }
        latency.note(Stamp { number: 0, sent: 9 }, 1);
        assert_eq!(
            [0.0, 0.5, 0.75, 1.0].map(|quantile| latency.quantile(quantile)),
            [0.0, 1000.0, 2000.0, 3001.0]
        );
    }

    #[test]
    fn figures_are_by_event() {
        let received = Received { events: 2_000, reads: 500, bytes: 264_000, ..Received::default() };
        let cost = Cost { server_seconds: 1.5, own_cores: 0.5, foreign_cores: 0.0 };
        let latency = Latency::new().unwrap();
        let run =
            Outcome { received, faults: Faults::of(&received, 2_000), seconds: 2.0, cost, latency }.told();
        let figure = |wanted| run.figures.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert_eq!((figure("deliveries/s"), figure("server CPU s/M deliveries")), (1000.0, 750.0));
        assert_eq!((figure("events a read"), figure("bytes a delivery")), (4.0, 132.0));
        assert_eq!((figure("server cores"), figure("generator cores")), (0.75, 0.5));
        assert!(run.faults.is_none());
    }
}
