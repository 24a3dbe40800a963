//! The arithmetic of `docs/scale.md`: its derived numbers are those of its constants.

use std::collections::HashMap;

const PAGE: &str = include_str!("../../../docs/scale.md");
const SUBSCRIBERS: [f64; 4] = [1e4, 1e5, 1e6, 1e7];

/// The cells of each row of the page's tables.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = page.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines.map(|line| line.split('|').map(str::trim).collect())
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// Symbols and their values: rows that begin with a symbol.
fn constants(page: &str) -> HashMap<&str, f64> {
    let known = rows(page).filter_map(|row| {
        let symbol = code(row[0])?;
        let value = row[2].replace(',', "").parse();
        Some((symbol, value.unwrap_or_else(|_| panic!("{symbol} is no number: {}", row[2]))))
    });
    known.collect()
}

/// What is wrong with the derived rows, which have a formula in their second cell, and how many there are.
fn check(page: &str) -> (Vec<String>, usize) {
    let constants = constants(page);
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in rows(page).filter(|row| code(row[0]).is_none()) {
        let Some(formula) = code(row[1]) else { continue };
        count += 1;
        let value = |n| shown(Formula::value(formula, &constants, n));
        let expected = SUBSCRIBERS.map(value);
        if row[3..] != expected {
            wrong.push(format!("{}: should be | {} |", row[0], expected.join(" | ")));
        }
    }
    (wrong, count)
}

/// A whole number as it is; of others three digits, or all before the point.
fn shown(value: f64) -> String {
    let digits = match value {
        _ if value.fract() == 0.0 || value >= 99.95 => return grouped(value.round() as u64),
        9.995.. => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

fn grouped(number: u64) -> String {
    match number {
        ..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// A formula of numbers, symbols, `+ - * /`, parentheses, `ceil` and `min`, by recursive descent.
struct Formula<'f> {
    rest: &'f str,
    constants: &'f HashMap<&'f str, f64>,
    subscribers: f64,
}

impl<'f> Formula<'f> {
    fn value(text: &'f str, constants: &'f HashMap<&'f str, f64>, subscribers: f64) -> f64 {
        let mut formula = Self { rest: text, constants, subscribers };
        let value = formula.sum();
        assert_eq!(formula.rest.trim(), "", "no formula: {text}");
        value
    }

    fn sum(&mut self) -> f64 {
        let mut value = self.product();
        loop {
            value = match () {
                () if self.takes("+") => value + self.product(),
                () if self.takes("-") => value - self.product(),
                () => return value,
            }
        }
    }

    fn product(&mut self) -> f64 {
        let mut value = self.atom();
        loop {
            value = match () {
                () if self.takes("*") => value * self.atom(),
                () if self.takes("/") => value / self.atom(),
                () => return value,
            }
        }
    }

    fn atom(&mut self) -> f64 {
        if self.takes("(") {
            let value = self.sum();
            self.expect(")");
            return value;
        }
        let word = self.word();
        if self.takes("(") {
            let mut value = self.sum();
            match word {
                "ceil" => value = value.ceil(),
                "min" => {
                    self.expect(",");
                    value = value.min(self.sum());
                }
                _ => panic!("no function: {word}"),
            }
            self.expect(")");
            return value;
        }
        match word {
            "N" => self.subscribers,
            _ => word.parse().ok().or_else(|| self.constants.get(word).copied()).unwrap_or_else(|| {
                panic!("neither a number nor a constant: {word:?} before {:?}", self.rest)
            }),
        }
    }

    fn word(&mut self) -> &'f str {
        let text = self.rest.trim_start();
        let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
        let end = text.find(|letter| !is_of_word(letter)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        word
    }

    fn takes(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) {
        assert!(self.takes(token), "{token} is missing before {:?}", self.rest);
    }
}

#[test]
fn the_pages_numbers_are_those_of_its_constants() {
    let (wrong, count) = check(PAGE);
    assert!(wrong.is_empty(), "docs/scale.md is stale:\n{}", wrong.join("\n"));
    assert!(count >= 15, "{count} derived rows: the table is not read");
}

#[test]
fn a_stale_number_is_found() {
    let page =
        "| `m` | memory | 2,000 | B | by |\n| all | `ceil(N / 3) + min(m, 1) * (2 - 1)` | B | CELLS |\n";
    let right = page.replace("CELLS", "3,335 | 33,335 | 333,335 | 3,333,335");
    assert_eq!(check(&right), (Vec::new(), 1));
    let stale = right.replace("333,335 |", "333,334 |");
    assert_eq!(check(&stale).0, ["all: should be | 3,335 | 33,335 | 333,335 | 3,333,335 |"]);
    assert_eq!(check(&right.replace("2,000", "0")).0.len(), 1);
}
