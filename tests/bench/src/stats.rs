//! Samples, and the tables that tell them.

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};

/// Times of one side of a comparison, in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e6);
    }

    /// Adds another's.
    pub(crate) fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    /// Some of them, in the order in which they came.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Samples {
        let range = range.start.min(self.0.len())..range.end.min(self.0.len());
        Samples(self.0[range].to_vec())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one (the upper of two), in µs; NaN when there is none.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The one that `part` of all are not above, in µs (nearest rank); NaN when there is none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64) as usize;
        sorted
            .get(rank.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// Runs `work` and returns what it returned, and how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// A comparison as it is printed: one line a side, the ratio against a reference, and what the design holds it to.
pub(crate) struct Comparison {
    title: String,
    unit: Unit,
    reference: Option<f64>,
    lines: Vec<[String; 6]>,
    notes: Vec<String>,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Times in µs: less is better.
    Micros,
    /// Events a second: more is better.
    PerSecond,
    /// KiB: less is better.
    Kib,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Micros => "µs",
            Unit::PerSecond => "a second",
            Unit::Kib => "KiB",
        }
    }
}

impl Comparison {
    /// A comparison without lines.
    pub(crate) fn new(title: impl Into<String>, unit: Unit) -> Self {
        Self {
            title: title.into(),
            unit,
            reference: None,
            lines: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Sets what the ratios of all later lines are taken against, in the comparison's unit.
    pub(crate) fn against(&mut self, reference: f64) {
        self.reference = Some(reference);
    }

    /// Adds a side with its samples. `held` is what the design asks of it; empty for none.
    pub(crate) fn samples(&mut self, side: &str, samples: &Samples, held: &str) {
        let (median, high) = (samples.median(), samples.quantile(0.95));
        self.line(side, samples.len(), median, Some(high), held);
    }

    /// Adds a side with one figure.
    pub(crate) fn figure(&mut self, side: &str, count: usize, value: f64, held: &str) {
        self.line(side, count, value, None, held);
    }

    /// Adds a side that could not be measured: nothing is left out in silence.
    pub(crate) fn missing(&mut self, side: &str, why: &str) {
        self.notes.push(format!("not measured: {side}: {why}"));
    }

    fn line(&mut self, side: &str, count: usize, value: f64, high: Option<f64>, held: &str) {
        let ratio = match self.reference {
            // Without a reference (its side is missing) there is nothing to divide by.
            Some(reference) if reference.is_finite() => format!("{:.2}×", value / reference),
            _ => String::new(),
        };
        self.lines.push([
            side.to_owned(),
            count.to_string(),
            number(value),
            high.map(number).unwrap_or_default(),
            ratio,
            held.to_owned(),
        ]);
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let p95 = if self.unit == Unit::Micros { "p95" } else { "" };
        let unit = format!("median {}", self.unit.name());
        let unit = if self.unit == Unit::Micros {
            unit.as_str()
        } else {
            self.unit.name()
        };
        table.set_header(["side", "n", unit, p95, "ratio", "held to"]);
        for column in 1..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in &self.lines {
            table.add_row(line);
        }
        println!("\n### {}\n\n{table}", self.title);
        for note in &self.notes {
            println!("\n{note}");
        }
    }
}

/// Prints a sentence about two figures, with `{}` standing for the first divided by the second; nothing when one of them
/// was not measured.
pub(crate) fn conclude(sentence: &str, value: f64, reference: f64) {
    let ratio = value / reference;
    if ratio.is_finite() {
        println!("\n{}", sentence.replace("{}", &format!("{ratio:.2}×")));
    }
}

/// A number with as many digits as mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let mut samples = Samples::default();
        for us in (1..=100).rev() {
            samples.push(Duration::from_micros(us));
        }
        assert_eq!(samples.median().round(), 51.0);
        assert_eq!(samples.quantile(0.95).round(), 96.0);
        assert_eq!(samples.quantile(1.0).round(), 100.0);
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn digits_follow_the_size() {
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1.234), "1.23");
    }
}
