//! One project, and rounds of changes in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::change::{State, Variables};
use super::checkout::{Checkout, PROJECT};
use super::files::{Entry, Files};
use super::outcome::Outcome;
use super::reads::Reads;
use super::{trace, variables};
use crate::content::Random;
use crate::rust::{Cargo, Wrapping, progress};

/// So many changes make a round; then the project is as it was, and the next seed begins.
const CHANGES: usize = 6;

/// A project in three checkouts.
pub(crate) struct Project<'a> {
    pub(crate) name: String,
    plain: Checkout<'a>,
    one: Checkout<'a>,
    two: Checkout<'a>,
    first: State,
    first_outcome: Outcome,
    reads: Reads,
    variables: Vec<String>,
    are_bytes_compared: bool,
    log: PathBuf,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    pub(crate) changes: usize,
    /// Of these plain cargo made a program of another kind, or none.
    pub(crate) mattered: usize,
    pub(crate) builds: usize,
    pub(crate) wrong: usize,
}

impl<'a> Project<'a> {
    /// Builds it for the first time, everywhere, and learns what it reads.
    pub(crate) fn prepare(
        source: &Path,
        dir: &Path,
        cargo: &'a Cargo,
        kache: &Wrapping,
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
        let again = plain.build(&first)?;
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
        let bytes = if are_bytes_compared { "" } else { "; bytes differ already, and are not compared" };
        progress(&format!("{name}: {} reads, {} variables{bytes}", reads.count(), variables.len()))?;
        Ok(Project { name, plain, one, two, first, first_outcome, reads, variables, are_bytes_compared, log })
    }

    /// Changes one thing after another. What a person can do to see the same is printed.
    pub(crate) fn round(&self, seed: u64) -> Result<Tried> {
        let mut random = Random::new(seed);
        let (mut state, mut outcome) = (self.first.clone(), self.first_outcome.clone());
        let mut reads = self.reads.clone();
        let mut was_repeated = self.are_bytes_compared;
        let mut tried = Tried::default();
        for _ in 0..CHANGES {
            let Some((changed, what)) = state.changed(&mut random, &reads, &self.variables) else { break };
            let of_change = self.plain.build(&changed)?;
            tried.changes += 1;
            tried.mattered += usize::from(outcome.difference(&of_change, true).is_some());
            // Bytes prove nothing where plain cargo does not repeat them.
            let is_repeated =
                self.are_bytes_compared && of_change.difference(&self.plain.build(&changed)?, true).is_none();
            let code = of_change.code.unwrap_or(-1);
            progress(&format!("{}, seed {seed}: {what} (plain cargo ends with {code})", self.name))?;
            // The first checkout knows the state before, the other one that after the change.
            for (checkout, state, expected, are_bytes_compared) in [
                (&self.two, &changed, &of_change, is_repeated),
                (&self.one, &state, &outcome, was_repeated),
                (&self.one, &changed, &of_change, is_repeated),
                (&self.two, &state, &outcome, was_repeated),
            ] {
                let found = checkout.build(state)?;
                tried.builds += 1;
                if let Some(difference) = expected.difference(&found, are_bytes_compared) {
                    tried.wrong += 1;
                    self.tell(seed, checkout, &what, &difference)?;
                }
            }
            if of_change.succeeded() && random.below(2) == 0 {
                (state, outcome, was_repeated) = (changed, of_change, is_repeated);
                self.plain.clean()?;
                reads = trace::reads(&self.plain.build_command(&state), &self.log, &self.plain.top)?;
            }
        }
        Ok(tried)
    }

    fn tell(&self, seed: u64, checkout: &Checkout<'_>, what: &str, difference: &str) -> Result<()> {
        let (name, place) = (&self.name, checkout.name);
        progress(&format!(
            "WRONG in {place} of {name}, after: {what}\n{difference}\n\
             to see this again: ./x fuzz-builds 1 --project {name} --seed {seed} --rounds 1\n"
        ))
    }
}

/// The files of a project, in a repository.
fn in_repository(source: &Path) -> Result<Files> {
    let mut files = Files::default();
    for (path, entry) in Files::read(source)?.0 {
        files.put(&Path::new(PROJECT).join(path), entry);
    }
    files.put(Path::new("repository/.git/HEAD"), Entry::File(b"ref: refs/heads/main\n".to_vec()));
    Ok(files)
}
