//! How a comparison is told.

use serde_json::{Map, Value, json};

use super::Contestant;
use crate::report::{self, Run};

/// Aligned columns: the medians of each, and behind each peer's what the hub's are by its.
pub(crate) fn lines(label: &str, contestants: &[Contestant]) -> String {
    let rows = rows(label, contestants);
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// The same as a Markdown table.
pub(crate) fn markdown(label: &str, contestants: &[Contestant]) -> String {
    let rows = rows(label, contestants);
    let Some((head, rows)) = rows.split_first() else { return String::new() };
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let rule = format!("|---|{}\n", "--:|".repeat(head.len() - 1));
    [line(head), rule, rows.iter().map(line).collect()].concat()
}

/// Medians and every run of each, and the ratios of the medians.
pub(crate) fn json(label: &str, contestants: &[Contestant]) -> Value {
    let told = |contestant: &Contestant| {
        let mut told = report::json(label, &contestant.runs);
        told["name"] = json!(contestant.name);
        told
    };
    let Some((hub, peers)) = contestants.split_first() else { return Value::Null };
    let ratios = |peer: &Contestant| {
        let ratios =
            figures(hub).into_iter().filter_map(|name| Some((name.to_owned(), ratio(name, hub, peer)?)));
        (peer.name.to_owned(), Value::Object(ratios.map(|(name, ratio)| (name, json!(ratio))).collect()))
    };
    json!({
        "figure": label,
        "contestants": contestants.iter().map(told).collect::<Vec<_>>(),
        "ratios": peers.iter().map(ratios).collect::<Map<_, _>>(),
    })
}

/// The head, a row a figure, and one of runs in which something was wrong.
fn rows(label: &str, contestants: &[Contestant]) -> Vec<Vec<String>> {
    let Some((hub, peers)) = contestants.split_first() else { return Vec::new() };
    let mut head = vec![label.to_owned(), hub.name.to_owned()];
    head.extend(peers.iter().flat_map(|peer| [peer.name.to_owned(), format!("{}/{}", hub.name, peer.name)]));
    let mut rows = vec![head];
    for name in figures(hub) {
        let mut row = vec![name.to_owned(), value(median(name, hub))];
        row.extend(peers.iter().flat_map(|peer| {
            [
                value(median(name, peer)),
                ratio(name, hub, peer).map_or_else(dash, |ratio| format!("{ratio:.2}")),
            ]
        }));
        rows.push(row);
    }
    let faulty = |contestant: &Contestant| {
        let faulty = contestant.runs.iter().filter(|run| !run.faults.is_none()).count();
        format!("{faulty} of {}", contestant.runs.len())
    };
    let mut row = vec!["runs with faults".to_owned(), faulty(hub)];
    row.extend(peers.iter().flat_map(|peer| [faulty(peer), String::new()]));
    rows.push(row);
    rows
}

/// The names of what is told of each, as the hub's first run has them.
fn figures(hub: &Contestant) -> Vec<&'static str> {
    let names = hub.runs.first().into_iter().flat_map(|run| run.figures.iter().map(|(name, _)| *name));
    names.chain([report::FOREIGN]).collect()
}

fn median(name: &str, contestant: &Contestant) -> Option<f64> {
    let of = |run: &Run| match name {
        report::FOREIGN => Some(run.foreign_cores),
        _ => run.figures.iter().find(|(found, _)| *found == name).map(|(_, value)| *value),
    };
    let mut values = contestant.runs.iter().map(of).collect::<Option<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| report::median(&values)).filter(|median| median.is_finite())
}

/// The hub's median by the peer's; nothing can be said of the machine's other load.
fn ratio(name: &str, hub: &Contestant, peer: &Contestant) -> Option<f64> {
    let ratio = median(name, hub)? / median(name, peer)?;
    (name != report::FOREIGN && ratio.is_finite()).then_some(ratio)
}

fn value(median: Option<f64>) -> String {
    median.map_or_else(dash, report::told)
}

fn dash() -> String {
    report::UNTOLD.to_owned()
}
