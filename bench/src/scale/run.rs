//! The sizes, and what is made of them.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::calls::{daemon_mb, hits_ms, misses};
use super::project::{Size, check_out};
use crate::options::ScaleOptions;
use crate::report::{Figure, print_figure, print_shortfalls};
use crate::rust::{Cargo, Checkout, SETTLE, Wrapper, Wrapping, beside_this, build, median, progress};

/// How many crates, of one file each.
const CRATES: [usize; 3] = [50, 500, 2000];

/// The files of one crate where files are what is counted.
const FILES: usize = 100;

/// How many such crates make a workspace of 10,000 files.
const MANY: usize = 100;

/// The first checkouts, where something is still new.
const UNCOUNTED: usize = 2;

/// How often one hit is asked for, to tell the client's share.
const ASKED: usize = 200;

/// A program that does nothing: what any wrapper costs at least.
const EMPTY_PROGRAM: &str = "true";

/// How often whoever waits is told.
const PROGRESS_EVERY: usize = 5_000;

/// How much more a hit may cost in a large workspace than in a small one.
const GROWTH_MAX: f64 = 1.25;

/// What was measured of one workspace.
struct Measured {
    /// The median hit.
    hit_ms: f64,
    /// All of cargo's time, for each crate.
    build_ms: f64,
    daemon_mb: f64,
}

/// What one call takes by itself.
struct Alone {
    /// From its start to its end, less what the daemon takes.
    call_ms: f64,
    /// The same of a program that does nothing.
    empty_ms: f64,
}

/// Runs what was asked for.
pub(crate) fn run(options: &ScaleOptions) -> Result<()> {
    let dir = options.dir()?;
    if let Some(entries) = options.entries {
        return many_entries(&dir, entries);
    }
    let small = Size { crates: 1, files_per_crate: FILES };
    let mut figures = Vec::new();
    let by_crates = CRATES.map(|crates| Size { crates, files_per_crate: 1 });
    let mut kept = Vec::new();
    let by_crates = by_crates.into_iter().map(|size| measure(&dir, size, &mut kept));
    let by_crates = by_crates.collect::<Result<Vec<_>>>()?;
    let names = [
        ["hit, 50 crates", "hit, 500 crates", "hit, 2,000 crates"],
        ["build by crate, 50 crates", "build by crate, 500 crates", "build by crate, 2,000 crates"],
    ];
    for (index, measured) in by_crates.iter().enumerate() {
        figures.push(figure(names[0][index], measured.hit_ms, "ms", None));
        figures.push(figure(names[1][index], measured.build_ms, "ms", None));
    }
    let (few, many) = (&by_crates[0], &by_crates[CRATES.len() - 1]);
    let growth = many.build_ms / few.build_ms;
    let oracles = oracles_growth(&dir, &mut kept)?;
    figures.push(figure("hit, 2,000 crates to 50", many.hit_ms / few.hit_ms, "x", Some(GROWTH_MAX)));
    figures.push(figure("build by crate, the same", growth, "x", Some(GROWTH_MAX)));
    figures.push(figure("build by crate, the same, oracle", oracles, "x", None));
    figures.push(figure("one growth to the other", growth / oracles, "x", Some(GROWTH_MAX)));
    let (one, alone) = measure_alone(&dir, small, &mut kept)?;
    let many = measure(&dir, Size { crates: MANY, files_per_crate: FILES }, &mut kept)?;
    figures.push(figure("hit, a crate of 100 files", one.hit_ms, "ms", Some(1.5)));
    figures.push(figure("hit, the same among 10,000 files", many.hit_ms, "ms", Some(1.5)));
    figures.push(figure("one to the other", many.hit_ms / one.hit_ms, "x", Some(GROWTH_MAX)));
    figures.push(figure("a call less the daemon's time", alone.call_ms, "ms", None));
    figures.push(figure("a program that does nothing", alone.empty_ms, "ms", None));
    figures.push(figure("the client's own share", alone.call_ms - alone.empty_ms, "ms", Some(1.0)));
    figures.push(figure("the daemon's memory, 2,000 crates", by_crates[2].daemon_mb, "MB", Some(150.0)));
    figures.push(figure("the daemon's memory, 10,000 files", many.daemon_mb, "MB", Some(150.0)));
    let mut out = io::stdout().lock();
    figures.iter().try_for_each(|figure| print_figure(&mut out, figure))?;
    let shortfalls: Vec<_> = figures.iter().filter_map(Figure::shortfall).collect();
    Ok(print_shortfalls(&mut out, &shortfalls)?)
}

fn figure(name: &'static str, value: f64, unit: &'static str, limit: Option<f64>) -> Figure {
    Figure { name, value, unit, limit }
}

/// The daemon's memory once so many compiles are stored, each with a key of its own.
fn many_entries(dir: &Path, entries: usize) -> Result<()> {
    let lone = Size { crates: 1, files_per_crate: 1 };
    let mut kept = Vec::new();
    let (stored, memory_mb) =
        in_workspace(dir, Wrapper::Kache, lone, &mut kept, |cargo, wrapping, checkouts| {
            fill(cargo, wrapping, &checkouts[0], entries)?;
            thread::sleep(SETTLE);
            Ok((misses(cargo, wrapping)?, daemon_mb(cargo, wrapping)?))
        })?;
    let figures = [
        figure("compiles in the store", stored as f64, "", None),
        figure("the daemon's memory with them", memory_mb, "MB", Some(150.0)),
    ];
    let mut out = io::stdout().lock();
    figures.iter().try_for_each(|figure| print_figure(&mut out, figure))?;
    let shortfalls: Vec<_> = figures.iter().filter_map(Figure::shortfall).collect();
    Ok(print_shortfalls(&mut out, &shortfalls)?)
}

/// As many compilers at once as there are processors.
fn fill(cargo: &Cargo, wrapping: &Wrapping, checkout: &Checkout, entries: usize) -> Result<()> {
    std::fs::create_dir_all(checkout.root.join("alone"))?;
    let threads = thread::available_parallelism()?.get();
    let compile = |number: usize| -> Result<()> {
        if number.is_multiple_of(PROGRESS_EVERY) {
            progress(&format!("{number} of {entries} compiles"))?;
        }
        compile_alone(cargo, wrapping, checkout, number)
    };
    let share = |first: usize| (first..entries).step_by(threads).try_for_each(compile);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("no compile panics"))
    })
}

/// How much cargo itself, and the filesystem, take more for each crate in the largest workspace
/// than in the smallest: through a wrapper that looks at nothing.
fn oracles_growth(dir: &Path, kept: &mut Vec<TempDir>) -> Result<f64> {
    let mut build_ms = |crates: usize| {
        let size = Size { crates, files_per_crate: 1 };
        in_workspace(dir, Wrapper::Oracle, size, kept, |cargo, wrapping, checkouts| {
            check_all(cargo, wrapping, &checkouts[..UNCOUNTED], size)?;
            check_all(cargo, wrapping, &checkouts[UNCOUNTED..], size)
        })
    };
    let few = build_ms(CRATES[0])?;
    Ok(build_ms(CRATES[CRATES.len() - 1])? / few)
}

/// A workspace, checked in one checkout and then in others.
fn measure(dir: &Path, size: Size, kept: &mut Vec<TempDir>) -> Result<Measured> {
    in_workspace(dir, Wrapper::Kache, size, kept, |cargo, wrapping, checkouts| {
        check_everywhere(cargo, wrapping, checkouts, size)
    })
}

/// The same of one crate, and what a call takes besides the daemon's time.
fn measure_alone(dir: &Path, size: Size, kept: &mut Vec<TempDir>) -> Result<(Measured, Alone)> {
    in_workspace(dir, Wrapper::Kache, size, kept, |cargo, wrapping, checkouts| {
        let measured = check_everywhere(cargo, wrapping, checkouts, size)?;
        Ok((measured, alone(cargo, wrapping, &checkouts[0])?))
    })
}

/// With its checkouts, and a cache of its own. The directory is kept: for a minute after many
/// files were deleted, ext4 takes longer to make new ones.
fn in_workspace<T>(
    dir: &Path,
    wrapper: Wrapper,
    size: Size,
    kept: &mut Vec<TempDir>,
    then: impl FnOnce(&Cargo, &Wrapping, &[Checkout]) -> Result<T>,
) -> Result<T> {
    let Size { crates, files_per_crate } = size;
    progress(&format!("{}: {crates} crates of {files_per_crate} files", wrapper.name()))?;
    let row = tempfile::Builder::new().prefix("scale").tempdir_in(dir)?;
    let sockets = tempfile::Builder::new().prefix("kb").tempdir()?;
    let cargo = Cargo::with_home(&row.path().join("home"))?;
    let program = wrapper.program(&beside_this()?, dir);
    let place = row.path().join("wrapper");
    let wrapping = Wrapping::new(wrapper, program, place, sockets.path().to_owned())?;
    let names = (0..UNCOUNTED + size.counted()).map(|number| format!("{number}-{}", "x".repeat(number)));
    let checkouts: Vec<_> = names.map(|name| Checkout::at(row.path().join(name))).collect();
    checkouts.iter().try_for_each(|checkout| check_out(checkout, size))?;
    let done = then(&cargo, &wrapping, &checkouts);
    wrapping.stop(&cargo);
    kept.push(row);
    done
}

/// Cold in the first checkout; in the second for what is only slow the first time; those that
/// follow count.
fn check_everywhere(
    cargo: &Cargo,
    wrapping: &Wrapping,
    checkouts: &[Checkout],
    size: Size,
) -> Result<Measured> {
    let (uncounted, counted) = checkouts.split_at(UNCOUNTED);
    check_all(cargo, wrapping, uncounted, size)?;
    let before = hits_ms(cargo, wrapping)?.len();
    let build_ms = check_all(cargo, wrapping, counted, size)?;
    let hits = hits_ms(cargo, wrapping)?;
    let calls = counted.len() * size.crates;
    ensure!(hits.len() == before + calls, "{} of {calls} were hits", hits.len() - before);
    Ok(Measured {
        hit_ms: median(hits[before..].to_vec()).context("a workspace has crates")?,
        build_ms,
        daemon_mb: daemon_mb(cargo, wrapping)?,
    })
}

/// The median of cargo's times, for each crate, in milliseconds.
fn check_all(cargo: &Cargo, wrapping: &Wrapping, checkouts: &[Checkout], size: Size) -> Result<f64> {
    let by_crate = |time: Duration| time.as_secs_f64() * 1e3 / size.crates as f64;
    let times = checkouts.iter().map(|checkout| check(cargo, wrapping, checkout).map(by_crate));
    median(times.collect::<Result<_>>()?).context("there are checkouts")
}

fn check(cargo: &Cargo, wrapping: &Wrapping, checkout: &Checkout) -> Result<Duration> {
    let mut command = wrapping.cargo(cargo, &checkout.root);
    command.args(["check", "--offline", "--workspace"]).current_dir(&checkout.root);
    let begin = Instant::now();
    build::run(&mut command, &checkout.root.with_extension("log"))?;
    let time = begin.elapsed();
    thread::sleep(SETTLE);
    Ok(time)
}

/// One compile is asked for again and again: what a call takes, less what the daemon takes.
fn alone(cargo: &Cargo, wrapping: &Wrapping, checkout: &Checkout) -> Result<Alone> {
    std::fs::create_dir_all(checkout.root.join("alone"))?;
    let ask = || compile_alone(cargo, wrapping, checkout, 0);
    ask()?;
    thread::sleep(SETTLE);
    let before = hits_ms(cargo, wrapping)?.len();
    let calls = (0..ASKED).map(|_| timed_ms(ask)).collect::<Result<Vec<_>>>()?;
    let of_daemon = hits_ms(cargo, wrapping)?;
    ensure!(of_daemon.len() == before + ASKED, "not all of them were hits");
    let empty = || {
        let mut command = cargo.command(Path::new(EMPTY_PROGRAM));
        ensure!(command.stdin(Stdio::null()).output()?.status.success(), "`{EMPTY_PROGRAM}` failed");
        Ok(())
    };
    let empties = (0..ASKED).map(|_| timed_ms(empty)).collect::<Result<Vec<_>>>()?;
    let middle = |times: Vec<f64>| median(times).context("it was asked");
    Ok(Alone { call_ms: middle(calls)? - middle(of_daemon[before..].to_vec())?, empty_ms: middle(empties)? })
}

fn timed_ms(act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    act()?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// The first crate of a workspace, by itself; the number is part of its key and of its outputs' names.
fn compile_alone(cargo: &Cargo, wrapping: &Wrapping, checkout: &Checkout, number: usize) -> Result<()> {
    let mut command = wrapping.own(cargo);
    command.args(["rustc", "--crate-name=c0", "--edition=2024", "--crate-type=lib", "c0/src/lib.rs"]);
    command.args(["--emit=dep-info,metadata", "--out-dir=alone"]);
    command.args([format!("-Cmetadata={number}"), format!("-Cextra-filename=-{number}")]);
    command.current_dir(&checkout.root).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(output.status.success(), "a compile failed: {output:?}");
    Ok(())
}
