//! One figure at growing scale, in a table and as a picture.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    arguments,
    chart::{Chart, Panel, Spot},
    fanout::{Fanout, Load},
    process::Server,
    report::{self, Figure, Run},
};

/// How long the server may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// How far ahead the publisher may be, unless something else is said: nobody falls off the history at any scale.
const AHEAD: u64 = 4;
const MEMORY: &str = "bytes a connection";

#[derive(Args)]
pub(crate) struct Scale {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Numbers of subscribers, each in turn.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000,15000", value_parser = arguments::count)]
    subscribers: Vec<usize>,
    /// Numbers of the server's worker threads, each in turn.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..))]
    threads: Vec<u8>,
    /// Draws a picture (SVG) of what was measured.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Measures nothing, but takes what `--json` told: repeatable, for several lines in one picture.
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
}

/// What was measured, as `--json` tells it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) points: Vec<Point>,
}

/// What several runs told at one scale.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    /// What is measured: the transport and its arguments.
    load: String,
    workers: usize,
    subscribers: usize,
    /// How many runs were made.
    runs: usize,
    figures: Vec<Figure>,
}

impl Scale {
    /// Measures every point by `measure`, which is told the load, the number of workers, and makes the runs. What the
    /// load goes `over` is added to its label.
    pub(crate) fn points(
        &self,
        over: &str,
        mut measure: impl FnMut(&Fanout, usize) -> io::Result<Vec<Run>>,
    ) -> io::Result<Measured> {
        if !self.from.is_empty() {
            return read(&self.from);
        }
        let mut load = self.load.clone();
        load.ahead = load.ahead.or_else(|| load.rate.is_none().then_some(AHEAD));
        let mut measured = Measured::default();
        for workers in &self.threads {
            for subscribers in &self.subscribers {
                let fanout = Fanout { load: load.clone(), subscribers: *subscribers };
                let runs = measure(&fanout, (*workers).into())?;
                measured.points.push(Point {
                    load: load.label() + over,
                    workers: (*workers).into(),
                    subscribers: *subscribers,
                    runs: runs.len(),
                    figures: report::figures(&runs),
                });
            }
        }
        Ok(measured)
    }

    /// Draws the picture, if one is wanted.
    pub(crate) fn draw(&self, measured: &Measured) -> io::Result<()> {
        let Some(file) = &self.chart else { return Ok(()) };
        fs::write(file, measured.chart().svg()).map_err(|error| in_file(file, &error))
    }
}

/// One run: the fan-out, and before it what the idle connections add to the server's memory.
pub(crate) fn run(fanout: &Fanout, server: &Server) -> io::Result<Run> {
    let memory = || server.memory_bytes().unwrap_or(f64::NAN);
    thread::sleep(SETTLE);
    let before = memory();
    let subscribers = fanout.open(server)?;
    thread::sleep(SETTLE);
    let each = (memory() - before) / fanout.subscribers as f64;
    let mut run = fanout.drive(server, subscribers)?.told();
    run.figures.insert(2, (MEMORY, each));
    Ok(run)
}

/// A number of workers.
pub(crate) fn worker_count(workers: usize) -> String {
    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") }
}

fn read(files: &[PathBuf]) -> io::Result<Measured> {
    let mut all = Measured::default();
    for file in files {
        let text = fs::read(file).map_err(|error| in_file(file, &error))?;
        let measured: Measured =
            serde_json::from_slice(&text).map_err(|error| in_file(file, &error.into()))?;
        all.points.extend(measured.points);
    }
    Ok(all)
}

fn in_file(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

impl Point {
    fn figure(&self, wanted: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == wanted)
    }

    /// A figure's median.
    fn median(&self, wanted: &str) -> Option<f64> {
        self.figure(wanted)?.median
    }

    /// Where a figure stands in the picture.
    fn spot(&self, wanted: &str) -> Option<Spot> {
        let Figure { median, least, most, .. } = self.figure(wanted)?;
        let y = (*median)?;
        Some(Spot { x: self.subscribers as f64, y, least: least.unwrap_or(y), most: most.unwrap_or(y) })
    }

    /// The line that it is part of.
    fn line(&self) -> String {
        format!("{}, {}", self.load, worker_count(self.workers))
    }
}

impl Measured {
    /// As JSON.
    pub(crate) fn json(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// A Markdown table of all points: their medians, the first figure's with its range.
    pub(crate) fn table(&self) -> String {
        let Some(first) = self.points.first() else { return String::new() };
        let names: Vec<&str> = first.figures.iter().map(|figure| figure.name.as_str()).collect();
        let mut text = format!("| load | workers | subscribers | {} |\n|---|", names.join(" | "));
        text.push_str(&"--:|".repeat(names.len() + 2));
        text.push('\n');
        for point in &self.points {
            let _ = write!(text, "| {} | {} | {} |", point.load, point.workers, point.subscribers);
            for (at, name) in names.iter().enumerate() {
                let median = || point.median(name).map_or_else(|| report::UNTOLD.to_owned(), report::told);
                let ranged =
                    point.figure(name).filter(|_| at == 0 && point.runs > 1).and_then(Figure::ranged);
                let _ = write!(text, " {} |", ranged.unwrap_or_else(median));
            }
            text.push('\n');
        }
        text
    }

    /// What a point is of.
    fn runs(&self) -> String {
        let runs = || self.points.iter().map(|point| point.runs);
        match (runs().min().unwrap_or(0), runs().max().unwrap_or(0)) {
            (_, 0 | 1) => "one run a point".to_owned(),
            (least, most) if least == most => format!("medians of {most} runs, from the least to the most"),
            (least, most) => format!("medians of {least} to {most} runs, from the least to the most"),
        }
    }

    /// Deliveries, CPU and memory against subscribers: medians, and from the least to the most.
    pub(crate) fn chart(&self) -> Chart {
        let mut names: Vec<String> = Vec::new();
        for point in &self.points {
            let line = point.line();
            if !names.contains(&line) {
                names.push(line);
            }
        }
        let panel = |title: &str, figure: &str| {
            let line = |name: &String| {
                let of = self.points.iter().filter(|point| point.line() == *name);
                let mut spots: Vec<Spot> = of.filter_map(|point| point.spot(figure)).collect();
                spots.sort_by(|one, other| one.x.total_cmp(&other.x));
                spots
            };
            Panel { title: title.to_owned(), lines: names.iter().map(line).collect() }
        };
        let panels = vec![
            panel("Deliveries a second", "deliveries/s"),
            panel("CPU of the server, µs a delivery", "server CPU s/M deliveries"),
            panel("Memory of the server (PSS), bytes an idle connection", MEMORY),
        ];
        Chart {
            title: format!("Cost against scale, {}", self.runs()),
            x: "subscribers of one topic".to_owned(),
            names,
            panels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(workers: usize, subscribers: usize, deliveries: Option<f64>) -> Point {
        let figure = |name: &str, median: Option<f64>| Figure {
            name: name.to_owned(),
            median,
            least: median.map(|value| value / 2.0),
            most: median.map(|value| value * 2.0),
        };
        let figures = vec![
            figure("deliveries/s", deliveries),
            figure("server CPU s/M deliveries", Some(0.5)),
            figure(MEMORY, Some(1024.0)),
        ];
        Point { load: "ws".to_owned(), workers, subscribers, runs: 3, figures }
    }

    fn measured() -> Measured {
        let points = vec![point(1, 1000, Some(2e6)), point(1, 100, Some(1e6)), point(2, 100, None)];
        Measured { points }
    }

    #[test]
    fn a_line_a_load_and_number_of_workers() {
        let chart = measured().chart();
        assert_eq!(chart.names, ["ws, 1 worker", "ws, 2 workers"]);
        let spot = |x, y| Spot { x, y, least: y / 2.0, most: y * 2.0 };
        assert_eq!(chart.panels[0].lines, [vec![spot(100.0, 1e6), spot(1000.0, 2e6)], vec![]]);
        assert_eq!(chart.panels[2].lines[1], [spot(100.0, 1024.0)]);
    }

    #[test]
    fn a_picture_says_what_a_point_is_of() {
        let title = |runs: [usize; 3]| {
            let mut measured = measured();
            measured.points.iter_mut().zip(runs).for_each(|(point, runs)| point.runs = runs);
            measured.chart().title
        };
        assert!(title([1, 1, 1]).ends_with(", one run a point"));
        assert!(title([5, 5, 5]).contains("medians of 5 runs"));
        assert!(title([5, 3, 5]).contains("medians of 3 to 5 runs"));
    }

    #[test]
    fn what_was_told_can_be_drawn_again() {
        let told = measured().json().unwrap();
        let again: Measured = serde_json::from_str(&told).unwrap();
        assert_eq!(again.chart().svg(), measured().chart().svg());
        assert!(again.points[2].median("deliveries/s").is_none());
    }

    #[test]
    fn a_table_has_a_row_a_point() {
        let table = measured().table();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), 5);
        assert_eq!(rows[1], "|---|--:|--:|--:|--:|--:|");
        assert_eq!(rows[2], "| ws | 1 | 1000 | 2000000 (1000000–4000000) | 0.50 | 1024 |");
        assert_eq!(rows[4], "| ws | 2 | 100 | – | 0.50 | 1024 |");
    }
}
