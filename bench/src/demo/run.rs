//! The builds of the demonstration, in their order.
//!
//! Everything lies in one directory: the checkouts, the cache, the daemon's socket and log,
//! and the home directory that cargo and kache see. Whoever calls removes it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, ensure};

use super::report::Calls;
use super::screen::{self, Line};
use crate::options::DemoOptions;
use crate::rust::{
    Cargo, Checkout, Project, SETTLE, Wrapper, Wrapping, beside_this, bytes_on_disk, progress,
};

/// Builds the project as a person would, and prints what it took.
pub(crate) fn run(options: &DemoOptions) -> Result<()> {
    let ours = beside_this()?;
    let dir = std::path::absolute(&options.dir)?;
    let program = Wrapper::Kache.program(&ours, &ours);
    let demo = Demo {
        cargo: Cargo::with_home(&dir.join("home"))?,
        kache: Wrapping::new(Wrapper::Kache, program, dir.join("kache"), dir.join("s"))?,
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
    kache: Wrapping,
    project: Project,
    dir: PathBuf,
}

impl Demo {
    fn builds(&self) -> Result<Vec<Line>> {
        let plain = Wrapping::new(Wrapper::Plain, None, self.dir.join("none"), self.dir.join("none"))?;
        let [usual, first, second] =
            ["usual", "first", "second"].map(|name| Checkout::at(self.dir.join(name)));
        progress("fetching what the project depends on, which is not part of any figure")?;
        self.project.check_out(&usual.root)?;
        self.cargo.fetch(&usual)?;

        progress("building without kache")?;
        let built = usual.build(&self.cargo, &plain)?;
        progress(&format!("    {} crates, {:.1} s", built.compiled, built.time.as_secs_f64()))?;
        let bytes = bytes_on_disk(&[usual.target()])?;
        let mut lines = vec![Line {
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
        ensure!(again.compiled == 0, "a build right after a build compiled {} crates again", again.compiled);
        ensure!(
            self.tallied(&usual)? == self.tallied(&second)?,
            "the program built with kache says something else than the one built without"
        );
        progress("the program from the second worktree prints what the one built without kache prints")?;
        Ok(lines)
    }

    /// Builds one checkout with kache.
    fn line(
        &self,
        what: &'static str,
        checkout: &Checkout,
        counted: &[PathBuf],
        bytes_of: &'static str,
    ) -> Result<Line> {
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
        // Storing goes on when the build has returned, as it would while a person reads.
        thread::sleep(SETTLE);
        let bytes = bytes_on_disk(counted)?;
        Ok(Line { what, time: built.time, calls: Some(calls), bytes, bytes_of })
    }

    /// What the program says about its own test's log.
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
