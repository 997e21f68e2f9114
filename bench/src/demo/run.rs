//! The builds of the demonstration, in their order.
//!
//! Everything is in one directory: the checkouts, the cache, the daemon's socket and log, and the home directory for
//! cargo and kache. `./x demo` removes it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, ensure};

use super::report::Calls;
use super::screen::{self, DemoLine};
use crate::options::DemoOptions;
use crate::rust::{
    Cargo, Checkout, Project, SETTLE, Wrapper, WrapperSetup, beside_this, bytes_on_disk, progress,
};

/// Builds the project as a user would, and prints times, hits and sizes.
pub(crate) fn run(options: &DemoOptions) -> Result<()> {
    let ours = beside_this()?;
    let dir = std::path::absolute(&options.dir)?;
    let program = Wrapper::Kache.program(&ours, &ours);
    let demo = Demo {
        cargo: Cargo::with_home(&dir.join("home"))?,
        kache: WrapperSetup::new(Wrapper::Kache, program, dir.join("kache"), dir.join("s"))?,
        project: Project::demo(&options.repository),
        dir,
    };
    let lines = demo.builds();
    demo.kache.stop(&demo.cargo);
    let lines = lines?;
    let mut out = io::stdout().lock();
    screen::print_table(&mut out, &lines)?;
    screen::print_next(&mut out, &ours)?;
    if options.keep {
        screen::print_kept(&mut out, &demo.dir, &demo.kache.env())?;
    }
    out.flush().context("failed to print")
}

struct Demo {
    cargo: Cargo,
    kache: WrapperSetup,
    project: Project,
    dir: PathBuf,
}

impl Demo {
    fn builds(&self) -> Result<Vec<DemoLine>> {
        let plain = WrapperSetup::new(Wrapper::Plain, None, self.dir.join("none"), self.dir.join("none"))?;
        let [usual, first, second] =
            ["usual", "first", "second"].map(|name| Checkout::at(self.dir.join(name)));
        progress("fetching the project's dependencies, which is not part of any figure")?;
        self.project.check_out(&usual.root)?;
        self.cargo.fetch(&usual)?;

        progress("building without kache")?;
        let built = usual.build(&self.cargo, &plain)?;
        progress(&format!("    {} crates, {:.1} s", built.compiled, built.time.as_secs_f64()))?;
        let bytes = bytes_on_disk(&[usual.target()])?;
        let mut lines = vec![DemoLine {
            what: "without kache",
            time: built.time,
            calls: None,
            bytes,
            bytes_of: "one target directory",
        }];

        self.project.check_out(&first.root)?;
        self.project.check_out(&second.root)?;
        let one = [first.target(), self.kache.dir.clone()];
        let two = [first.target(), second.target(), self.kache.dir.clone()];
        let with_cache = "target directory and cache";
        lines.push(self.line("with kache, nothing cached", &first, &one, with_cache)?);
        first.remove_target(&self.cargo, &self.kache)?;
        lines.push(self.line("the same again, target removed", &first, &one, with_cache)?);
        lines.push(self.line("in a second worktree", &second, &two, "two target directories and cache")?);

        let again = second.build(&self.cargo, &self.kache)?;
        ensure!(
            again.compiled == 0,
            "a second build of the unchanged worktree compiled {} crates again",
            again.compiled
        );
        ensure!(
            self.tallied(&usual)? == self.tallied(&second)?,
            "the program that was built with kache prints other text than the one that was built without it"
        );
        progress(
            "the program from the second worktree prints the same as the one that was built without kache",
        )?;
        Ok(lines)
    }

    /// Builds one checkout with kache. `counted` are the directories whose bytes are printed.
    fn line(
        &self,
        what: &'static str,
        checkout: &Checkout,
        counted: &[PathBuf],
        bytes_of: &'static str,
    ) -> Result<DemoLine> {
        progress(&format!("building {what}"))?;
        let before = Calls::ask(&self.cargo, &self.kache)?;
        let built = checkout.build(&self.cargo, &self.kache)?;
        let calls = Calls::ask(&self.cargo, &self.kache)?.since(before);
        progress(&format!(
            "    {:.1} s, {} hits, {} compiled",
            built.time.as_secs_f64(),
            calls.hits,
            calls.misses
        ))?;
        // The daemon is still storing results when the build returns.
        thread::sleep(SETTLE);
        let bytes = bytes_on_disk(counted)?;
        Ok(DemoLine { what, time: built.time, calls: Some(calls), bytes, bytes_of })
    }

    /// The program's output for the log file of its own test.
    fn tallied(&self, checkout: &Checkout) -> Result<String> {
        let mut command = self.cargo.command(&checkout.target().join("debug/tally"));
        let said = command.arg(checkout.root.join("tally/tests/small.log")).stdin(Stdio::null()).output();
        let said = said.context("failed to run the program that was built")?;
        ensure!(
            said.status.success(),
            "the program that was built failed: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }
}
