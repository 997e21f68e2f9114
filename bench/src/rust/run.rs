//! Which rounds are run in which order, and what is made of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::project::Project;
use super::round::{self, Sample, Space};
use super::table::{self, Row};
use super::volume::Volume;
use super::wrapper::{WRAPPERS, Wrapper};
use crate::options::RustOptions;

/// Below this a median says nothing.
const ROUNDS_MIN: usize = 3;

/// Runs what was asked for.
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
    "cold: nothing cached. warm: the same checkout, its target directory removed. second: a checkout
never built before. later: that one with its target directory removed. MB: three checkouts' target
directories and the cache, of plain cargo one target directory; a file with several names once, and
on a volume of its own, extents that files share.
again: crates that cargo compiled in a second build right after the first, which should be none.";

/// All rounds of one project. Rounds are the outer loop and each begins with another row, so
/// that a machine that slows down does so for all.
fn measure(options: &RustOptions, project: &Project, dir: &Path) -> Result<Vec<Row>> {
    let wrappers: Vec<Wrapper> =
        WRAPPERS.into_iter().filter(|wrapper| options.wants_row(wrapper.name())).collect();
    ensure!(!wrappers.is_empty(), "no row has such a name");
    let ours = beside_this()?;
    let rounds = if options.once { 1 } else { options.rounds };
    let space = if options.volume.is_some() { Space::Volume } else { Space::Files };
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

/// The directory of this program, where cargo put the others too.
pub(crate) fn beside_this() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("this program has no directory")?.to_owned())
}

/// One line for whoever waits.
pub(crate) fn progress(text: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}
