//! Reruns a stored action for `kache verify`, which knows only its digest.
//!
//! The call is reconstructed from the action, for a checkout in which the action was made. It is then
//! prepared like any call and has to lead to the same action. So every input and every observation is
//! compared before the compiler runs, and neither a changed input nor a mistake in the reconstruction
//! looks like a difference between two runs. The caller runs the compiler; this module says how, and
//! compares the outputs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, Digest, Hash, Store};

use super::call_state::CallClient;
use super::context::Pipeline;
use super::verify::{self, Verification, VerifyError};
use super::{hit, key};
use crate::action::{self, Entry, Section};
use crate::compiler::{self, RecalledCall};
use crate::events::Change;
use crate::invocation::{Bypass, Call, Reason};
use crate::lookup::{self, LookupMiss, LookupOutcome};
use crate::publish::OutputDifference;
use crate::roles::{Role, Roots};

/// A request to verify one action.
#[derive(Clone, Debug)]
pub struct Rerun {
    /// The hash of the action.
    pub action: Hash,
    /// The roots of a checkout in which the action was made.
    pub roots: Roots,
    /// Variables of the caller that are in no key.
    pub env: Vec<(OsString, OsString)>,
    /// The directory for the outputs.
    pub into: PathBuf,
    /// Whether the compiler has run, so that the outputs are in that directory.
    pub is_made: bool,
}

/// How the caller runs the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerunCommand {
    /// The command line; the program comes first.
    pub argv: Vec<OsString>,
    /// The working directory of the compiler.
    pub cwd: PathBuf,
    /// The whole environment; the compiler gets no other variables.
    pub env: Vec<(OsString, OsString)>,
}

/// The result of a verification, or the next step of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The caller runs this command, and then asks again.
    Run(RerunCommand),
    /// Both runs gave the same outputs.
    Agreed,
    /// These outputs differ, and the action is quarantined.
    Disagreed(Vec<OutputDifference>),
    /// The action was not verified for this reason; the text, which may be empty, gives details.
    Skipped(Skipped, String),
}

/// Why an action was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// The action or its result was evicted.
    NotStored,
    /// The action is quarantined already.
    OutOfService,
    /// A directory of the checkout no longer exists.
    CheckoutGone,
    /// An input or an observation has changed.
    InputsChanged,
    /// The call could not be reconstructed from the action.
    Untold,
    /// The call names an output by a path of its own, so the compiler would write to the checkout.
    FixedOutputs,
    /// The configuration of the checkout says that the call is not cached.
    NotCached,
    /// The compiler failed this time. It may have run out of memory, so this proves nothing.
    CompilerFailed,
}

impl Skipped {
    /// Every reason, in the order of the report.
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

    /// The name that is sent to the client and written into reports.
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

    /// A sentence for the user, without its full stop.
    pub fn explanation(self) -> &'static str {
        match self {
            Skipped::NotStored => "its result is not stored any more",
            Skipped::OutOfService => "it is quarantined already",
            Skipped::CheckoutGone => "its checkout is gone",
            Skipped::InputsChanged => "its inputs have changed",
            Skipped::Untold => "its call could not be reconstructed from its key",
            Skipped::FixedOutputs => "its command line names its outputs by fixed paths",
            Skipped::NotCached => "the configuration says not to cache it",
            Skipped::CompilerFailed => "the compiler failed this time",
        }
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Skipped> {
        Skipped::ALL.iter().copied().find(|one| one.name() == name)
    }
}

/// Why a rerun cannot go on: the action is skipped, or something failed.
enum RerunStop {
    Skipped(Skipped, String),
    Failed(VerifyError),
}

impl<E: Into<VerifyError>> From<E> for RerunStop {
    fn from(error: E) -> Self {
        RerunStop::Failed(error.into())
    }
}

fn skipped<T>(why: Skipped) -> Result<T, RerunStop> {
    Err(RerunStop::Skipped(why, String::new()))
}

/// Says how to run the compiler or, if `request.is_made`, compares the outputs.
pub fn rerun(pipeline: &Pipeline, request: &Rerun) -> Result<Verdict, VerifyError> {
    let store = pipeline.store().map_err(VerifyError::NoStore)?;
    let verification = match verification(pipeline, request, &store) {
        Ok(verification) => verification,
        Err(RerunStop::Skipped(why, detail)) => return Ok(Verdict::Skipped(why, detail)),
        Err(RerunStop::Failed(error)) => return Err(error),
    };
    let Some(argv) = verification.argv_into(&request.into) else {
        return Ok(Verdict::Skipped(Skipped::FixedOutputs, String::new()));
    };
    if !request.is_made {
        let Call { cwd, env, .. } = &*verification.call;
        let env = env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        return Ok(Verdict::Run(RerunCommand { argv, cwd: cwd.clone(), env }));
    }
    let differing = verify::compare(pipeline, &verification, &request.into, &store)?;
    verification.log_differences(&differing);
    Ok(if differing.is_empty() { Verdict::Agreed } else { Verdict::Disagreed(differing) })
}

/// Reconstructs the call, and checks that it still leads to the requested action.
fn verification(pipeline: &Pipeline, request: &Rerun, store: &Store) -> Result<Verification, RerunStop> {
    let entries = entries(request.action, store, pipeline)?;
    let Some(recalled) = compiler::recall(&entries, &request.roots) else {
        return skipped(Skipped::Untold);
    };
    let roots = request.roots.iter().map(|root| &*root.dir);
    if roots.chain([&*recalled.cwd]).any(|dir| !dir.is_dir()) {
        return skipped(Skipped::CheckoutGone);
    }
    let mut env = request.env.clone();
    let tools = request.roots.dir(Role::Sysroot).map(|dir| dir.join("bin"));
    env.extend(tools.map(|tools| ("PATH".into(), prepend(&tools, path_of(&env)))));
    let cargo_home = request.roots.dir(Role::Cargo).map(|dir| ("CARGO_HOME".into(), dir.into()));
    env.extend(cargo_home);
    env.extend(manifest_dir(&recalled).map(|dir| ("CARGO_MANIFEST_DIR".into(), dir.into())));
    // The variables of the key come last, so that they replace the caller's.
    env.extend(recalled.env);
    let call = Arc::new(Call {
        argv: recalled.argv,
        cwd: recalled.cwd,
        env: env.into_iter().collect(),
        ..Call::default()
    });
    let skip = |why: Bypass| RerunStop::Skipped(skipped_because(why.reason), why.to_string());
    let keyed = key::key_unrecorded(pipeline, call, CallClient::without_build(None)).map_err(skip)?;
    match hit::find(pipeline, store, &keyed.call, &keyed.prepared)? {
        LookupOutcome::Hit { action, result, .. } if action.hash == request.action => {
            Ok(Verification::of(keyed, action, result))
        }
        LookupOutcome::Miss(LookupMiss::Evicted(action)) if action.hash == request.action => {
            skipped(Skipped::NotStored)
        }
        outcome => {
            let (why, detail) = difference(&entries, &action::explain_query(&keyed.prepared.query), &outcome);
            Err(RerunStop::Skipped(why, detail))
        }
    }
}

/// Reads the entries of a stored action.
fn entries(hash: Hash, store: &Store, pipeline: &Pipeline) -> Result<Vec<Entry>, RerunStop> {
    let function = pipeline.key_function();
    let Some(size) = store.blobs().size_of(function, hash)? else { return skipped(Skipped::NotStored) };
    let digest: Digest<ActionMessage> = Digest::new(function, hash, size);
    if lookup::result_of(store.actions(), &digest, pipeline.uploads, AccessKind::Peek)?.is_none() {
        let is_out_of_service = lookup::is_quarantined(store.actions(), &digest)?.is_some();
        return skipped(if is_out_of_service { Skipped::OutOfService } else { Skipped::NotStored });
    }
    let mut first_error = None;
    let mut fetch = |digest: Digest| match store.blobs().open(&digest, AccessKind::Peek) {
        Ok(content) => content?.read_all().ok(),
        Err(error) => {
            first_error.get_or_insert(error);
            None
        }
    };
    let entries = action::explain_stored(digest, &mut fetch);
    match (first_error, entries) {
        (Some(error), _) => Err(error.into()),
        (None, Ok(entries)) => Ok(entries),
        (None, Err(error)) => Err(RerunStop::Skipped(Skipped::NotStored, error.to_string())),
    }
}

fn path_of(env: &[(OsString, OsString)]) -> &OsStr {
    env.iter().find(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, value)| value)
}

/// Puts a directory in front of a search path, so that a compiler without a path in `argv[0]` is the
/// one of the action's toolchain.
fn prepend(directory: &Path, path: &OsStr) -> OsString {
    let mut whole = directory.as_os_str().to_owned();
    if !path.is_empty() {
        whole.push(":");
        whole.push(path);
    }
    whole
}

/// The package's directory, for `CARGO_MANIFEST_DIR`: the nearest directory above the crate's root
/// that has a `Cargo.toml`. It may not be in the key, but kache reads the package's configuration
/// there.
fn manifest_dir(recalled: &RecalledCall) -> Option<PathBuf> {
    let is_source = |word: &&OsString| Path::new(word).extension() == Some(OsStr::new("rs"));
    let source = recalled.argv.iter().find(is_source)?;
    let source = recalled.cwd.join(source);
    source.ancestors().skip(1).find(|dir| dir.join("Cargo.toml").exists()).map(Path::to_owned)
}

/// Says how the reconstructed call differs from the action: by the first entry of the query, or else
/// by the first observation. If an argument or an output differs, the reconstruction is wrong.
fn difference(action: &[Entry], query: &[Entry], outcome: &LookupOutcome) -> (Skipped, String) {
    // Queries and actions always differ in their salt entries.
    let is_new = |entry: &&Entry| entry.section != Section::Salt && !action.contains(entry);
    if let Some(entry) = query.iter().find(is_new) {
        let is_call = matches!(entry.section, Section::Argument | Section::Output);
        let why = if is_call { Skipped::Untold } else { Skipped::InputsChanged };
        return (why, format!("{} `{}`", entry.section.name(), entry.name));
    }
    let detail = match outcome {
        LookupOutcome::Miss(LookupMiss::Changed(differences)) => {
            differences.first().map(|difference| Change::from(difference).to_string())
        }
        _ => None,
    };
    (Skipped::InputsChanged, detail.unwrap_or_default())
}

fn skipped_because(reason: Reason) -> Skipped {
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
