//! Runs and how they are told.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::subscriber::Received;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// By name, in the order in which they are told; the same in every run of a figure.
    pub(crate) figures: Vec<(&'static str, f64)>,
    /// Cores that were busy with something else meanwhile. Below zero by the clocks' grain.
    pub(crate) foreign_cores: f64,
    pub(crate) faults: Faults,
}

impl Run {
    /// Whether at most `foreign` cores were busy with something else, or nobody can know.
    pub(crate) fn is_quiet(&self, foreign: f64) -> bool {
        self.foreign_cores.is_nan() || self.foreign_cores <= foreign
    }
}

/// A figure of several runs; null where nothing could be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) median: Option<f64>,
    pub(crate) least: Option<f64>,
    pub(crate) most: Option<f64>,
}

impl Figure {
    /// The median with its range, if there is one.
    pub(crate) fn ranged(&self) -> Option<String> {
        let [median, least, most] = [self.median?, self.least?, self.most?].map(told);
        Some(format!("{median} ({least}–{most})"))
    }
}

/// What must not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    missing: u64,
    more_than_sent: u64,
    out_of_order: u64,
    garbled: u64,
    closed: u64,
}

impl Faults {
    /// Judges what was received where `expected` events had to come.
    pub(crate) fn of(received: &Received, expected: u64) -> Self {
        Self {
            missing: expected.saturating_sub(received.events),
            more_than_sent: received.events.saturating_sub(expected),
            out_of_order: received.out_of_order,
            garbled: received.garbled,
            closed: received.closed,
        }
    }

    /// Counts what else did not come.
    pub(crate) fn add_missing(&mut self, number: u64) {
        self.missing += number;
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// The `most` runs with the least foreign load, whatever they came to.
pub(crate) fn quietest(mut runs: Vec<Run>, most: usize) -> Vec<Run> {
    runs.sort_by(|one, other| one.foreign_cores.total_cmp(&other.foreign_cores));
    runs.truncate(most);
    runs
}

/// The names of all figures and their values, one line each: median, least, most.
pub(crate) fn lines(runs: &[Run]) -> String {
    let mut text = String::new();
    for (name, values) in columns(runs) {
        let (least, most) = (values[0], values[values.len() - 1]);
        let _ = write!(text, "{name:<28} {:>12}", told(median(&values)));
        let _ = match least.is_finite() && most.is_finite() {
            true => writeln!(text, "   ({} to {})", told(least), told(most)),
            false => writeln!(text),
        };
    }
    text
}

/// How many cores the load generator had, where so many leave nobody sure that the server was the limit: its own core
/// is the only one it runs on.
pub(crate) fn busy_generator(runs: &[Run]) -> Option<f64> {
    const BUSY: f64 = 0.9;
    let (_, cores) = columns(runs).into_iter().find(|(name, _)| *name == GENERATOR)?;
    Some(median(&cores)).filter(|cores| *cores >= BUSY)
}

/// A row of a Markdown table: the label, medians (the first with its range), and the foreign load of each run.
pub(crate) fn row(label: &str, runs: &[Run]) -> String {
    let mut cells = vec![label.to_owned()];
    for (at, (name, values)) in columns(runs).into_iter().enumerate() {
        cells.push(match (at, name) {
            (0, _) => {
                let range = [values[0], values[values.len() - 1]].map(told);
                format!("{} ({}–{})", told(median(&values)), range[0], range[1])
            }
            (_, FOREIGN) => values.iter().copied().map(told).collect::<Vec<_>>().join("/"),
            _ => told(median(&values)),
        });
    }
    format!("| {} |", cells.join(" | "))
}

/// Medians and every run. What could not be measured is null.
pub(crate) fn json(label: &str, runs: &[Run]) -> Value {
    let medians = columns(runs).into_iter().map(|(name, values)| (name.to_owned(), json!(median(&values))));
    let runs: Vec<Value> = runs
        .iter()
        .map(|run| {
            let figures = run.figures.iter().copied().chain([(FOREIGN, run.foreign_cores)]);
            let mut object: Map<String, Value> =
                figures.map(|(name, value)| (name.to_owned(), json!(value))).collect();
            object.insert("faults".to_owned(), json!(format!("{:?}", run.faults)));
            Value::Object(object)
        })
        .collect();
    json!({ "figure": label, "median": Map::from_iter(medians), "runs": runs })
}

/// Each figure of several runs together.
pub(crate) fn figures(runs: &[Run]) -> Vec<Figure> {
    let some = |value: f64| Some(value).filter(|value| value.is_finite());
    let figure = |(name, values): (&str, Vec<f64>)| {
        let (least, most) = (values[0], values[values.len() - 1]);
        Figure { name: name.to_owned(), median: some(median(&values)), least: some(least), most: some(most) }
    };
    columns(runs).into_iter().map(figure).collect()
}

/// What stands where nothing could be measured.
pub(crate) const UNTOLD: &str = "–";
pub(crate) const FOREIGN: &str = "foreign cores";
pub(crate) const GENERATOR: &str = "generator cores";

/// Each figure's values, from the least to the most.
fn columns(runs: &[Run]) -> Vec<(&'static str, Vec<f64>)> {
    let Some(first) = runs.first() else { return Vec::new() };
    let sorted = |value: &dyn Fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let figures = first.figures.iter().enumerate();
    let mut columns: Vec<_> =
        figures.map(|(at, (name, _))| (*name, sorted(&|run| run.figures[at].1))).collect();
    columns.push((FOREIGN, sorted(&|run| run.foreign_cores)));
    columns
}

/// The one in the middle, of two the lesser.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    sorted[(sorted.len() - 1) / 2]
}

/// A figure, to two places where it is small; a dash where nothing could be measured.
pub(crate) fn told(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => UNTOLD.to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: f64, second: f64, foreign_cores: f64) -> Run {
        Run { figures: vec![("a/s", first), ("b", second)], foreign_cores, faults: Faults::default() }
    }

    fn runs() -> Vec<Run> {
        vec![run(300.0, 1.0, 0.5), run(100.0, 9.0, 0.25), run(200.0, 2.0, 0.0)]
    }

    #[test]
    fn a_row_has_each_figures_own_median() {
        assert_eq!(row("x", &runs()), "| x | 200 (100–300) | 2.00 | 0.00/0.25/0.50 |");
        assert_eq!(row("x", &runs()[..1]), "| x | 300 (300–300) | 1.00 | 0.50 |");
    }

    #[test]
    fn lines_have_the_range() {
        assert_eq!(
            lines(&runs()).lines().next().unwrap(),
            "a/s                                   200   (100 to 300)"
        );
    }

    #[test]
    fn what_nobody_could_measure_is_a_dash() {
        let untold = [run(1.0, f64::NAN, f64::NAN), run(2.0, f64::NAN, f64::NAN)];
        assert_eq!(row("x", &untold), "| x | 1.00 (1.00–2.00) | – | –/– |");
        let rows: Vec<String> = lines(&untold).lines().map(str::to_owned).collect();
        assert_eq!(rows[1].split_whitespace().collect::<Vec<_>>(), ["b", "–"]);
        assert_eq!(rows[2].split_whitespace().collect::<Vec<_>>(), ["foreign", "cores", "–"]);
        assert_eq!([f64::INFINITY, -250.4, 99.0].map(told), ["–", "-250", "99.00"]);
    }

    #[test]
    fn json_tells_nothing_where_nothing_was_measured() {
        let told = json("x", &[run(1.0, f64::NAN, 0.0)]);
        assert_eq!(told["median"]["a/s"], 1.0);
        assert_eq!(told["runs"][0]["b"], Value::Null);
    }

    #[test]
    fn a_figure_has_its_median_and_range_or_none() {
        let told = figures(&[run(1.0, f64::NAN, 0.0), run(4.0, f64::NAN, 0.0), run(2.0, f64::NAN, 0.0)]);
        let figure = |name: &str, [median, least, most]: [Option<f64>; 3]| Figure {
            name: name.to_owned(),
            median,
            least,
            most,
        };
        assert_eq!(told[..2], [figure("a/s", [2.0, 1.0, 4.0].map(Some)), figure("b", [None; 3])]);
        let two = figures(&runs()[..2]);
        assert_eq!(two[0], figure("a/s", [100.0, 100.0, 300.0].map(Some)), "of two the lesser");
    }

    #[test]
    fn the_quietest_runs_are_kept_whatever_they_came_to() {
        let kept = quietest(runs(), 2);
        assert!(kept[1].is_quiet(0.25) && !kept[1].is_quiet(0.2));
        assert_eq!(kept.iter().map(|run| run.figures[0].1).collect::<Vec<_>>(), [200.0, 100.0]);
    }

    #[test]
    fn a_busy_generator_is_told_of() {
        let cores = |cores: [f64; 3]| {
            let run = |cores| Run { figures: vec![(GENERATOR, cores)], ..run(0.0, 0.0, 0.0) };
            busy_generator(&cores.map(run))
        };
        assert_eq!(cores([0.99, 0.5, 0.97]), Some(0.97));
        assert_eq!(cores([0.99, 0.5, 0.89]), None);
        assert_eq!(busy_generator(&runs()), None);
    }

    #[test]
    fn every_fault_is_one() {
        let mut late = Faults::default();
        late.add_missing(1);
        assert!(!late.is_none());
        let whole = Received { events: 10, reads: 3, ..Received::default() };
        assert!(Faults::of(&whole, 10).is_none());
        for (received, expected) in [
            (whole, 11),
            (whole, 9),
            (Received { out_of_order: 1, ..whole }, 10),
            (Received { garbled: 1, ..whole }, 10),
            (Received { closed: 1, ..whole }, 10),
        ] {
            assert!(!Faults::of(&received, expected).is_none(), "{received:?} of {expected}");
        }
    }
}
