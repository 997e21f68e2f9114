//! One project, and rounds of changes in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::change::{State, Variables};
use super::checkout::{Checkout, PROJECT};
use super::files::{Entry, Files};
use super::outcome::BuildOutcome;
use super::reads::Reads;
use super::{trace, variables};
use crate::content::Random;
use crate::rust::{Cargo, WrapperSetup, progress};

/// The number of changes in a round. Each round starts with the original project and a new seed.
const CHANGES: usize = 6;

/// A project in four checkouts.
pub(crate) struct Project<'a> {
    pub(crate) name: String,
    plain: Checkout<'a>,
    /// A second checkout of plain cargo. Bytes that differ between the two follow from the path.
    plain_elsewhere: Checkout<'a>,
    one: Checkout<'a>,
    two: Checkout<'a>,
    first: State,
    first_outcome: BuildOutcome,
    reads: Reads,
    variables: Vec<String>,
    are_bytes_compared: bool,
    log: PathBuf,
}

/// Counts of one round or several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundCounts {
    pub(crate) changes: usize,
    /// Changes after which plain cargo's build had another outcome.
    pub(crate) mattered: usize,
    pub(crate) builds: usize,
    pub(crate) wrong: usize,
}

impl<'a> Project<'a> {
    /// Builds the project for the first time in all checkouts, and finds out what the build reads.
    pub(crate) fn prepare(
        source: &Path,
        dir: &Path,
        cargo: &'a Cargo,
        kache: &WrapperSetup,
    ) -> Result<Project<'a>> {
        let name = source.file_name().context("a project has a name")?.to_string_lossy().into_owned();
        progress(&format!("{name}: building it for the first time"))?;
        fs::create_dir_all(dir)?;
        let package = format!("with-{name}");
        let plain = Checkout::new("plain", dir, &package, cargo, None)?;
        let one = Checkout::new("one", dir, &package, cargo, Some(kache))?;
        let two = Checkout::new("another checkout", dir, &package, cargo, Some(kache))?;
        let first = State { files: in_repository(source)?, variables: Variables::new() };
        first.files.write(&plain.top)?;
        let mut fetch = cargo.command(Path::new("cargo"));
        let fetched = fetch.args(["fetch", "--locked"]).current_dir(plain.project()).output()?;
        ensure!(fetched.status.success(), "cannot fetch: {}", String::from_utf8_lossy(&fetched.stderr));

        let first_outcome = plain.build(&first)?;
        let plain_elsewhere = Checkout::new("plain elsewhere", dir, &package, cargo, None)?;
        copy(&plain.top, &plain_elsewhere.top)?;
        let again = plain_elsewhere.build(&first)?;
        ensure!(first_outcome.succeeded(), "plain cargo cannot build `{name}`: {first_outcome:#?}");
        let mut are_bytes_compared = first_outcome.differing(&again).is_empty();
        for checkout in [&one, &two] {
            let outcome = checkout.build(&first)?;
            let difference = first_outcome.difference(&outcome, false);
            ensure!(difference.is_none(), "`{name}` in {}: {difference:?}", checkout.name);
            are_bytes_compared &= first_outcome.differing(&outcome).is_empty();
        }
        plain.clean()?;
        let log = dir.join("strace.log");
        let reads = trace::reads(&plain.build_command(&first), &log, &plain.top)?;
        let variables = variables::names(&plain.sources()?);
        let bytes =
            if are_bytes_compared { "" } else { "; plain builds differ in bytes, so bytes are not compared" };
        progress(&format!("{name}: {} reads, {} variables{bytes}", reads.count(), variables.len()))?;
        Ok(Project {
            name,
            plain,
            plain_elsewhere,
            one,
            two,
            first,
            first_outcome,
            reads,
            variables,
            are_bytes_compared,
            log,
        })
    }

    /// Makes one change after another, builds after each, and prints every difference with the command that repeats
    /// it.
    pub(crate) fn round(&self, seed: u64) -> Result<RoundCounts> {
        let mut random = Random::new(seed);
        let (mut state, mut outcome) = (self.first.clone(), self.first_outcome.clone());
        let mut reads = self.reads.clone();
        let mut was_repeated = self.are_bytes_compared;
        let mut counts = RoundCounts::default();
        for _ in 0..CHANGES {
            let Some((changed, what)) = state.changed(&mut random, &reads, &self.variables) else { break };
            let of_change = self.plain.build(&changed)?;
            counts.changes += 1;
            counts.mattered += usize::from(outcome.difference(&of_change, true).is_some());
            // If plain cargo does not reproduce its bytes in another checkout, a difference proves nothing.
            let is_repeated = self.are_bytes_compared
                && of_change.difference(&self.plain_elsewhere.build(&changed)?, true).is_none();
            let code = of_change.code.unwrap_or(-1);
            progress(&format!("{}, seed {seed}: {what} (plain cargo ends with {code})", self.name))?;
            // Each checkout builds both states. The one that builds a state first stores results, which the other
            // one may then restore.
            for (checkout, state, expected, are_bytes_compared) in [
                (&self.two, &changed, &of_change, is_repeated),
                (&self.one, &state, &outcome, was_repeated),
                (&self.one, &changed, &of_change, is_repeated),
                (&self.two, &state, &outcome, was_repeated),
            ] {
                let outcome_here = checkout.build(state)?;
                counts.builds += 1;
                if let Some(difference) = expected.difference(&outcome_here, are_bytes_compared) {
                    counts.wrong += 1;
                    self.print_difference(seed, checkout, &what, &difference)?;
                }
            }
            if of_change.succeeded() && random.below(2) == 0 {
                (state, outcome, was_repeated) = (changed, of_change, is_repeated);
                self.plain.clean()?;
                reads = trace::reads(&self.plain.build_command(&state), &self.log, &self.plain.top)?;
            }
        }
        Ok(counts)
    }

    fn print_difference(
        &self,
        seed: u64,
        checkout: &Checkout<'_>,
        what: &str,
        difference: &str,
    ) -> Result<()> {
        let (name, checkout) = (&self.name, checkout.name);
        progress(&format!(
            "WRONG in checkout `{checkout}` of {name}, after: {what}\n{difference}\n\
             to repeat this: ./x fuzz-builds 1 --project {name} --seed {seed} --rounds 1\n"
        ))
    }
}

/// Copies a checkout with its target directory, so that its dependencies are not compiled again.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-aT").args([from, to]).status().context("failed to run cp")?;
    ensure!(copied.success(), "failed to copy `{}`", from.display());
    Ok(())
}

/// The files of a project inside a repository.
fn in_repository(source: &Path) -> Result<Files> {
    let mut files = Files::default();
    for (path, entry) in Files::read(source)?.0 {
        files.put(&Path::new(PROJECT).join(path), entry);
    }
    files.put(Path::new("repository/.git/HEAD"), Entry::File(b"ref: refs/heads/main\n".to_vec()));
    Ok(files)
}
