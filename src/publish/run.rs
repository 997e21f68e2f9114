//! Storing a finished compile: observations, re-check, scan, action, outputs, result, trail.
//!
//! Runs after the call has been answered. What is not certain is not stored, and nothing of
//! it is visible before the trail is written, which is last.

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

use super::amend::add_declared;
use super::compare::differing;
use super::dir_names::{DirNames, dir_names};
use super::explained::Readings;
use super::macro_notes::{LocatorProof, MacroArguments};
use super::observe::{Trouble, observe, recheck};
use super::own::{is_own, is_untouched};
use super::refusal::Refusal;
use super::scan::{Found, Scanner};
use super::stamps::Stamps;
use super::watched::{Named, Watched, observe_watched};
use crate::action::{ActionError, FullAction, Observation, ObservationSet, Output, OutputKind, Task};
use crate::compile::{Captured, Exit, KnownFile, MessageStream};
use crate::inputs::{Input, World, WorldError};
use crate::lookup::{action_key, is_quarantined, learn, quarantine};
use crate::outputs::dates::{self, Dating, place_of};
use crate::outputs::dep_info::DepInfo;
use crate::outputs::messages::{self, PortableMessages};
use crate::outputs::paths;
use crate::roles::Form;

/// Messages above this are blobs of their own, so that a result remains small.
const RAW_BYTES_MAX: usize = 64 << 10;

/// Who made a result, as its metadata says.
const WORKER: &str = "kache";

/// A compile that is over.
pub struct Publication<'a> {
    /// What was asked for.
    pub task: &'a Task,
    /// The inputs that entered the key.
    pub inputs: &'a [Input],
    /// How it went.
    pub captured: &'a Captured,
    /// What its outputs looked like when the compiler had ended.
    pub stamps: &'a Stamps,
    /// Whether the unit had been made in this target directory before the compiler ran
    /// ([`crate::outputs::is_rebuild`], asked then).
    pub is_rebuild: bool,
    /// What its outputs and the store's files may share at most.
    pub most: Sharing,
    /// Whether all that it reads was known before, so that it needs no dep-info, and its
    /// failure is kept too (RST-10).
    pub keeps_failures: bool,
    /// What the arguments say about the macros that the compile makes and uses.
    pub macros: MacroArguments,
    /// What it asked for, where that was observed.
    pub watched: Option<Watched<'a>>,
    /// Makes the full action of what was observed.
    pub complete: &'a dyn Fn(&[Observation]) -> Result<FullAction, ActionError>,
}

/// Where things are stored.
#[derive(Clone, Copy)]
pub struct Stores<'a> {
    /// Files.
    pub files: &'a dyn LocalFiles,
    /// Blobs.
    pub blobs: &'a dyn BlobStore,
    /// Results.
    pub actions: &'a dyn ActionCache,
}

/// What became of a compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is stored.
    Stored(Stored),
    /// It is not, for this reason.
    Refused(Refusal),
}

/// A compile that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its full action.
    pub action: Digest<ActionMessage>,
    /// The bytes of its outputs.
    pub bytes: u64,
    /// Outputs by content, so that nobody has to read them to know.
    pub outputs: Vec<KnownFile>,
    /// Of these, what is the store's own inode from now on, which other checkouts may get.
    pub shared: Vec<(PathBuf, Digest)>,
}

/// A compile that could not be stored.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The store failed.
    #[error("failed to store a result: {0}")]
    Store(#[from] StoreError),
    /// The state of a file could not be told.
    #[error(transparent)]
    World(#[from] WorldError),
    /// An output could not be read.
    #[error("failed to read `{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The action could not be made.
    #[error("failed to make the action: {0}")]
    Action(#[from] ActionError),
}

/// Why it ends early.
enum Stop {
    Refused(Refusal),
    Failed(PublishError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl<E: Into<PublishError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(refusal) => Stop::Refused(refusal),
            Trouble::World(error) => Stop::Failed(PublishError::World(error)),
        }
    }
}

/// Stores a compile.
pub fn publish(
    publication: &Publication<'_>,
    world: &dyn World,
    stores: Stores<'_>,
) -> Result<Published, PublishError> {
    let publisher = Publisher { publication, task: publication.task, world, stores };
    match publisher.run() {
        Ok(stored) => Ok(Published::Stored(stored)),
        Err(Stop::Refused(refusal)) => Ok(Published::Refused(refusal)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// An output that is there.
struct Made<'a> {
    output: &'a Output,
    place: PathBuf,
    path: String,
}

/// Outputs whose bytes are in the store.
#[derive(Default)]
struct Ingested {
    /// As a result names them.
    files: Vec<OutputFile>,
    /// Where they lie here; without the dep-info.
    outputs: Vec<KnownFile>,
    /// Of these, what is the store's own inode, which other checkouts may get.
    shared: Vec<(PathBuf, Digest)>,
}

struct Publisher<'a> {
    publication: &'a Publication<'a>,
    task: &'a Task,
    world: &'a dyn World,
    stores: Stores<'a>,
}

impl<'a> Publisher<'a> {
    fn run(&self) -> Result<Stored, Stop> {
        let exit_code = self.exit_code()?;
        let made = self.made(exit_code)?;
        let dep_info = self.dep_info(&made, exit_code)?;
        let captured = self.publication.captured;
        let (stdout, stderr) =
            (captured.messages_on(MessageStream::Stdout), captured.messages_on(MessageStream::Stderr));
        let kept = messages::to_portable(&self.task.roots, &stdout, &stderr)
            .ok_or_else(|| Refusal::Unspeakable("what the compiler said".to_owned()))?;
        let general = dep_info.as_ref().map(|info| self.generalised(info)).transpose()?;
        let proof = dep_info.as_ref().map(|info| self.locator_proof(info)).transpose()?.flatten();
        let observations = self.observations(dep_info.as_ref(), proof.as_ref(), &made, &kept)?;
        recheck(self.task, self.publication.inputs, self.world)?;
        let action = (self.publication.complete)(&observations)?;
        if let Some(disagreement) = is_quarantined(self.stores.actions, &action.digest)? {
            return Err(Refusal::Quarantined(disagreement).into());
        }
        // Before anything is dated or shared, and after all of it was read.
        self.check_stamps(&made)?;
        let Ingested { files, outputs, shared } = self.ingest(&made, general.as_ref())?;
        self.check_stamps(&made)?;
        let bytes = outputs.iter().map(|output| output.digest.size_bytes).sum();
        let result = self.result(files, &kept, exit_code)?;
        self.check_agreement(&action.digest, &result, &made)?;
        self.insert(&action.blobs().collect::<Vec<_>>())?;
        self.stores.actions.put(&action_key(&action.digest), &result)?;
        if let Some(proof) = &proof {
            let kinds = made.iter().map(|made| made.output.kind).filter(|kind| *kind != OutputKind::DepInfo);
            let digests = outputs.iter().map(|output| &output.digest);
            proof.store_notes(kinds.zip(digests), self.stores.actions)?;
        }
        learn(self.stores.actions, &self.task.query, ObservationSet { observations, action: action.digest })?;
        Ok(Stored { action: action.digest, bytes, outputs, shared })
    }

    fn exit_code(&self) -> Result<i32, Refusal> {
        match self.publication.captured.exit {
            Exit::Code(0) => Ok(0),
            Exit::Code(1) if self.publication.keeps_failures && self.is_verdict() => Ok(1),
            Exit::Code(_) | Exit::Signal(_) => Err(Refusal::Failed),
        }
    }

    /// Whether a failure is the compiler's opinion of the source. It has a number then; a full
    /// disk or a directory that is not there has none, and the next try may go well.
    fn is_verdict(&self) -> bool {
        let said = self.publication.captured.messages_on(MessageStream::Stderr);
        memchr::memmem::find(&said, b"error[E").is_some()
    }

    /// The outputs that this compile has made.
    fn made(&self, exit_code: i32) -> Result<Vec<Made<'a>>, Refusal> {
        let mut made = Vec::new();
        for output in &self.task.outputs {
            let place = place_of(self.task, output);
            let is_there = fs::metadata(&place).is_ok_and(|metadata| metadata.is_file());
            if !is_there && output.is_required && exit_code == 0 {
                return Err(Refusal::NoOutput(place));
            }
            // What nobody asked for may be a leftover.
            if is_there && (output.is_required || self.is_new(&place)) {
                if !is_own(self.task, output.kind, &place, self.ended())
                    || !is_untouched(output.kind, &place, self.ended())
                {
                    return Err(Refusal::Changed(place));
                }
                let path = String::from_utf8(output.name.in_input_root())
                    .map_err(|_| Refusal::Unspeakable(format!("`{}`", place.display())))?;
                made.push(Made { output, place, path });
            }
        }
        Ok(made)
    }

    /// Whether the outputs are still those of this compile.
    fn check_stamps(&self, made: &[Made<'_>]) -> Result<(), Refusal> {
        let replaced = made.iter().find(|made| !self.publication.stamps.still_hold(self.task, &made.place));
        replaced.map_or(Ok(()), |made| Err(Refusal::Replaced(made.place.clone())))
    }

    /// When the compiler had ended.
    fn ended(&self) -> SystemTime {
        let captured = self.publication.captured;
        captured.started + captured.wall
    }

    fn is_new(&self, place: &Path) -> bool {
        /// How coarse the clocks of filesystems are, at most.
        const GRAIN: Duration = Duration::from_secs(2);
        let modified = fs::metadata(place).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| modified + GRAIN >= self.publication.captured.started)
    }

    fn dep_info(&self, made: &[Made<'_>], exit_code: i32) -> Result<Option<DepInfo>, Stop> {
        let Some(found) = made.iter().find(|made| made.output.kind == OutputKind::DepInfo) else {
            // All of it was known before, or nothing of it is kept.
            if exit_code != 0 || self.publication.keeps_failures {
                return Ok(None);
            }
            return Err(Refusal::UnknownInputs("there is no dep-info".to_owned()).into());
        };
        let text = fs::read(&found.place).map_err(|error| failed(&found.place, error))?;
        match DepInfo::parse(&text) {
            Ok(mut info) => {
                // They are there already, unless the client went on before they could be added.
                add_declared(self.task, &mut info);
                Ok(Some(info))
            }
            Err(error) => Err(Refusal::UnknownInputs(error.to_string()).into()),
        }
    }

    fn locator_proof(&self, info: &DepInfo) -> Result<Option<LocatorProof>, StoreError> {
        let Publication { task, inputs, macros, .. } = self.publication;
        LocatorProof::read(task, info, inputs, *macros, self.stores.actions)
    }

    /// Everything this run saw, sorted.
    fn observations(
        &self,
        dep_info: Option<&DepInfo>,
        proof: Option<&LocatorProof>,
        made: &[Made<'_>],
        kept: &PortableMessages,
    ) -> Result<Vec<Observation>, Stop> {
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
            let named = dep_info.map(|info| self.named(info)).unwrap_or_default();
            let read = observe_watched(self.task, watched, inputs, &named, started, self.world)?;
            observations.extend(read.observations);
            names = dir_names(&read.told, self.task, self.world);
        }
        let mut scanner =
            Scanner::new(&self.task.roots, &self.task.cwd).with_names(names.keys().map(Vec::as_slice));
        for made in made.iter().filter(|made| made.output.kind != OutputKind::DepInfo) {
            scanner.scan(&made.place).map_err(|error| failed(&made.place, error))?;
        }
        // A path that could not be replaced in a message binds as well.
        scanner.look(&kept.stdout);
        scanner.look(&kept.stderr);
        let mut found = self.named_by(&scanner, &names, &observations);
        found.extend(scanner.found());
        let found = found.into_iter();
        observations.extend(found.filter_map(|found| found.observation(self.task, self.world)));
        if kept.has_messages() {
            observations.push(Observation::Presentation { options: self.task.presentation.clone() });
        }
        observations.sort();
        observations.dedup();
        Ok(observations)
    }

    /// The directories whose names are in the outputs, and in nothing that the compiler read.
    fn named_by(&self, scanner: &Scanner, names: &DirNames, seen: &[Observation]) -> BTreeSet<Found> {
        let Some(watched) = self.publication.watched.as_ref().filter(|_| !scanner.found_names().is_empty())
        else {
            return BTreeSet::new();
        };
        let (task, inputs) = (self.task, self.publication.inputs);
        let readings = Readings { task, inputs, observations: seen, key: (watched.key)() };
        let unexplained = readings.unexplained(scanner.found_names());
        unexplained.into_iter().filter_map(|name| names.get(name)).flatten().copied().collect()
    }

    fn named(&self, info: &DepInfo) -> Named {
        let file = |name: &Vec<u8>| self.task.cwd.join(OsStr::from_bytes(name));
        Named {
            files: info.files.iter().map(file).collect(),
            variables: info.env.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Stores the outputs' bytes, and dates those that the store and this checkout share.
    fn ingest(&self, made: &[Made<'_>], dep_info: Option<&DepInfo>) -> Result<Ingested, Stop> {
        let Publication { is_rebuild, most, .. } = *self.publication;
        // One whose build script has run again meanwhile is made anew as well.
        let is_rebuild = is_rebuild || !self.publication.stamps.build_script_holds(self.task);
        let dating = dates::decide(self.task, self.stores.files, is_rebuild, None, most);
        let Ingested { mut files, mut outputs, mut shared } = Ingested::default();
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
        Ok(Ingested { files, outputs, shared })
    }

    /// Stores one output. Returns its digest, how the file looked then, and whether other checkouts
    /// may share its inode.
    fn ingest_one(&self, made: &Made<'_>, dating: Dating) -> Result<(Digest, Option<FileStamp>, bool), Stop> {
        let placing = dates::placing(self.task, made.output, dating);
        let function = self.task.query.function;
        if placing.sharing == Sharing::Hardlink {
            // Before it is shared: afterwards its date must not change (RST-02).
            self.set_mode_and_date(made, &placing)?;
        }
        let ingest = || self.stores.files.ingest(&made.place, function, placing.sharing);
        // Cargo may be giving it another date just now.
        let ingested = match ingest() {
            Err(StoreError::Changed { .. }) => ingest(),
            ingested => ingested,
        };
        let (names, LinkedFile { link, stamp: seen }) = ingested?;
        // Looked at after it was read, so it is what was read.
        if !is_own(self.task, made.output.kind, &made.place, self.ended()) {
            return Err(Refusal::Changed(made.place.clone()).into());
        }
        let hash = match function {
            DigestFunction::Blake3 => names.blake3,
            DigestFunction::Sha256 => names.sha256.expect("it was asked for"),
        };
        let is_shared = link == Link::Hardlink && placing.sharing == Sharing::Hardlink;
        Ok((Digest::new(function, hash, names.size_bytes), seen, is_shared))
    }

    /// Gives an output the mode and date that it is to be shared with. The file is opened first and looked
    /// at by its descriptor: since the last look another compile may have put its own in this place.
    fn set_mode_and_date(&self, made: &Made<'_>, placing: &PlaceOptions<'_>) -> Result<(), Stop> {
        let file = File::open(&made.place).map_err(|error| failed(&made.place, error))?;
        let metadata = file.metadata().map_err(|error| failed(&made.place, error))?;
        if !self.publication.stamps.hold_for(self.task, &made.place, &metadata) {
            return Err(Refusal::Replaced(made.place.clone()).into());
        }
        Ok(dates::set_mode_and_date(&file, placing).map_err(|error| failed(&made.place, error))?)
    }

    /// The dep-info for any checkout.
    fn generalised(&self, info: &DepInfo) -> Result<DepInfo, Refusal> {
        let roots = &self.task.roots;
        info.map(|path| paths::generalise_path(roots, path), |value| roots.generalise(value, Form::Value))
            .ok_or_else(|| Refusal::Unspeakable("the dep-info".to_owned()))
    }

    fn insert_dep_info(&self, info: &DepInfo) -> Result<Digest, Stop> {
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
    ) -> Result<ActionResult, Stop> {
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

    /// Takes the action out of service if there is another result of it.
    fn check_agreement(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        made: &[Made<'_>],
    ) -> Result<(), Stop> {
        let Some(before) = self.stores.actions.get(&action_key(action), AccessKind::Peek)? else {
            return Ok(());
        };
        let dep_infos = made.iter().filter(|made| made.output.kind == OutputKind::DepInfo);
        let but: Vec<String> = dep_infos.map(|made| made.path.clone()).collect();
        let found = differing(action.function, &before.decode()?, result, &but, self.stores.blobs)?;
        let Some(found) = found.into_iter().next().map(|first| first.at) else { return Ok(()) };
        quarantine(self.stores.actions, action, &found)?;
        Err(Refusal::Disagrees(found).into())
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
