//! Edits and builds in turns without and with kache, and prints the medians.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::project::Project;
use crate::median::median;
use crate::options::EditOptions;
use crate::rust::{self, Cargo, Checkout, Wrapper, WrapperSetup, beside_this, progress};

/// A median of fewer edits says nothing.
const EDITS_MIN: u32 = 3;

/// How much longer than plain cargo an edit may take, from the second one on.
const PLAIN_MAX: f64 = 1.1;

/// The rows of the table, in order.
const WRAPPERS: [Wrapper; 2] = [Wrapper::Plain, Wrapper::Kache];

/// The times of one row.
struct Row {
    wrapper: Wrapper,
    checkout: Checkout,
    wrapping: WrapperSetup,
    cold: Duration,
    edits: Vec<Duration>,
}

/// Runs the benchmark that the options select.
pub(crate) fn run(options: &EditOptions) -> Result<()> {
    ensure!(options.edits >= EDITS_MIN, "a median needs {EDITS_MIN} edits after the first one");
    let dir = tempfile::Builder::new().prefix("edit").tempdir_in(options.dir()?)?;
    let sockets = tempfile::Builder::new().prefix("kb").tempdir()?;
    let cargo = Cargo::with_home(&dir.path().join("home"))?;
    let demo = Checkout::at(dir.path().join("demo"));
    rust::Project::demo(&options.repository).check_out(&demo.root)?;
    let project = Project::find(&cargo, &demo)?;
    let mut rows = Vec::new();
    for (wrapper, name) in WRAPPERS.into_iter().zip(["plain", "ours"]) {
        let checkout = Checkout::at(dir.path().join(name).join("tree"));
        let program = wrapper.program(&beside_this()?, dir.path());
        let home = dir.path().join(name).join("wrapper");
        let wrapping = WrapperSetup::new(wrapper, program, home, sockets.path().to_owned())?;
        project.check_out(&checkout)?;
        rows.push(Row { wrapper, checkout, wrapping, cold: Duration::ZERO, edits: Vec::new() });
    }
    let measured = edits(options, &cargo, &project, &mut rows);
    rows.iter().for_each(|row| row.wrapping.stop(&cargo));
    measured?;
    print(&mut io::stdout().lock(), &rows).context("failed to print")
}

/// The outer loop is over edits, so that a machine that becomes slower affects both rows.
fn edits(options: &EditOptions, cargo: &Cargo, project: &Project, rows: &mut [Row]) -> Result<()> {
    for row in &mut *rows {
        progress(&format!("{}: the first build", row.wrapper.name()))?;
        row.cold = row.checkout.build(cargo, &row.wrapping)?.time;
    }
    for number in 1..=options.edits + 1 {
        progress(&format!("edit {number} of {}", options.edits + 1))?;
        for row in &mut *rows {
            project.edit(&row.checkout, number)?;
            row.edits.push(row.checkout.build(cargo, &row.wrapping)?.time);
            project.check(cargo, &row.checkout, number)?;
        }
    }
    Ok(())
}

fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    writeln!(out, "\n{:<16} {:>8} {:>11} {:>11}", "", "cold", "first edit", "later edit")?;
    for row in rows {
        let [cold, first, later] = figures(row).map(|seconds| format!("{seconds:.2} s"));
        writeln!(out, "{:<16} {cold:>8} {first:>11} {later:>11}", row.wrapper.name())?;
    }
    if let [plain, ours] = rows {
        let ratio = figures(ours)[2] / figures(plain)[2];
        let judgement =
            if ratio > PLAIN_MAX { "above the goal of at most" } else { "within the goal of at most" };
        writeln!(out, "\na later edit: {ratio:.2}x of plain cargo, {judgement} {PLAIN_MAX:.2}x")?;
    }
    Ok(())
}

/// Times in seconds: the first build, the first edit, and the median of the later edits.
fn figures(row: &Row) -> [f64; 3] {
    let seconds: Vec<f64> = row.edits.iter().map(Duration::as_secs_f64).collect();
    let (first, later) = seconds.split_first().map_or((0.0, &[][..]), |(first, later)| (*first, later));
    [row.cold.as_secs_f64(), first, median(later.to_vec()).unwrap_or_default()]
}
