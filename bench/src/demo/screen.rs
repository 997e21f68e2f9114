//! Prints the demonstration's table and what a user can do next.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::report::Calls;

const MB: f64 = 1e6;

/// One build of the demonstration.
#[derive(Clone, Debug)]
pub(crate) struct DemoLine {
    pub(crate) what: &'static str,
    pub(crate) time: Duration,
    /// The counts of compiler calls; `None` for a build without kache.
    pub(crate) calls: Option<Calls>,
    /// Bytes on the disk after the build.
    pub(crate) bytes: u64,
    /// The directories that `bytes` counts, in words.
    pub(crate) bytes_of: &'static str,
}

/// Prints a table with one row for each build.
pub(crate) fn print_table(out: &mut impl Write, lines: &[DemoLine]) -> io::Result<()> {
    writeln!(out, "\n{:<34} {:>8} {:>9} {:>7} {:>9}   on disk", "build", "seconds", "faster", "hits", "MB")?;
    let plain = lines.first().map_or(Duration::ZERO, |line| line.time);
    for line in lines {
        let seconds = line.time.as_secs_f64();
        let faster = format!("{:.1}x", plain.as_secs_f64() / seconds);
        let hits = line.calls.and_then(Calls::hit_rate_pct);
        let hits = hits.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0} %"));
        let megabytes = line.bytes as f64 / MB;
        writeln!(
            out,
            "{:<34} {seconds:>8.2} {faster:>9} {hits:>7} {megabytes:>9.0}   {}",
            line.what, line.bytes_of
        )?;
    }
    Ok(())
}

/// Prints how to build another project with kache.
pub(crate) fn print_next(out: &mut impl Write, programs: &Path) -> io::Result<()> {
    let programs = programs.display();
    writeln!(
        out,
        "
Your own project, with the programs that were just built:

    RUSTC_WRAPPER={programs}/kache cargo build

No other setup is needed: kache starts its daemon by itself, and stores its cache in ~/.cache/kache.
`{programs}/kache init` shows this setting and then writes it to cargo's configuration;
`kache init --remove` removes it. `kache report` and `kache stats` show hits, misses and sizes."
    )
}

/// Prints the directory that was kept, and how to use its cache.
pub(crate) fn print_kept(
    out: &mut impl Write,
    dir: &Path,
    env: &[(&'static str, OsString)],
) -> io::Result<()> {
    writeln!(out, "\nCheckouts and cache are kept in {}. To inspect this cache:\n", dir.display())?;
    for (name, value) in env {
        writeln!(out, "    export {name}='{}'", value.to_string_lossy())?;
    }
    writeln!(out, "    kache stats")
}
