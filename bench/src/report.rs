//! The table, the list of missed goals, and both as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::rounds::{Figures, TableLine};
use crate::server::ServerKind;

const MIB: f64 = 1024.0 * 1024.0;

impl TableLine {
    fn of(&self, kind: ServerKind) -> Option<Figures> {
        self.figures.iter().find(|(known, _)| *known == kind).map(|(_, figures)| *figures)
    }

    /// Requests per second of kached, divided by those of bazel-remote.
    fn ratio(&self) -> Option<f64> {
        Some(self.of(ServerKind::Kached)?.per_second / self.of(ServerKind::BazelRemote)?.per_second)
    }

    /// Processor time per request of bazel-remote, divided by that of kached.
    fn cpu_ratio(&self) -> Option<f64> {
        Some(self.of(ServerKind::BazelRemote)?.cpu_us / self.of(ServerKind::Kached)?.cpu_us)
    }

    /// A sentence on the goal that this line misses. `None` if it meets its goal.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let ratio = self.ratio().filter(|ratio| *ratio < self.cell.target)?;
        Some(format!(
            "{} with {} clients: {ratio:.2}x instead of {:.1}x, {:.0} % of the goal; by processor time {:.2}x",
            self.cell.name,
            self.clients,
            self.cell.target,
            100.0 * ratio / self.cell.target,
            self.cpu_ratio().unwrap_or_default(),
        ))
    }

    fn speed(&self, figures: Option<Figures>) -> String {
        match (figures, self.cell.bytes_per_request()) {
            (None, _) => "-".to_owned(),
            (Some(figures), Some(bytes)) => format!("{:.0} MiB/s", figures.per_second * bytes as f64 / MIB),
            (Some(figures), None) => format!("{:.0} /s", figures.per_second),
        }
    }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}x"))
}

fn time(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(us) if us >= 10_000.0 => format!("{:.0} ms", us / 1e3),
        Some(us) if us >= 1000.0 => format!("{:.1} ms", us / 1e3),
        Some(us) => format!("{us:.0} µs"),
    }
}

/// Prints the head of the table.
pub(crate) fn print_head(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<20} {:>7} │ {:>12} {:>12} {:>7} {:>5} │ {:>8} {:>8} │ {:>8} {:>8} {:>7}",
        "cell",
        "clients",
        "kached",
        "bazel-remote",
        "ratio",
        "goal",
        "p99",
        "theirs",
        "cpu",
        "theirs",
        "ratio"
    )
}

/// Prints one line of the table.
pub(crate) fn print_line(out: &mut impl Write, line: &TableLine) -> io::Result<()> {
    let (ours, theirs) = (line.of(ServerKind::Kached), line.of(ServerKind::BazelRemote));
    writeln!(
        out,
        "{:<20} {:>7} │ {:>12} {:>12} {:>7} {:>5} │ {:>8} {:>8} │ {:>8} {:>8} {:>7}{}",
        line.cell.name,
        line.clients,
        line.speed(ours),
        line.speed(theirs),
        ratio(line.ratio()),
        format!("{:.1}x", line.cell.target),
        time(ours.map(|figures| figures.p99_us)),
        time(theirs.map(|figures| figures.p99_us)),
        time(ours.map(|figures| figures.cpu_us)),
        time(theirs.map(|figures| figures.cpu_us)),
        ratio(line.cpu_ratio()),
        if line.shortfall().is_some() { "  missed" } else { "" },
    )?;
    out.flush()
}

/// Returns a line as JSON.
pub(crate) fn line_json(line: &TableLine) -> Value {
    let figures = |kind: ServerKind| {
        line.of(kind).map(|figures| {
            json!({
                "requests_per_second": figures.per_second,
                "latency_p50_us": figures.p50_us,
                "latency_p99_us": figures.p99_us,
                "server_cpu_us_per_request": figures.cpu_us,
            })
        })
    };
    json!({
        "cell": line.cell.name,
        "clients": line.clients,
        "bytes_per_request": line.cell.bytes_per_request(),
        "target": line.cell.target,
        "ratio": line.ratio(),
        "cpu_ratio": line.cpu_ratio(),
        "kached": figures(ServerKind::Kached),
        "bazel_remote": figures(ServerKind::BazelRemote),
    })
}

/// A single figure that is not part of a table, with its limit.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// `None` if the figure only explains others.
    pub(crate) limit: Option<f64>,
}

impl Figure {
    /// A sentence on the limit that the figure exceeds. `None` if it does not.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let limit = self.limit.filter(|limit| self.value > *limit)?;
        let (name, value, unit) = (self.name, self.value, self.unit);
        Some(format!("{name}: {value:.2} {unit} instead of {limit:.2} {unit} at most, {:.2}x", value / limit))
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "name": self.name, "value": self.value, "unit": self.unit, "limit": self.limit })
    }
}

/// Prints a figure as one line, with its limit.
pub(crate) fn print_figure(out: &mut impl Write, figure: &Figure) -> io::Result<()> {
    let limit = figure.limit.map(|limit| format!("at most {limit} {}", figure.unit)).unwrap_or_default();
    let value = format!("{:.2} {}", figure.value, figure.unit);
    let mark = if figure.shortfall().is_some() { "  missed" } else { "" };
    writeln!(out, "{:<52} {value:>14}   {limit}{mark}", figure.name)?;
    out.flush()
}

/// Prints the missed goals, or that there are none.
pub(crate) fn print_shortfalls(out: &mut impl Write, shortfalls: &[String]) -> io::Result<()> {
    if shortfalls.is_empty() {
        return writeln!(out, "\nall goals are met");
    }
    writeln!(out, "\nmissed goals:")?;
    shortfalls.iter().try_for_each(|shortfall| writeln!(out, "  {shortfall}"))
}
