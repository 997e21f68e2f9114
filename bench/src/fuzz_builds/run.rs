//! Runs rounds of all projects in turn until the time is over.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::round::{Project, RoundCounts};
use super::trace;
use crate::options::FuzzBuildsOptions;
use crate::rust::{Cargo, Wrapper, WrapperSetup, beside_this, progress};

/// Runs the rounds that the options select. Fails if a build through kache differed.
pub(crate) fn run(options: &FuzzBuildsOptions) -> Result<()> {
    trace::ensure_strace()?;
    let dir = tempfile::Builder::new().prefix("fuzz-builds").tempdir_in(options.dir()?)?;
    let sockets = tempfile::Builder::new().prefix("kb").tempdir()?;
    let cargo = Cargo::with_home(&dir.path().join("home"))?;
    let program = Wrapper::Kache.program(&beside_this()?, dir.path());
    let kache =
        WrapperSetup::new(Wrapper::Kache, program, dir.path().join("kache"), sockets.path().to_owned())?;
    let counts = all(options, dir.path(), &cargo, &kache);
    kache.stop(&cargo);
    let counts = counts?;
    print(&mut io::stdout().lock(), &counts).context("failed to print")?;
    let wrong: usize = counts.iter().map(|(_, counts)| counts.wrong).sum();
    ensure!(
        wrong == 0,
        "{wrong} builds through kache differ from plain cargo's; each difference is printed above"
    );
    Ok(())
}

fn all(
    options: &FuzzBuildsOptions,
    dir: &std::path::Path,
    cargo: &Cargo,
    kache: &WrapperSetup,
) -> Result<Vec<(String, RoundCounts)>> {
    let mut projects = Vec::new();
    for source in sources(options)? {
        let name = source.file_name().unwrap_or_default().to_owned();
        projects.push((Project::prepare(&source, &dir.join(name), cargo, kache)?, RoundCounts::default()));
    }
    ensure!(!projects.is_empty(), "--project names no project");
    let begin = Instant::now();
    let is_over = |round: u64| match options.rounds {
        Some(rounds) => round >= rounds,
        None => begin.elapsed() >= Duration::from_secs(options.seconds),
    };
    let mut round = 0;
    while !is_over(round) {
        for (project, counts) in &mut projects {
            if options.rounds.is_none() && is_over(round) {
                break;
            }
            let more = project.round(options.seed + round)?;
            counts.changes += more.changes;
            counts.mattered += more.mattered;
            counts.builds += more.builds;
            counts.wrong += more.wrong;
        }
        round += 1;
    }
    progress(&format!("{round} rounds in {} seconds", begin.elapsed().as_secs()))?;
    Ok(projects.into_iter().map(|(project, counts)| (project.name, counts)).collect())
}

/// The directories of the projects that the options select.
fn sources(options: &FuzzBuildsOptions) -> Result<Vec<PathBuf>> {
    let top = options.repository.join("bench/projects/macros");
    let failed = || format!("failed to read `{}`", top.display());
    let mut sources = Vec::new();
    for entry in fs::read_dir(&top).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if options.wants(&name) {
            sources.push(std::path::absolute(path)?);
        }
    }
    sources.sort();
    Ok(sources)
}

fn print(out: &mut impl Write, counts: &[(String, RoundCounts)]) -> io::Result<()> {
    writeln!(out, "{:<14} {:>8} {:>9} {:>7} {:>6}", "project", "changes", "mattered", "builds", "wrong")?;
    for (name, RoundCounts { changes, mattered, builds, wrong }) in counts {
        writeln!(out, "{name:<14} {changes:>8} {mattered:>9} {builds:>7} {wrong:>6}")?;
    }
    writeln!(
        out,
        "\nmattered: changes after which plain cargo's build had another outcome. builds: builds through kache in two\n\
         checkouts that share a cache, each compared with plain cargo's. wrong: another exit code, other output or\n\
         other bytes."
    )
}
