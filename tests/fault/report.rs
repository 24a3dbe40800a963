//! What a run showed.

use std::{fmt, time::Duration};

use pushpull_testkit::history::{Record, Violation};

use crate::{
    board::{Steps, is_down},
    consumer::Told,
    settings::Settings,
    way::Way,
    weather::Tally,
};

/// The outcome of a run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) settings: Settings,
    pub(super) rows: Vec<Row>,
    pub(super) published: u64,
    /// Events that came by poll to those who take webhooks.
    pub(super) polled: usize,
    pub(super) faults: Tally,
    pub(super) steps: Steps,
    pub(super) violations: Vec<Violation>,
    pub(super) took: Duration,
}

/// What the consumers of one way were told.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) way: Way,
    pub(super) consumers: usize,
    pub(super) deliveries: usize,
    pub(super) reconnects: usize,
    pub(super) returns: usize,
    pub(super) gaps: usize,
    pub(super) violations: usize,
}

impl Row {
    pub(super) fn of(way: Way, told: &[Told], violations: &[Violation]) -> Self {
        let mut row =
            Self { way, consumers: 0, deliveries: 0, reconnects: 0, returns: 0, gaps: 0, violations: 0 };
        for told in told.iter().filter(|told| told.way == way) {
            let broken = told.session.records.iter().filter(|record| matches!(record, Record::Broken));
            row.consumers += 1;
            row.deliveries += told.session.events();
            row.reconnects += broken.count();
            row.returns += told.returns;
            row.gaps += told.session.gaps().count();
            row.violations +=
                violations.iter().filter(|violation| blames(violation, &told.session.name)).count();
        }
        row
    }
}

/// Whether `violation` speaks of the consumer of this name.
pub(super) fn blames(violation: &Violation, name: &str) -> bool {
    match violation {
        Violation::Unasked { session, .. }
        | Violation::Fell { session, .. }
        | Violation::Repeated { session, .. }
        | Violation::Missing { session, .. }
        | Violation::PlaceAhead { session, .. }
        | Violation::GapForNothing { session, .. }
        | Violation::BrokenChain { session, .. }
        | Violation::Behind { session, .. }
        | Violation::NoFirstWord { session, .. }
        | Violation::TornSnapshot { session, .. } => &**session == name,
        _ => false,
    }
}

impl Report {
    fn steps_of(&self, way: Way) -> (usize, usize) {
        let steps =
            |down| self.steps.iter().filter(move |(step, _)| is_down(**step) == down).map(|(_, count)| count);
        match way {
            Way::Fallback => (steps(true).sum(), steps(false).sum()),
            _ => (0, 0),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.settings)?;
        writeln!(
            f,
            "{} published, {:.1} s in all, faults: {:?}",
            self.published,
            self.took.as_secs_f64(),
            self.faults
        )?;
        let names =
            ["way", "consumers", "deliveries", "reconnects", "returns", "down", "up", "gaps", "violations"];
        names.iter().try_for_each(|name| write!(f, "{name:>11}"))?;
        for row in &self.rows {
            let (down, up) = self.steps_of(row.way);
            write!(f, "\n{:>11}", row.way.name())?;
            let Row { consumers, deliveries, reconnects, returns, gaps, violations, .. } = row;
            let numbers = [consumers, deliveries, reconnects, returns, &down, &up, gaps, violations];
            numbers.iter().try_for_each(|number| write!(f, "{number:>11}"))?;
        }
        write!(f, "\nhybrid, by poll: {}", self.polled)?;
        for ((from, to), count) in &self.steps {
            write!(f, "\n{from} to {to}: {count}")?;
        }
        self.violations.iter().take(20).try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}
