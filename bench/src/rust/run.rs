//! Runs the rounds of each project, and prints the tables.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::project::Project;
use super::round::{self, Sample, SpaceMeasure};
use super::table::{self, Row};
use super::volume::Volume;
use super::wrapper::{WRAPPERS, Wrapper};
use crate::options::RustOptions;

/// A median of fewer rounds says nothing.
const ROUNDS_MIN: usize = 3;

/// Runs the benchmark that the options select.
pub(crate) fn run(options: &RustOptions) -> Result<()> {
    ensure!(
        options.rounds >= ROUNDS_MIN || options.once,
        "a median needs {ROUNDS_MIN} rounds; --once runs a single one"
    );
    let beside = options.dir()?;
    let volume = options.volume.map(|filesystem| Volume::mount(filesystem, &beside)).transpose()?;
    let dir = volume.as_ref().map_or(&*beside, Volume::dir);
    let bytes_max = if volume.is_some() { table::VOLUME_BYTES_MAX } else { table::BYTES_MAX };
    let mut tables = Vec::new();
    let mut shortfalls = Vec::new();
    let mut out: Box<dyn Write> =
        if options.json { Box::new(io::sink()) } else { Box::new(io::stdout().lock()) };
    for project in
        Project::all(&options.repository).into_iter().filter(|project| options.wants_project(project.name))
    {
        let rows = measure(options, &project, dir)?;
        table::print_head(&mut out, project.name)?;
        rows.iter().try_for_each(|row| table::print_row(&mut out, row))?;
        shortfalls.append(&mut table::shortfalls(project.name, &rows, bytes_max));
        tables
            .push(json!({ "project": project.name, "rows": rows.iter().map(Row::json).collect::<Vec<_>>() }));
    }
    writeln!(out, "\n{LEGEND}")?;
    crate::report::print_shortfalls(&mut out, &shortfalls)?;
    drop(out);
    if options.json {
        serde_json::to_writer_pretty(
            io::stdout().lock(),
            &json!({ "tables": tables, "shortfalls": shortfalls }),
        )?;
    }
    Ok(())
}

const LEGEND: &str =
    "cold: the first build, with nothing cached. warm: the same checkout after its target directory was removed.
second: the first build of another checkout. later: that checkout after its target directory was removed.
MB: the target directories of three checkouts and the cache; for plain cargo, one target directory. A file with
several names counts once, and with --volume an extent that several files share.
again: crates that cargo compiles in a second build of an unchanged checkout; should be 0.";

/// Runs all rounds of one project. The outer loop is over rounds, and each begins with another row, so that a
/// machine that becomes slower affects all rows.
fn measure(options: &RustOptions, project: &Project, dir: &Path) -> Result<Vec<Row>> {
    let wrappers: Vec<Wrapper> =
        WRAPPERS.into_iter().filter(|wrapper| options.wants_row(wrapper.name())).collect();
    ensure!(!wrappers.is_empty(), "--only names no row");
    let ours = beside_this()?;
    let rounds = if options.once { 1 } else { options.rounds };
    let space = if options.volume.is_some() { SpaceMeasure::Volume } else { SpaceMeasure::Files };
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); wrappers.len()];
    for round in 0..rounds {
        for turn in 0..wrappers.len() {
            let index = (round + turn) % wrappers.len();
            let wrapper = wrappers[index];
            progress(&format!("{}: round {} of {rounds}, {}", project.name, round + 1, wrapper.name()))?;
            let program = wrapper.program(&ours, &options.peers());
            samples[index].push(round::measure(wrapper, program, project, dir, space)?);
        }
    }
    Ok(wrappers.iter().zip(&samples).map(|(wrapper, samples)| Row::new(*wrapper, samples)).collect())
}

/// The directory of this program, in which cargo also put the other programs.
pub(crate) fn beside_this() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("this program has no directory")?.to_owned())
}

/// Prints a line of progress to stderr.
pub(crate) fn progress(text: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}
