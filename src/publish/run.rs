//! Stores the result of a compile that ran: observations, action, outputs, action result, trail, in this
//! order.
//!
//! It runs after the client has been answered, except for probes. Invariants: a result is stored only if
//! every input is known and unchanged (KEY-04, KEY-05), and no lookup finds any of it before the trail is
//! written, which is the last step.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::encoding::wire_digest;
use kache_cas::{
    AccessKind, ActionCache, BlobStore, Digest, DigestFunction, FileStamp, Link, LinkedFile, LocalFiles,
    PlaceOptions, Sharing, StoreError,
};
use kache_proto::reapi::{ActionResult, ExecutedActionMetadata, OutputFile};
use kache_proto::well_known::Timestamp;
use thiserror::Error;

use super::compare::differing;
use super::dir_names::{DirNames, dir_names};
use super::explained::CompileReads;
use super::locators::{LocatorProof, LocatorProver};
use super::observe::{ObserveError, observe, recheck};
use super::output_snapshot::OutputSnapshot;
use super::refusal::Refusal;
use super::scan::{RootDir, Scanner};
use super::watched::{DepInfoNames, Watched, observe_watched};
use crate::action::{
    ActionError, FullAction, Observation, ObservationSet, Output, OutputKind, Task, is_shared_variable,
};
use crate::compile::{Captured, Exit, KnownFile, MessageStream};
use crate::inputs::{Input, World, WorldError};
use crate::lookup::{action_key, fetched_key, is_quarantined, learn, quarantine};
use crate::outputs::dates::{self, Dating};
use crate::outputs::dep_info::DepInfo;
use crate::outputs::messages::{self, PortableMessages};
use crate::outputs::paths;
use crate::roles::Form;

/// Longer messages are stored as blobs of their own, so that action results stay small.
const RAW_BYTES_MAX: usize = 64 << 10;

/// The name of the worker in the metadata of action results.
const WORKER: &str = "kache";

/// A compile that has ended, with all that is needed to store its result.
pub struct Publication<'a> {
    /// The task that was compiled.
    pub task: &'a Task,
    /// The inputs that entered the key.
    pub inputs: &'a [Input],
    /// Exit code, messages and times of the compiler.
    pub captured: &'a Captured,
    /// The outputs when the compiler had exited.
    pub snapshot: &'a OutputSnapshot,
    /// Whether the unit had outputs in this target directory before the compiler ran, which
    /// [`crate::outputs::is_rebuild`] said then.
    pub is_rebuild: bool,
    /// The closest sharing that is allowed between the outputs and the store's files.
    pub most: Sharing,
    /// Whether a failure is stored, too (RST-10). This is so for probes. All of their inputs are known
    /// before they run, so they need no dep-info.
    pub keeps_failures: bool,
    /// The function in which the store names the outputs besides its own. It differs from that of the key where
    /// a remote needs other digests.
    pub names_in: DigestFunction,
    /// Proves which variables are locators.
    pub locators: &'a dyn LocatorProver,
    /// The accesses of the compile; `None` if it was not observed.
    pub watched: Option<Watched<'a>>,
    /// Makes the full action from the observations.
    pub complete: &'a dyn Fn(&[Observation]) -> Result<FullAction, ActionError>,
}

/// The parts of the store that a result is written to.
#[derive(Clone, Copy)]
pub struct Stores<'a> {
    /// Takes the output files.
    pub files: &'a dyn LocalFiles,
    /// Takes the dep-info, the messages and the messages of the action.
    pub blobs: &'a dyn BlobStore,
    /// Takes the action result and the trail.
    pub actions: &'a dyn ActionCache,
}

/// The outcome of [`publish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// The result is stored.
    Stored(Stored),
    /// The result is not stored, for this reason.
    Refused(Refusal),
}

/// A result that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The digest of the full action.
    pub action: Digest<ActionMessage>,
    /// The observations that lead to it.
    pub observations: Vec<Observation>,
    /// The size of all outputs in bytes, without the dep-info.
    pub bytes: u64,
    /// The digests of all outputs except the dep-info, so that later calls need not hash them.
    pub outputs: Vec<KnownFile>,
    /// The outputs that now have the inode of the store, which other checkouts may get.
    pub shared: Vec<(PathBuf, Digest)>,
}

/// An error that prevented a result from being stored.
#[derive(Debug, Error)]
pub enum PublishError {
    /// An operation of the store failed.
    #[error("failed to store a result: {0}")]
    Store(#[from] StoreError),
    /// The state of an input could not be read.
    #[error(transparent)]
    World(#[from] WorldError),
    /// An output could not be read.
    #[error("failed to read `{}`: {source}", path.display())]
    Io {
        /// The path of the output.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The action could not be encoded.
    #[error("failed to make the action: {0}")]
    Action(#[from] ActionError),
}

/// The reason why a publication ends early.
enum PublishStop {
    Refused(Refusal),
    Failed(PublishError),
}

impl From<Refusal> for PublishStop {
    fn from(refusal: Refusal) -> Self {
        PublishStop::Refused(refusal)
    }
}

impl<E: Into<PublishError>> From<E> for PublishStop {
    fn from(error: E) -> Self {
        PublishStop::Failed(error.into())
    }
}

impl From<ObserveError> for PublishStop {
    fn from(error: ObserveError) -> Self {
        match error {
            ObserveError::Refused(refusal) => PublishStop::Refused(refusal),
            ObserveError::World(error) => PublishStop::Failed(PublishError::World(error)),
        }
    }
}

/// Stores the result of a compile, or says why it is not stored. It hashes the outputs, which may take
/// seconds.
pub fn publish(
    publication: &Publication<'_>,
    world: &dyn World,
    stores: Stores<'_>,
) -> Result<Published, PublishError> {
    let publisher = Publisher { publication, task: publication.task, world, stores };
    match publisher.run() {
        Ok(stored) => Ok(Published::Stored(stored)),
        Err(PublishStop::Refused(refusal)) => Ok(Published::Refused(refusal)),
        Err(PublishStop::Failed(error)) => Err(error),
    }
}

/// An output that the compile has made.
struct MadeOutput<'a> {
    output: &'a Output,
    /// The absolute path of the file.
    place: PathBuf,
    /// The path in the action result.
    path: String,
}

/// Outputs whose bytes are in the store.
#[derive(Default)]
struct IngestedOutputs {
    /// All outputs, as the action result names them.
    files: Vec<OutputFile>,
    /// The outputs except for the dep-info, for [`Stored::outputs`].
    outputs: Vec<KnownFile>,
    /// The outputs that are the store's own inodes now, for [`Stored::shared`].
    shared: Vec<(PathBuf, Digest)>,
}

struct Publisher<'a> {
    publication: &'a Publication<'a>,
    task: &'a Task,
    world: &'a dyn World,
    stores: Stores<'a>,
}

impl<'a> Publisher<'a> {
    /// Publishes in an order in which each step relies on those before it:
    ///
    /// 1. The outputs and the dep-info are read, and observations are made from them.
    /// 2. The inputs of the key are compared with their digests again. Together with the checks of each
    ///    observation, this shows that nothing changed between the lookup and the compiler's end.
    /// 3. The outputs are compared with the snapshot, before and after the store takes them. In between,
    ///    their dates may change and they may become links to the store's files.
    /// 4. Blobs are stored before the action result that names them, and the trail is written last,
    ///    because lookups begin with it.
    fn run(&self) -> Result<Stored, PublishStop> {
        let exit_code = self.exit_code()?;
        let made = self.made(exit_code)?;
        let dep_info = self.dep_info(&made, exit_code)?;
        let captured = self.publication.captured;
        let (stdout, stderr) =
            (captured.messages_on(MessageStream::Stdout), captured.messages_on(MessageStream::Stderr));
        let kept = messages::to_portable(&self.task.roots, self.task.message_format, &stdout, &stderr)
            .ok_or_else(|| Refusal::Unspeakable("a message of the compiler".to_owned()))?;
        let general = dep_info.as_ref().map(|info| self.generalised(info)).transpose()?;
        let proof = dep_info.as_ref().map(|info| self.locator_proof(info)).transpose()?.flatten();
        let observations = self.observations(dep_info.as_ref(), proof.as_deref(), &made, &kept)?;
        recheck(self.task, self.publication.inputs, self.world)?;
        let action = (self.publication.complete)(&observations)?;
        if let Some(disagreement) = is_quarantined(self.stores.actions, &action.digest)? {
            return Err(Refusal::Quarantined(disagreement).into());
        }
        self.check_snapshot(&made)?;
        let IngestedOutputs { files, outputs, shared } = self.ingest(&made, general.as_ref())?;
        self.check_snapshot(&made)?;
        let bytes = outputs.iter().map(|output| output.digest.size_bytes).sum();
        let result = self.result(files, &kept, exit_code)?;
        self.check_agreement(&action.digest, &result, &made)?;
        self.insert(&action.blobs().collect::<Vec<_>>())?;
        self.stores.actions.put(&action_key(&action.digest), &result)?;
        if let Some(proof) = &proof {
            let kinds = made.iter().map(|made| made.output.kind).filter(|kind| *kind != OutputKind::DepInfo);
            let digests = outputs.iter().map(|output| output.digest);
            proof.store_notes(&kinds.zip(digests).collect::<Vec<_>>(), self.stores.actions)?;
        }
        let set = ObservationSet { observations: observations.clone(), action: action.digest };
        learn(self.stores.actions, &self.task.query, set)?;
        Ok(Stored { action: action.digest, observations, bytes, outputs, shared })
    }

    fn exit_code(&self) -> Result<i32, Refusal> {
        match self.publication.captured.exit {
            Exit::Code(0) => Ok(0),
            Exit::Code(1) if self.publication.keeps_failures && self.has_rejected_source() => Ok(1),
            Exit::Code(_) | Exit::Signal(_) => Err(Refusal::Failed),
        }
    }

    /// Whether the compile failed because of its source, and would fail again.
    fn has_rejected_source(&self) -> bool {
        let stderr = self.publication.captured.messages_on(MessageStream::Stderr);
        self.task.message_format.has_rejected_source(&stderr)
    }

    /// The outputs that this compile has made. Refuses if a required output is missing, or if another
    /// process has written one.
    fn made(&self, exit_code: i32) -> Result<Vec<MadeOutput<'a>>, Refusal> {
        let mut made = Vec::new();
        for output in &self.task.outputs {
            let place = output.path.clone();
            let is_there = fs::metadata(&place).is_ok_and(|metadata| metadata.is_file());
            if !is_there && output.is_required && exit_code == 0 {
                return Err(Refusal::NoOutput(place));
            }
            // An optional output may be left over from an earlier compile.
            if is_there && (output.is_required || self.is_new(&place)) {
                let snapshot = self.publication.snapshot;
                if !snapshot.was_created_in_time(self.task, output.kind, &place)
                    || !snapshot.was_written_in_time(output.kind, &place)
                {
                    return Err(Refusal::Changed(place));
                }
                let path = String::from_utf8(output.name.in_input_root())
                    .map_err(|_| Refusal::Unspeakable(format!("`{}`", place.display())))?;
                made.push(MadeOutput { output, place, path });
            }
        }
        Ok(made)
    }

    /// Refuses if an output has changed since the snapshot.
    fn check_snapshot(&self, made: &[MadeOutput<'_>]) -> Result<(), Refusal> {
        let snapshot = self.publication.snapshot;
        let replaced = made.iter().find(|made| !snapshot.is_unchanged(self.task, &made.place));
        replaced.map_or(Ok(()), |made| Err(Refusal::Replaced(made.place.clone())))
    }

    /// Whether a file was written since the compiler was started.
    fn is_new(&self, place: &Path) -> bool {
        /// The coarsest clock tick of a filesystem.
        const CLOCK_TICK_MAX: Duration = Duration::from_secs(2);
        let modified = fs::metadata(place).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| modified + CLOCK_TICK_MAX >= self.publication.captured.started)
    }

    /// Reads the dep-info, with the declared inputs added. `None` if a probe or a failed compile has made
    /// none.
    fn dep_info(&self, made: &[MadeOutput<'_>], exit_code: i32) -> Result<Option<DepInfo>, PublishStop> {
        let Some(found) = made.iter().find(|made| made.output.kind == OutputKind::DepInfo) else {
            if exit_code != 0 || self.publication.keeps_failures {
                return Ok(None);
            }
            return Err(Refusal::UnknownInputs("there is no dep-info".to_owned()).into());
        };
        let text = fs::read(&found.place).map_err(|error| failed(&found.place, error))?;
        match DepInfo::parse(&text) {
            Ok(mut info) => {
                // The file names them already, unless the client continued before it could be amended.
                info.add_files(&self.task.extra_dep_info);
                Ok(Some(info))
            }
            Err(error) => Err(Refusal::UnknownInputs(error.to_string()).into()),
        }
    }

    fn locator_proof(&self, info: &DepInfo) -> Result<Option<Box<dyn LocatorProof>>, StoreError> {
        let Publication { task, inputs, locators, .. } = self.publication;
        locators.prove(task, info, inputs, self.stores.actions)
    }

    /// All observations of this run, sorted and without duplicates. They come from four sources: the
    /// dep-info, the observer's record, the paths of roots in outputs and messages, and the way in which
    /// messages are shown.
    fn observations(
        &self,
        dep_info: Option<&DepInfo>,
        proof: Option<&dyn LocatorProof>,
        made: &[MadeOutput<'_>],
        kept: &PortableMessages,
    ) -> Result<Vec<Observation>, PublishStop> {
        let started = self.publication.captured.started;
        let is_locator = |name: &str| proof.is_some_and(|proof| proof.is_locator(name));
        let mut observations = match dep_info {
            Some(info) => {
                observe(self.task, info, self.publication.inputs, started, &is_locator, self.world)?
            }
            None => Vec::new(),
        };
        let mut names = DirNames::new();
        if let Some(watched) = &self.publication.watched {
            let inputs = self.publication.inputs;
            let named = dep_info.map(|info| self.dep_info_names(info)).unwrap_or_default();
            let read = observe_watched(self.task, watched, inputs, &named, started, self.world)?;
            observations.extend(read.observations);
            names = dir_names(&read.disclosed, self.task, self.world);
        }
        let mut scanner =
            Scanner::new(&self.task.roots, &self.task.cwd).with_names(names.keys().map(Vec::as_slice));
        for made in made.iter().filter(|made| made.output.kind != OutputKind::DepInfo) {
            scanner.scan(&made.place).map_err(|error| failed(&made.place, error))?;
        }
        // A path in a message for which there is no stand-in binds the result, too.
        scanner.look(&kept.stdout);
        scanner.look(&kept.stderr);
        let mut found = self.dirs_with_unexplained_names(&scanner, &names, &observations);
        found.extend(scanner.found());
        let bindings = found.into_iter().filter_map(|dir| dir.binding(self.task, self.world));
        observations.extend(bindings);
        if kept.has_messages() {
            observations.push(Observation::Presentation { options: self.task.presentation.clone() });
        }
        observations.sort();
        observations.dedup();
        Ok(observations)
    }

    /// The directories whose names are in the outputs and in nothing else that the compiler read, so that a
    /// macro must have taken the name out of a path. What was read is searched only for names that the
    /// scanner has found, because it is large.
    fn dirs_with_unexplained_names(
        &self,
        scanner: &Scanner,
        names: &DirNames,
        observations: &[Observation],
    ) -> BTreeSet<RootDir> {
        let Some(watched) = self.publication.watched.as_ref().filter(|_| !scanner.found_names().is_empty())
        else {
            return BTreeSet::new();
        };
        let (task, inputs) = (self.task, self.publication.inputs);
        let reads = CompileReads { task, inputs, observations, key: (watched.key)() };
        let unexplained = reads.unexplained(scanner.found_names());
        unexplained.into_iter().filter_map(|name| names.get(name)).flatten().copied().collect()
    }

    fn dep_info_names(&self, info: &DepInfo) -> DepInfoNames {
        let file = |name: &Vec<u8>| self.task.cwd.join(OsStr::from_bytes(name));
        DepInfoNames {
            files: info.files.iter().map(file).collect(),
            variables: info.env.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Stores the bytes of the outputs, and sets the mode and date of those that are shared.
    fn ingest(
        &self,
        made: &[MadeOutput<'_>],
        dep_info: Option<&DepInfo>,
    ) -> Result<IngestedOutputs, PublishStop> {
        let Publication { is_rebuild, most, .. } = *self.publication;
        // If the earlier step has run again meanwhile, the build tool compiles this unit again.
        let is_rebuild = is_rebuild || !self.publication.snapshot.is_earlier_step_unchanged(self.task);
        let dating = dates::decide(self.task, self.stores.files, is_rebuild, None, most);
        let IngestedOutputs { mut files, mut outputs, mut shared } = IngestedOutputs::default();
        for made in made {
            let (digest, seen, is_shared) = match (made.output.kind, dep_info) {
                (OutputKind::DepInfo, Some(info)) => (self.insert_dep_info(info)?, None, false),
                _ => self.ingest_one(made, dating)?,
            };
            if is_shared {
                shared.push((made.place.clone(), digest));
            }
            if made.output.kind != OutputKind::DepInfo {
                outputs.push(KnownFile { path: made.place.clone(), digest, seen });
            }
            files.push(OutputFile {
                path: made.path.clone(),
                digest: Some(wire_digest(&digest)),
                is_executable: made.output.kind.is_executable(),
                ..Default::default()
            });
        }
        Ok(IngestedOutputs { files, outputs, shared })
    }

    /// Stores one output. Returns its digest, its stamp, and whether other checkouts may share its inode.
    fn ingest_one(
        &self,
        made: &MadeOutput<'_>,
        dating: Dating,
    ) -> Result<(Digest, Option<FileStamp>, bool), PublishStop> {
        let placing = dates::placing(self.task, made.output, dating);
        let function = self.publication.names_in;
        if placing.sharing == Sharing::Hardlink {
            // This comes before the store links the file, since the date of a shared inode must not change
            // (RST-02).
            self.set_mode_and_date(made, &placing)?;
        }
        let ingest = || self.stores.files.ingest(&made.place, function, placing.sharing);
        // The build tool may set the date of the file at this moment, so a change is no error the first time.
        let ingested = match ingest() {
            Err(StoreError::Changed { .. }) => ingest(),
            ingested => ingested,
        };
        let (names, LinkedFile { link, stamp }) = ingested?;
        // The check comes after the file was read. So it is a check of the file that was read.
        let snapshot = self.publication.snapshot;
        if !snapshot.was_created_in_time(self.task, made.output.kind, &made.place) {
            return Err(Refusal::Changed(made.place.clone()).into());
        }
        let digest = names.digest(self.task.query.function).expect("the store always makes its own digest");
        let is_shared = link == Link::Hardlink && placing.sharing == Sharing::Hardlink;
        Ok((digest, stamp, is_shared))
    }

    /// Gives an output the mode and date of a shared file. The file is opened first and compared through its
    /// descriptor, because another compile may replace the file at this path at any time.
    fn set_mode_and_date(
        &self,
        made: &MadeOutput<'_>,
        placing: &PlaceOptions<'_>,
    ) -> Result<(), PublishStop> {
        let file = File::open(&made.place).map_err(|error| failed(&made.place, error))?;
        let metadata = file.metadata().map_err(|error| failed(&made.place, error))?;
        if !self.publication.snapshot.is_of(self.task, &made.place, &metadata) {
            return Err(Refusal::Replaced(made.place.clone()).into());
        }
        Ok(dates::set_mode_and_date(&file, placing).map_err(|error| failed(&made.place, error))?)
    }

    /// The dep-info in its portable form, which every checkout can use. It does not tell the values of variables that
    /// may be secret: a restore takes them from the call, whose values are the same (NET-06).
    fn generalised(&self, info: &DepInfo) -> Result<DepInfo, Refusal> {
        let roots = &self.task.roots;
        let mut info = info.clone();
        info.remove_values(|name| !is_shared_variable(name));
        info.map(|path| paths::generalise_path(roots, path), |value| roots.generalise(value, Form::Value))
            .ok_or_else(|| Refusal::Unspeakable("the dep-info".to_owned()))
    }

    fn insert_dep_info(&self, info: &DepInfo) -> Result<Digest, PublishStop> {
        let bytes = Bytes::from(info.render());
        let digest = Digest::of(self.task.query.function, &bytes);
        self.insert(&[(digest, bytes)])?;
        Ok(digest)
    }

    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Result<(), StoreError> {
        self.stores.blobs.insert(blobs).into_iter().collect()
    }

    fn result(
        &self,
        files: Vec<OutputFile>,
        kept: &PortableMessages,
        exit_code: i32,
    ) -> Result<ActionResult, PublishStop> {
        let captured = self.publication.captured;
        let metadata = ExecutedActionMetadata {
            worker: WORKER.to_owned(),
            execution_start_timestamp: timestamp(captured.started),
            execution_completed_timestamp: timestamp(captured.started + captured.wall),
            ..Default::default()
        };
        let mut result = ActionResult {
            output_files: files,
            exit_code,
            execution_metadata: Some(metadata),
            ..Default::default()
        };
        for (said, raw, digest) in [
            (&kept.stdout, &mut result.stdout_raw, &mut result.stdout_digest),
            (&kept.stderr, &mut result.stderr_raw, &mut result.stderr_digest),
        ] {
            let bytes = Bytes::from(said.clone());
            if bytes.len() <= RAW_BYTES_MAX {
                *raw = bytes;
                continue;
            }
            let name = Digest::of(self.task.query.function, &bytes);
            *digest = Some(wire_digest(&name));
            self.insert(&[(name, bytes)])?;
        }
        Ok(result)
    }

    /// Quarantines the action if the store has a result of it with different outputs, made here or fetched
    /// (KEY-23). Dep-info is
    /// not compared, because the order of names in it differs from run to run.
    fn check_agreement(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        made: &[MadeOutput<'_>],
    ) -> Result<(), PublishStop> {
        let known = |key| self.stores.actions.get(&key, AccessKind::Peek);
        let before = match known(action_key(action))? {
            Some(made_here) => Some(made_here),
            None => known(fetched_key(action))?,
        };
        let Some(before) = before else { return Ok(()) };
        let dep_infos = made.iter().filter(|made| made.output.kind == OutputKind::DepInfo);
        let but: Vec<String> = dep_infos.map(|made| made.path.clone()).collect();
        let differences = differing(action.function, &before.decode()?, result, &but, self.stores.blobs)?;
        let Some(disagreement) = differences.into_iter().next().map(|first| first.at) else { return Ok(()) };
        quarantine(self.stores.actions, action, &disagreement)?;
        Err(Refusal::Disagrees(disagreement).into())
    }
}

fn failed(path: &Path, source: std::io::Error) -> PublishError {
    PublishError::Io { path: path.to_owned(), source }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: i32::try_from(since.subsec_nanos()).ok()?,
    })
}
