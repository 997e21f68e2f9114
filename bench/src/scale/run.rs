//! Measures workspaces of each size, and prints the figures.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::calls::{daemon_mb, hits_ms, misses};
use super::project::{Size, check_out};
use crate::median::median;
use crate::options::ScaleOptions;
use crate::report::{Figure, print_figure, print_shortfalls};
use crate::rust::{Cargo, Checkout, SETTLE, Wrapper, WrapperSetup, beside_this, build, progress};

/// The numbers of crates in workspaces whose crates have one file each.
const CRATES: [usize; 3] = [50, 500, 2000];

/// The number of files of a crate in workspaces with many files.
const FILES: usize = 100;

/// The number of such crates in a workspace of 10,000 files.
const MANY_FILE_CRATES: usize = 100;

/// The first checkouts, whose builds are slower and do not count: misses, and hits that warm caches of the daemon.
const WARM_UP_CHECKOUTS: usize = 2;

/// The number of calls of one hit for the figure of the client's own time.
const CALLS: usize = 200;

/// A program that does nothing, whose time is the least that a wrapper can cost.
const EMPTY_PROGRAM: &str = "true";

/// A line of progress is printed after this many compiles.
const PROGRESS_EVERY: usize = 5_000;

/// The goal for the cost of a hit in a large workspace, divided by that in a small one.
const GROWTH_MAX: f64 = 1.25;

/// The figures of one workspace.
struct Measured {
    /// The daemon's median time for a hit.
    hit_ms: f64,
    /// Cargo's time divided by the number of crates.
    build_ms: f64,
    daemon_mb: f64,
}

/// The cost of a single call.
struct CallCost {
    /// The time of the client's process without that of the daemon.
    call_ms: f64,
    /// The time of [`EMPTY_PROGRAM`].
    empty_ms: f64,
}

/// Runs the benchmark that the options select.
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
        [
            "build time per crate, 50 crates",
            "build time per crate, 500 crates",
            "build time per crate, 2,000 crates",
        ],
    ];
    for (index, measured) in by_crates.iter().enumerate() {
        figures.push(figure(names[0][index], measured.hit_ms, "ms", None));
        figures.push(figure(names[1][index], measured.build_ms, "ms", None));
    }
    let (few, many) = (&by_crates[0], &by_crates[CRATES.len() - 1]);
    let growth = many.build_ms / few.build_ms;
    let oracles = growth_with_oracle(&dir, &mut kept)?;
    figures.push(figure(
        "hit, 2,000 crates compared with 50",
        many.hit_ms / few.hit_ms,
        "x",
        Some(GROWTH_MAX),
    ));
    figures.push(figure(
        "build time per crate, 2,000 crates compared with 50",
        growth,
        "x",
        Some(GROWTH_MAX),
    ));
    figures.push(figure("the same with the oracle", oracles, "x", None));
    figures.push(figure(
        "growth with kache compared with the oracle's",
        growth / oracles,
        "x",
        Some(GROWTH_MAX),
    ));
    let (one, cost) = measure_single_call(&dir, small, &mut kept)?;
    let many = measure(&dir, Size { crates: MANY_FILE_CRATES, files_per_crate: FILES }, &mut kept)?;
    figures.push(figure("hit, a crate of 100 files", one.hit_ms, "ms", Some(1.5)));
    figures.push(figure("hit, such a crate in a workspace of 10,000 files", many.hit_ms, "ms", Some(1.5)));
    figures.push(figure(
        "the latter compared with the former",
        many.hit_ms / one.hit_ms,
        "x",
        Some(GROWTH_MAX),
    ));
    figures.push(figure("a client process without the daemon's time", cost.call_ms, "ms", None));
    figures.push(figure("a program that does nothing", cost.empty_ms, "ms", None));
    figures.push(figure("the client's own time", cost.call_ms - cost.empty_ms, "ms", Some(1.0)));
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

/// Stores this many compiles with different keys, and prints the daemon's memory.
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
        figure("the daemon's memory afterwards", memory_mb, "MB", Some(150.0)),
    ];
    let mut out = io::stdout().lock();
    figures.iter().try_for_each(|figure| print_figure(&mut out, figure))?;
    let shortfalls: Vec<_> = figures.iter().filter_map(Figure::shortfall).collect();
    Ok(print_shortfalls(&mut out, &shortfalls)?)
}

/// Runs as many compiles at once as there are processors.
fn fill(cargo: &Cargo, wrapping: &WrapperSetup, checkout: &Checkout, entries: usize) -> Result<()> {
    std::fs::create_dir_all(checkout.root.join("alone"))?;
    let threads = thread::available_parallelism()?.get();
    let compile = |number: usize| -> Result<()> {
        if number.is_multiple_of(PROGRESS_EVERY) {
            progress(&format!("{number} of {entries} compiles"))?;
        }
        compile_single(cargo, wrapping, checkout, number)
    };
    let share = |first: usize| (first..entries).step_by(threads).try_for_each(compile);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("no compile panics"))
    })
}

/// The growth of the build time per crate from the smallest to the largest workspace with the oracle, which is the
/// growth that cargo and the filesystem cause.
fn growth_with_oracle(dir: &Path, kept: &mut Vec<TempDir>) -> Result<f64> {
    let mut build_ms = |crates: usize| {
        let size = Size { crates, files_per_crate: 1 };
        in_workspace(dir, Wrapper::Oracle, size, kept, |cargo, wrapping, checkouts| {
            check_all(cargo, wrapping, &checkouts[..WARM_UP_CHECKOUTS], size)?;
            check_all(cargo, wrapping, &checkouts[WARM_UP_CHECKOUTS..], size)
        })
    };
    let few = build_ms(CRATES[0])?;
    Ok(build_ms(CRATES[CRATES.len() - 1])? / few)
}

/// Measures hits in a workspace of this size.
fn measure(dir: &Path, size: Size, kept: &mut Vec<TempDir>) -> Result<Measured> {
    in_workspace(dir, Wrapper::Kache, size, kept, |cargo, wrapping, checkouts| {
        check_everywhere(cargo, wrapping, checkouts, size)
    })
}

/// Measures hits in a workspace of this size, and the cost of a single call.
fn measure_single_call(dir: &Path, size: Size, kept: &mut Vec<TempDir>) -> Result<(Measured, CallCost)> {
    in_workspace(dir, Wrapper::Kache, size, kept, |cargo, wrapping, checkouts| {
        let measured = check_everywhere(cargo, wrapping, checkouts, size)?;
        Ok((measured, cost_of_call(cargo, wrapping, &checkouts[0])?))
    })
}

/// Runs `then` with checkouts of a new workspace and an empty cache. The directory goes into `kept` and is removed
/// at the end, because ext4 creates files more slowly for a minute after many were deleted.
fn in_workspace<T>(
    dir: &Path,
    wrapper: Wrapper,
    size: Size,
    kept: &mut Vec<TempDir>,
    then: impl FnOnce(&Cargo, &WrapperSetup, &[Checkout]) -> Result<T>,
) -> Result<T> {
    let Size { crates, files_per_crate } = size;
    progress(&format!("{}: {crates} crates of {files_per_crate} files", wrapper.name()))?;
    let row = tempfile::Builder::new().prefix("scale").tempdir_in(dir)?;
    let sockets = tempfile::Builder::new().prefix("kb").tempdir()?;
    let cargo = Cargo::with_home(&row.path().join("home"))?;
    let program = wrapper.program(&beside_this()?, dir);
    let place = row.path().join("wrapper");
    let wrapping = WrapperSetup::new(wrapper, program, place, sockets.path().to_owned())?;
    let names =
        (0..WARM_UP_CHECKOUTS + size.counted()).map(|number| format!("{number}-{}", "x".repeat(number)));
    let checkouts: Vec<_> = names.map(|name| Checkout::at(row.path().join(name))).collect();
    checkouts.iter().try_for_each(|checkout| check_out(checkout, size))?;
    let done = then(&cargo, &wrapping, &checkouts);
    wrapping.stop(&cargo);
    kept.push(row);
    done
}

/// Runs `cargo check` in all checkouts, and measures those after the first [`WARM_UP_CHECKOUTS`].
fn check_everywhere(
    cargo: &Cargo,
    wrapping: &WrapperSetup,
    checkouts: &[Checkout],
    size: Size,
) -> Result<Measured> {
    let (uncounted, counted) = checkouts.split_at(WARM_UP_CHECKOUTS);
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

/// Runs `cargo check` in these checkouts, and returns the median of its times divided by the number of crates, in
/// milliseconds.
fn check_all(cargo: &Cargo, wrapping: &WrapperSetup, checkouts: &[Checkout], size: Size) -> Result<f64> {
    let by_crate = |time: Duration| time.as_secs_f64() * 1e3 / size.crates as f64;
    let times = checkouts.iter().map(|checkout| check(cargo, wrapping, checkout).map(by_crate));
    median(times.collect::<Result<_>>()?).context("there are checkouts")
}

fn check(cargo: &Cargo, wrapping: &WrapperSetup, checkout: &Checkout) -> Result<Duration> {
    let mut command = wrapping.cargo(cargo, &checkout.root);
    command.args(["check", "--offline", "--workspace"]).current_dir(&checkout.root);
    let begin = Instant::now();
    build::run(&mut command, &checkout.root.with_extension("log"))?;
    let time = begin.elapsed();
    thread::sleep(SETTLE);
    Ok(time)
}

/// Makes the same call many times, and measures its time without that of the daemon.
fn cost_of_call(cargo: &Cargo, wrapping: &WrapperSetup, checkout: &Checkout) -> Result<CallCost> {
    std::fs::create_dir_all(checkout.root.join("alone"))?;
    let ask = || compile_single(cargo, wrapping, checkout, 0);
    ask()?;
    thread::sleep(SETTLE);
    let before = hits_ms(cargo, wrapping)?.len();
    let calls = (0..CALLS).map(|_| timed_ms(ask)).collect::<Result<Vec<_>>>()?;
    let of_daemon = hits_ms(cargo, wrapping)?;
    ensure!(of_daemon.len() == before + CALLS, "not all calls were hits");
    let empty = || {
        let mut command = cargo.command(Path::new(EMPTY_PROGRAM));
        ensure!(command.stdin(Stdio::null()).output()?.status.success(), "`{EMPTY_PROGRAM}` failed");
        Ok(())
    };
    let empties = (0..CALLS).map(|_| timed_ms(empty)).collect::<Result<Vec<_>>>()?;
    let middle = |times: Vec<f64>| median(times).context("there are calls");
    Ok(CallCost {
        call_ms: middle(calls)? - middle(of_daemon[before..].to_vec())?,
        empty_ms: middle(empties)?,
    })
}

fn timed_ms(act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    act()?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Compiles the first crate of a workspace. `number` is part of its key and of the names of its outputs.
fn compile_single(cargo: &Cargo, wrapping: &WrapperSetup, checkout: &Checkout, number: usize) -> Result<()> {
    let mut command = wrapping.own(cargo);
    command.args(["rustc", "--crate-name=c0", "--edition=2024", "--crate-type=lib", "c0/src/lib.rs"]);
    command.args(["--emit=dep-info,metadata", "--out-dir=alone"]);
    command.args([format!("-Cmetadata={number}"), format!("-Cextra-filename=-{number}")]);
    command.current_dir(&checkout.root).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(output.status.success(), "a compile failed: {output:?}");
    Ok(())
}
