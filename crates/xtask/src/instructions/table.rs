//! The committed table: a name, operations, a count an operation, and how far from it is allowed.

use std::fmt;

use crate::Failure;

/// A function and what it took when the table was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// Of the shorter run.
    pub(super) operations: u64,
    /// Instructions an operation.
    pub(super) count: u64,
    /// Percent.
    pub(super) tolerance: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Within,
    Above,
    Below,
}

impl Row {
    /// In percent of the table's count.
    pub(super) fn change(&self, counted: u64) -> f64 {
        (counted as f64 / self.count as f64 - 1.0) * 100.0
    }

    pub(super) fn judge(&self, counted: u64) -> Verdict {
        let (counted, percent) = (u128::from(counted) * 100, u128::from(self.count));
        match u128::from(self.tolerance) {
            more if counted > percent * (100 + more) => Verdict::Above,
            less if counted < percent * 100_u128.saturating_sub(less) => Verdict::Below,
            _ => Verdict::Within,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Within => "",
            Self::Above => "MORE than the table allows",
            Self::Below => "LESS than the table says",
        })
    }
}

/// Reads a row a line; lines that begin with `#` are for people.
pub(super) fn parse(text: &str) -> Result<Vec<Row>, Failure> {
    let lines = text.lines().filter(|line| !is_for_people(line));
    lines
        .map(|line| row(line).ok_or_else(|| format!("no row of the table of instructions: {line:?}")))
        .collect()
}

/// `text` with the counts of `rows`.
pub(super) fn write(text: &str, rows: &[Row]) -> String {
    let people = text.lines().filter(|line| is_for_people(line)).map(|line| format!("{line}\n"));
    let rows = rows.iter().map(|row| {
        format!("{:<20}\t{:>10}\t{:>10}\t{:>9}\n", row.name, row.operations, row.count, row.tolerance)
    });
    people.chain(rows).collect()
}

fn is_for_people(line: &str) -> bool {
    line.starts_with('#')
}

fn row(line: &str) -> Option<Row> {
    let [name, operations, count, tolerance] =
        line.split('\t').map(str::trim).collect::<Vec<_>>().try_into().ok()?;
    let row = Row {
        name: name.to_owned(),
        operations: operations.parse().ok()?,
        count: count.parse().ok()?,
        tolerance: tolerance.parse().ok()?,
    };
    (row.operations > 0 && row.count > 0 && row.tolerance > 0).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# name\toperations\nappend              \t     20000\t      1000\t       10\n";

    #[test]
    fn a_table_is_read_and_written() {
        let rows = parse(TEXT).unwrap();
        let row = Row { name: "append".into(), operations: 20_000, count: 1000, tolerance: 10 };
        assert_eq!(rows, [row]);
        assert_eq!(write(TEXT, &rows), TEXT);
        for bad in ["append\t1\t1", "append\t0\t1\t1", "append\t1\tx\t1", "append\t1\t1\t0", ""] {
            assert!(parse(&format!("{bad}\n")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_count_is_judged_by_its_tolerance() {
        let row = &parse(TEXT).unwrap()[0];
        for (counted, verdict) in [
            (1000, Verdict::Within),
            (1100, Verdict::Within),
            (1101, Verdict::Above),
            (900, Verdict::Within),
            (899, Verdict::Below),
        ] {
            assert_eq!(row.judge(counted), verdict, "{counted}");
        }
    }

    #[test]
    fn the_committed_table_is_read() {
        let rows = parse(include_str!("../../instructions.tsv")).unwrap();
        assert!(rows.len() >= 3, "{rows:?}");
    }
}
