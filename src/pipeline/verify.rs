//! Compiling what is stored once more, to see whether it comes out the same: a hit in the
//! background (`cache.verify_sample`), or what a command asks for.
//!
//! What a compile reads unseen, such as a file that a proc macro opens, makes two results of
//! one action (KEY-23). Whoever looks finds out: the action is taken out of service. The
//! checkout is not touched: the compiler writes elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Sharing, Store};
use kache_proto::reapi::{ActionResult, OutputFile};

use super::begin::Pipeline;
use super::prepare::Prepared;
use super::run;
use crate::action::{Output, OutputKind};
use crate::invocation::Call;
use crate::lookup::{self, Found};
use crate::publish::{self, Differing};
use crate::restore::dates::place_of;

/// Where outputs of verifications go, in the cache directory. What lies here belongs to one
/// that is under way, or that was killed.
pub const VERIFY_DIRECTORY: &str = "verify";

/// Those in the background have this of it.
const BACKGROUND: &str = "background";

/// A result that is to be made again.
#[derive(Debug)]
pub struct Verification {
    pub(super) call: Arc<Call>,
    pub(super) prepared: Prepared,
    pub(super) action: Digest<ActionMessage>,
    pub(super) result: Box<ActionResult>,
}

/// Counts hits, to take one in so many.
#[derive(Debug, Default)]
pub(super) struct Sampler(AtomicU64);

impl Sampler {
    /// Whether it is this one's turn.
    pub(super) fn takes(&self, one_in: u64) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in)
    }
}

impl Pipeline {
    /// Compiles it again and compares. It takes as long as the compile does; one at a time.
    pub fn verify(&self, verification: &Verification) {
        let directory = self.cache_dir().join(VERIFY_DIRECTORY).join(BACKGROUND);
        match self.verify_in(verification, &directory) {
            Ok(found) => verification.complain(&found),
            Err(error) => tracing::warn!("failed to verify a hit: {error}"),
        }
        let _ = fs::remove_dir_all(&directory);
    }

    fn verify_in(&self, verification: &Verification, directory: &Path) -> anyhow::Result<Vec<Differing>> {
        let Some(argv) = verification.argv_into(directory) else { return Ok(Vec::new()) };
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
        // One that fails where the first succeeded has read something else, too; but so it does
        // where the machine is out of memory. That is no evidence.
        if !compile(&argv, &verification.call)? {
            return Ok(Vec::new());
        }
        let store = self.store().map_err(|why| anyhow::anyhow!("{why}"))?;
        self.compare(verification, directory, &store)
    }

    /// Holds what was made in this directory against what is stored: the outputs that differ. Two
    /// results of one action take it out of service.
    pub(super) fn compare(
        &self,
        verification: &Verification,
        directory: &Path,
        store: &Store,
    ) -> anyhow::Result<Vec<Differing>> {
        let Verification { call, prepared, action, result } = verification;
        let (now, but) = outputs(prepared, directory, store)?;
        let before = ActionResult { output_files: result.output_files.clone(), ..ActionResult::default() };
        let found = publish::differing(prepared.task.query.function, &before, &now, &but, store.blobs())?;
        let Some(first) = found.first() else { return Ok(found) };
        // Whatever was edited meanwhile is no disagreement.
        match self.find(call, prepared, store)? {
            Found::Hit { action: still, .. } if still == *action => {
                lookup::quarantine(store.actions(), action, &first.at)?;
                Ok(found)
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl Verification {
    /// The compiler's command line with its outputs in this directory. `None` where it names
    /// one of them by a path of its own.
    pub(super) fn argv_into(&self, directory: &Path) -> Option<Vec<OsString>> {
        let Verification { call, prepared, .. } = self;
        let out_dir = call.cwd.join(prepared.rustc.out_dir.as_deref()?);
        let stays = |output: &Output| output.path.parent() == Some(&*out_dir);
        let argv = || argv_into(&run::on_a_miss(call, prepared, false).argv, directory);
        prepared.task.outputs.iter().all(stays).then(argv).flatten()
    }

    /// Says which outputs differ, if any do.
    pub(super) fn complain(&self, found: &[Differing]) {
        if found.is_empty() {
            return;
        }
        let outputs: Vec<String> = found.iter().map(|one| format!("`{}`", one.at.output)).collect();
        tracing::error!(
            "two runs of action {} of `{}` disagree about {}: it is out of service",
            self.action.hash.to_hex(),
            self.prepared.task.label.crate_name,
            outputs.join(", "),
        );
    }
}

/// The command line with another `--out-dir`; `None` where outputs are named otherwise.
fn argv_into(argv: &[OsString], directory: &Path) -> Option<Vec<OsString>> {
    let joined = |word: &OsStr| word.as_bytes().starts_with(b"--out-dir=");
    let mut found = false;
    let mut replaced = Vec::with_capacity(argv.len());
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        if word == "--out-dir" {
            words.next()?;
            found = true;
            replaced.extend([word.clone(), directory.as_os_str().to_owned()]);
        } else if joined(word) {
            found = true;
            let path = directory.as_os_str().as_bytes();
            replaced.push(OsString::from_vec([b"--out-dir=", path].concat()));
        } else {
            replaced.push(word.clone());
        }
    }
    found.then_some(replaced)
}

/// Runs it in the call's environment, without cargo's jobserver, whose descriptors only its
/// children have. Whether it succeeded.
fn compile(argv: &[OsString], call: &Call) -> io::Result<bool> {
    let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let is_jobserver = |name: &OsStr| name == "CARGO_MAKEFLAGS" || name == "MAKEFLAGS" || name == "MFLAGS";
    let status = Command::new(program)
        .args(args)
        .env_clear()
        .envs(call.env.iter().filter(|(name, _)| !is_jobserver(name)))
        .current_dir(&call.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// What was made, as a result, and the outputs that are not compared: dep-info names paths,
/// and what was asked for by a path of its own was not made here.
fn outputs(
    prepared: &Prepared,
    directory: &Path,
    store: &Store,
) -> anyhow::Result<(ActionResult, Vec<String>)> {
    let (mut now, mut but) = (ActionResult::default(), Vec::new());
    for output in &prepared.task.outputs {
        let name = String::from_utf8_lossy(&output.name.in_input_root()).into_owned();
        let place = place_of(&prepared.task, output);
        let made: Option<PathBuf> = place.file_name().map(|file| directory.join(file));
        match made {
            Some(made) if output.kind != OutputKind::DepInfo && made.exists() => {
                let function = prepared.task.query.function;
                let (names, _) = store.files().ingest(&made, function, Sharing::Private)?;
                let digest = names.digest(function).expect("it was asked for in this function");
                let digest = Some(kache_cas::encoding::wire_digest(&digest));
                now.output_files.push(OutputFile { path: name, digest, ..OutputFile::default() });
            }
            _ => but.push(name),
        }
    }
    Ok((now, but))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_of_the_outputs_changes() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let into = |argv: &[&str]| argv_into(&words(argv), Path::new("/v"));
        assert_eq!(
            into(&["rustc", "--out-dir", "/a", "x.rs"]),
            Some(words(&["rustc", "--out-dir", "/v", "x.rs"]))
        );
        assert_eq!(into(&["rustc", "--out-dir=/a"]), Some(words(&["rustc", "--out-dir=/v"])));
        assert_eq!(into(&["rustc", "-o", "/a/x"]), None);
    }

    #[test]
    fn one_in_so_many_is_taken() {
        let sampler = Sampler::default();
        assert_eq!((0..9).filter(|_| sampler.takes(3)).count(), 3);
        assert!(sampler.takes(1) && sampler.takes(1));
    }
}
