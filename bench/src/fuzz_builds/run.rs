//! All projects in turn, until the time is over.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::round::{Project, Tried};
use super::trace;
use crate::options::FuzzBuildsOptions;
use crate::rust::{Cargo, Wrapper, Wrapping, beside_this, progress};

/// Runs what was asked for. It is an error if anything was wrong.
pub(crate) fn run(options: &FuzzBuildsOptions) -> Result<()> {
    trace::ensure_strace()?;
    let dir = tempfile::Builder::new().prefix("fuzz-builds").tempdir_in(options.dir()?)?;
    let sockets = tempfile::Builder::new().prefix("kb").tempdir()?;
    let cargo = Cargo::with_home(&dir.path().join("home"))?;
    let program = Wrapper::Kache.program(&beside_this()?, dir.path());
    let kache = Wrapping::new(Wrapper::Kache, program, dir.path().join("kache"), sockets.path().to_owned())?;
    let tried = all(options, dir.path(), &cargo, &kache);
    kache.stop(&cargo);
    let tried = tried?;
    print(&mut io::stdout().lock(), &tried).context("failed to print")?;
    let wrong: usize = tried.iter().map(|(_, tried)| tried.wrong).sum();
    ensure!(wrong == 0, "{wrong} builds through kache were not what plain cargo makes; each is told above");
    Ok(())
}

fn all(
    options: &FuzzBuildsOptions,
    dir: &std::path::Path,
    cargo: &Cargo,
    kache: &Wrapping,
) -> Result<Vec<(String, Tried)>> {
    let mut projects = Vec::new();
    for source in sources(options)? {
        let name = source.file_name().unwrap_or_default().to_owned();
        projects.push((Project::prepare(&source, &dir.join(name), cargo, kache)?, Tried::default()));
    }
    ensure!(!projects.is_empty(), "no project has such a name");
    let begin = Instant::now();
    let is_over = |round: u64| match options.rounds {
        Some(rounds) => round >= rounds,
        None => begin.elapsed() >= Duration::from_secs(options.seconds),
    };
    let mut round = 0;
    while !is_over(round) {
        for (project, tried) in &mut projects {
            if options.rounds.is_none() && is_over(round) {
                break;
            }
            let more = project.round(options.seed + round)?;
            tried.changes += more.changes;
            tried.mattered += more.mattered;
            tried.builds += more.builds;
            tried.wrong += more.wrong;
        }
        round += 1;
    }
    progress(&format!("{round} rounds in {} seconds", begin.elapsed().as_secs()))?;
    Ok(projects.into_iter().map(|(project, tried)| (project.name, tried)).collect())
}

/// The projects that are asked for.
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

fn print(out: &mut impl Write, tried: &[(String, Tried)]) -> io::Result<()> {
    writeln!(out, "{:<14} {:>8} {:>9} {:>7} {:>6}", "project", "changes", "mattered", "builds", "wrong")?;
    for (name, Tried { changes, mattered, builds, wrong }) in tried {
        writeln!(out, "{name:<14} {changes:>8} {mattered:>9} {builds:>7} {wrong:>6}")?;
    }
    writeln!(
        out,
        "\nmattered: plain cargo made something else of it. builds: through kache, in two checkouts that share \
         a cache,\neach compared with plain cargo's. wrong: another exit code, other output or other bytes."
    )
}
