//! A stored action that somebody wants compiled once more, told by its digest alone.
//!
//! The call is told from the action itself, in a checkout that it is known of, and has to
//! make the same key there: so every input and every observation is looked at before
//! anything runs, and a call that is told wrongly, or whose inputs have changed, is no
//! disagreement. Whoever asks runs the compiler; this says what, and compares.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, Digest, DigestFunction, Hash, Store};

use super::begin::Pipeline;
use super::phases::Phases;
use super::verify::Verification;
use crate::action::{self, Entry, Section};
use crate::events::Change;
use crate::invocation::{Bypass, Call, Reason};
use crate::lookup::{self, Found, Miss, Uploads};
use crate::publish::Differing;
use crate::roles::{Role, Roots};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Rerun {
    /// The action.
    pub action: Hash,
    /// A checkout that it is known of.
    pub roots: Roots,
    /// The caller's variables, of those that no key counts.
    pub env: Vec<(OsString, OsString)>,
    /// Where outputs go.
    pub into: PathBuf,
    /// Whether they are there.
    pub is_made: bool,
}

/// A compiler to be run with nothing but this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerunning {
    /// The program first.
    pub argv: Vec<OsString>,
    /// The directory.
    pub cwd: PathBuf,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
}

/// What is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run this, and ask again.
    Run(Rerunning),
    /// Both runs have one result.
    Agreed,
    /// They have not, and these outputs differ: the action is out of service.
    Disagreed(Vec<Differing>),
    /// There is nothing to compare, and more about why.
    Skipped(Skipped, String),
}

/// Why there is nothing to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// The action, or its result, was evicted.
    NotStored,
    /// It is out of service already.
    OutOfService,
    /// There is no such directory any more.
    CheckoutGone,
    /// What it read is not there as it was.
    InputsChanged,
    /// Its call does not follow from its key.
    Untold,
    /// The call names outputs by paths of their own, so it would write there.
    FixedOutputs,
    /// The configuration here is against caching it.
    NotCached,
    /// The compiler failed, for want of memory for instance. That proves nothing.
    CompilerFailed,
}

impl Skipped {
    /// All of them.
    pub const ALL: &[Skipped] = &[
        Skipped::NotStored,
        Skipped::OutOfService,
        Skipped::CheckoutGone,
        Skipped::InputsChanged,
        Skipped::Untold,
        Skipped::FixedOutputs,
        Skipped::NotCached,
        Skipped::CompilerFailed,
    ];

    /// As a report names it.
    pub fn name(self) -> &'static str {
        match self {
            Skipped::NotStored => "not_stored",
            Skipped::OutOfService => "out_of_service",
            Skipped::CheckoutGone => "checkout_gone",
            Skipped::InputsChanged => "inputs_changed",
            Skipped::Untold => "untold",
            Skipped::FixedOutputs => "fixed_outputs",
            Skipped::NotCached => "not_cached",
            Skipped::CompilerFailed => "compiler_failed",
        }
    }

    /// For people.
    pub fn explanation(self) -> &'static str {
        match self {
            Skipped::NotStored => "its result is not stored any more",
            Skipped::OutOfService => "it is out of service already",
            Skipped::CheckoutGone => "its checkout is gone",
            Skipped::InputsChanged => "its inputs have changed",
            Skipped::Untold => "its call does not follow from its key",
            Skipped::FixedOutputs => "its outputs have paths of their own",
            Skipped::NotCached => "the configuration is against caching it",
            Skipped::CompilerFailed => "the compiler failed this time",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Skipped> {
        Skipped::ALL.iter().copied().find(|one| one.name() == name)
    }
}

/// Why there is no verification: for a reason, or because something failed.
enum Stop {
    Skipped(Skipped, String),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

fn skipped<T>(why: Skipped) -> Result<T, Stop> {
    Err(Stop::Skipped(why, String::new()))
}

impl Pipeline {
    /// Says what to run; once that has run, what came of it.
    pub fn rerun(&self, asked: &Rerun) -> anyhow::Result<Verdict> {
        let store = self.store().map_err(|why| anyhow::anyhow!("{why}"))?;
        let verification = match self.verification(asked, &store) {
            Ok(verification) => verification,
            Err(Stop::Skipped(why, detail)) => return Ok(Verdict::Skipped(why, detail)),
            Err(Stop::Failed(error)) => return Err(error),
        };
        let Some(argv) = verification.argv_into(&asked.into) else {
            return Ok(Verdict::Skipped(Skipped::FixedOutputs, String::new()));
        };
        if !asked.is_made {
            let Call { cwd, env, .. } = &*verification.call;
            let env = env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            return Ok(Verdict::Run(Rerunning { argv, cwd: cwd.clone(), env }));
        }
        let found = self.compare(&verification, &asked.into, &store)?;
        verification.complain(&found);
        Ok(if found.is_empty() { Verdict::Agreed } else { Verdict::Disagreed(found) })
    }

    /// The call, if it still makes the action that was asked for.
    fn verification(&self, asked: &Rerun, store: &Store) -> Result<Verification, Stop> {
        let entries = entries(asked.action, store, self.uploads)?;
        let Some(recalled) = action::recall(&entries, &asked.roots) else { return skipped(Skipped::Untold) };
        let roots = asked.roots.iter().map(|root| &*root.dir);
        if roots.chain([&*recalled.cwd]).any(|dir| !dir.is_dir()) {
            return skipped(Skipped::CheckoutGone);
        }
        let mut env = asked.env.clone();
        let tools = asked.roots.dir(Role::Sysroot).map(|dir| dir.join("bin"));
        env.extend(tools.map(|tools| ("PATH".into(), before(&tools, path_of(&env)))));
        let cargo_home = asked.roots.dir(Role::Cargo).map(|dir| ("CARGO_HOME".into(), dir.into()));
        env.extend(cargo_home);
        env.extend(manifest_dir(&recalled).map(|dir| ("CARGO_MANIFEST_DIR".into(), dir.into())));
        // Those that count come last, so that they stand.
        env.extend(recalled.env);
        let call = Arc::new(Call {
            argv: recalled.argv,
            cwd: recalled.cwd,
            env: env.into_iter().collect(),
            ..Call::default()
        });
        let against = |why: Bypass| Stop::Skipped(passed_because(why.reason), why.to_string());
        let settings = self.settings(&call).map_err(against)?;
        let prepared = self.prepare(&call, &settings, &mut Phases::begin()).map_err(against)?;
        match self.find(&call, &prepared, store)? {
            Found::Hit { action, result, .. } if action.hash == asked.action => {
                Ok(Verification { call, prepared, action, result })
            }
            Found::Miss(Miss::Evicted(action)) if action.hash == asked.action => skipped(Skipped::NotStored),
            found => {
                let (why, detail) = difference(&entries, &action::explain_query(&prepared.query), &found);
                Err(Stop::Skipped(why, detail))
            }
        }
    }
}

/// What the action is made of.
fn entries(hash: Hash, store: &Store, uploads: Uploads) -> Result<Vec<Entry>, Stop> {
    const FUNCTION: DigestFunction = DigestFunction::Blake3;
    let Some(size) = store.blobs().size_of(FUNCTION, hash)? else { return skipped(Skipped::NotStored) };
    let digest: Digest<ActionMessage> = Digest::new(FUNCTION, hash, size);
    if lookup::result_of(store.actions(), &digest, uploads, AccessKind::Peek)?.is_none() {
        let is_out_of_service = lookup::is_quarantined(store.actions(), &digest)?.is_some();
        return skipped(if is_out_of_service { Skipped::OutOfService } else { Skipped::NotStored });
    }
    let mut trouble = None;
    let mut fetch = |digest: Digest| match store.blobs().open(&digest, AccessKind::Peek) {
        Ok(content) => content?.read_all().ok(),
        Err(error) => {
            trouble.get_or_insert(error);
            None
        }
    };
    let entries = action::explain_stored(digest, &mut fetch);
    match (trouble, entries) {
        (Some(error), _) => Err(error.into()),
        (None, Ok(entries)) => Ok(entries),
        (None, Err(error)) => Err(Stop::Skipped(Skipped::NotStored, error.to_string())),
    }
}

fn path_of(env: &[(OsString, OsString)]) -> &OsStr {
    env.iter().find(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, value)| value)
}

/// A search path in which this directory comes first, so that a compiler that was called by
/// its bare name is the one that was meant.
fn before(directory: &Path, path: &OsStr) -> OsString {
    let mut whole = directory.as_os_str().to_owned();
    if !path.is_empty() {
        whole.push(":");
        whole.push(path);
    }
    whole
}

/// The package's directory: cargo says it, and where no key counts it, configuration beside
/// the package is found by it.
fn manifest_dir(recalled: &action::Recalled) -> Option<PathBuf> {
    let is_source = |word: &&OsString| Path::new(word).extension() == Some(OsStr::new("rs"));
    let source = recalled.argv.iter().find(is_source)?;
    let source = recalled.cwd.join(source);
    source.ancestors().skip(1).find(|dir| dir.join("Cargo.toml").exists()).map(Path::to_owned)
}

/// How the call as it is now differs from the action: the first thing that the query knows,
/// or that was observed. If it is the call itself, it was told wrongly.
fn difference(action: &[Entry], query: &[Entry], found: &Found) -> (Skipped, String) {
    // The two keys are told apart by their salts.
    let is_news = |entry: &&Entry| entry.section != Section::Salt && !action.contains(entry);
    if let Some(entry) = query.iter().find(is_news) {
        let is_call = matches!(entry.section, Section::Argument | Section::Output);
        let why = if is_call { Skipped::Untold } else { Skipped::InputsChanged };
        return (why, format!("{} `{}`", entry.section.name(), entry.name));
    }
    let detail = match found {
        Found::Miss(Miss::Changed(differences)) => {
            differences.first().map(|difference| Change::from(difference).to_string())
        }
        _ => None,
    };
    (Skipped::InputsChanged, detail.unwrap_or_default())
}

fn passed_because(reason: Reason) -> Skipped {
    match reason {
        Reason::Disabled | Reason::Excluded | Reason::Executable | Reason::Configuration => {
            Skipped::NotCached
        }
        _ => Skipped::InputsChanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_by_their_names() {
        for why in Skipped::ALL {
            assert_eq!(Skipped::from_name(why.name()), Some(*why));
        }
        assert_eq!(Skipped::from_name("later"), None);
    }
}
