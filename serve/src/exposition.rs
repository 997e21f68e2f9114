//! Writes numbers in Prometheus' text format, version 0.0.4.
//!
//! Pure. It escapes texts and keeps the samples of a family together. The callers know what
//! the numbers mean.

use std::fmt::{Display, Write as _};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The Prometheus type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// A number that grows and shrinks.
    Gauge,
    /// Buckets with a sum and a count.
    Histogram,
}

/// Builds the text of a `/metrics` page.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample to the family that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.push(format_args!("{label}=\"{}\"", escape(text)));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.push(format_args!(" {value}\n"));
    }

    /// Adds a family with a single sample that has no labels.
    pub fn single(&mut self, name: &str, kind: MetricKind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Returns the text of the page.
    pub fn finish(self) -> String {
        self.text
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a string never fails");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_documented_one() {
        let mut out = Exposition::default();
        out.single("kache_things", MetricKind::Gauge, "Things \\ and\nothers.", 7);
        out.family("kache_words_total", MetricKind::Counter, "Words.");
        out.sample("kache_words_total", &[("word", "a \"b\" \\ \n"), ("x", "")], 0.5);
        let expected = r#"# HELP kache_things Things \\ and\nothers.
# TYPE kache_things gauge
kache_things 7
# HELP kache_words_total Words.
# TYPE kache_words_total counter
kache_words_total{word="a \"b\" \\ \n",x=""} 0.5
"#;
        assert_eq!(out.finish(), expected);
    }
}
