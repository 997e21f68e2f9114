//! The world as it is on disk, hashed once.
//!
//! Everything it says is true of the moment it is asked: a memo or a fact is only used after
//! a `stat` has confirmed it. A file is hashed again every time where that proves nothing (KEY-05):
//! while it is younger than the filesystem clock's grain, while somebody may write to it through a
//! mapping, and on a filesystem whose dates do not tell of every change. Where kache itself has just
//! written a file, its age does not matter.

use std::fs::{self, File, FileType};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use kache_cas::{Digest, DigestFunction, FileStamp, Hasher};

use super::bytes::Writer;
use super::crates::{Crates, MadeCrate, Uses};
use super::facts::{Fact, Facts};
use super::memos::Memos;
use super::snapshot::Snapshot;
use super::stamp::{OpenDir, Stamp, is_absence};
use super::volume::Volumes;
use super::world::{FileState, World, WorldError};

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// How often a file that changes while it is read is read before it counts as unreadable.
const READS_MAX: u32 = 3;

/// The function that names inputs: the store's own.
pub(super) const FUNCTION: DigestFunction = DigestFunction::Blake3;

/// How long a fact holds whose files cannot be proven to be what they were.
#[derive(Clone, Copy)]
enum Standing {
    /// The fact holds until one of its files changes.
    Lasting,
    /// The fact holds for [`super::facts::MOMENT`].
    ForAMoment,
}

/// Files, directories and what was found out about them.
#[derive(Debug, Default)]
pub struct DiskWorld {
    memos: Memos,
    facts: Facts,
    crates: Crates,
    volumes: Volumes,
    snapshot: Option<PathBuf>,
    is_changed: AtomicBool,
    saving: Mutex<()>,
}

impl DiskWorld {
    /// A world that is forgotten when it goes.
    pub fn new() -> DiskWorld {
        DiskWorld::default()
    }

    /// With what an earlier one has saved in this file.
    pub fn open(snapshot: impl Into<PathBuf>) -> DiskWorld {
        let world = DiskWorld { snapshot: Some(snapshot.into()), ..DiskWorld::default() };
        world.learn_from_others();
        world
    }

    /// Takes in what was saved by whoever saved last, on top of what is known here.
    pub fn learn_from_others(&self) {
        let Some(path) = &self.snapshot else { return };
        let kept = Snapshot::load(path);
        kept.memos.iter().for_each(|memo| self.memos.put(memo.stamp, memo.digest));
        kept.facts.into_iter().for_each(|(question, fact)| self.facts.put(question, fact));
        self.crates.load(kept.crates);
    }

    /// Saves what is known, if there is anything new and a file for it.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.snapshot else { return Ok(()) };
        // Two writers at once would spoil each other's file.
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let kept = Snapshot { memos: self.memos.all(), facts: self.facts.all(), crates: self.crates.all() };
        kept.save(path).inspect_err(|_| self.is_changed.store(true, Ordering::Relaxed))
    }

    /// This file was just laid down by kache, or taken into the store as it is, and then it looked
    /// like this: its content is known without reading it, however young it is. Where it looks
    /// otherwise by now, somebody may have written to it, and nothing is remembered.
    pub fn note_placed(&self, path: &Path, digest: Digest, seen: Option<FileStamp>) {
        self.is_changed.store(true, Ordering::Relaxed);
        if let Some(seen) = seen
            && let Ok(Some(stamp)) = Stamp::of(path)
            && stamp.is_file()
            && stamp.is_as_seen(&seen)
            && self.volumes.proves_placed(path, &stamp)
        {
            self.memos.put(stamp, digest);
        }
    }

    /// The digest that is remembered for a file with this stamp.
    #[cfg(test)]
    pub(super) fn remembers(&self, stamp: &Stamp) -> Option<Digest> {
        self.memos.get(stamp)
    }

    /// What the crate in this file uses, if its compile was seen.
    pub(super) fn uses(&self, path: &Path, digest: &Digest) -> Option<Arc<Uses>> {
        self.crates.get(path, digest)
    }

    /// A compile begins that will make this crate.
    pub(super) fn begin_crate(&self, made: &MadeCrate) {
        self.crates.begin(made);
    }

    /// A file with this content is an output of the compile that makes this crate, or was restored as one.
    /// What the crate uses is known by the content from now on.
    pub fn note_crate(&self, made: &MadeCrate, path: &Path, digest: &Digest) {
        self.crates.note(made, path, digest);
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// The answer to a question: from memory while nothing that it was made of has changed,
    /// else found by `find`, which also says which paths it depends on.
    pub(super) fn fact<E>(
        &self,
        question: Writer,
        find: impl FnOnce() -> Result<(Vec<u8>, Vec<PathBuf>), E>,
    ) -> Result<Arc<Fact>, E> {
        self.find_fact(question, find, Standing::Lasting)
    }

    /// The same about programs that were installed: a toolchain, a linker. Where the dates of their
    /// files prove nothing, they are believed for a moment all the same, since hashing them takes as
    /// long as a small compile, and programs are not patched in place between two calls of a build.
    pub(super) fn fact_of_installed<E>(
        &self,
        question: Writer,
        find: impl FnOnce() -> Result<(Vec<u8>, Vec<PathBuf>), E>,
    ) -> Result<Arc<Fact>, E> {
        self.find_fact(question, find, Standing::ForAMoment)
    }

    fn find_fact<E>(
        &self,
        question: Writer,
        find: impl FnOnce() -> Result<(Vec<u8>, Vec<PathBuf>), E>,
        without_proof: Standing,
    ) -> Result<Arc<Fact>, E> {
        let question = question.0;
        if let Some(fact) = self.facts.get(&question) {
            return Ok(fact);
        }
        let begun = SystemTime::now();
        let (value, mut paths) = find()?;
        paths.sort_unstable();
        paths.dedup();
        let stamped: io::Result<Vec<_>> =
            paths.into_iter().map(|path| Stamp::of(&path).map(|stamp| (path, stamp))).collect();
        let Ok(depends_on) = stamped else {
            return Ok(Arc::new(Fact::new(value, Vec::new())));
        };
        let is_settled = depends_on.iter().flat_map(|(_, stamp)| stamp).all(|stamp| stamp.is_settled(begun));
        let is_proven = is_settled && self.prove(&depends_on);
        let fact = Fact::new(value, depends_on);
        let fact = match (is_settled, is_proven, without_proof) {
            (true, true, _) => Arc::new(fact),
            (true, false, Standing::ForAMoment) => Arc::new(fact.for_a_moment()),
            _ => return Ok(Arc::new(fact)),
        };
        self.facts.put(question, fact.clone());
        self.is_changed.store(true, Ordering::Relaxed);
        Ok(fact)
    }

    /// Whether the stamps of all these show every change.
    fn prove(&self, paths: &[(PathBuf, Option<Stamp>)]) -> bool {
        paths.iter().all(|(path, stamp)| self.volumes.proves(path, stamp.as_ref()))
    }

    /// The names in a directory, in order; `None` if there is no directory.
    pub(super) fn names(&self, path: &Path) -> Result<Option<Vec<Vec<u8>>>, WorldError> {
        let found = entries(path).map_err(|source| WorldError { path: path.to_owned(), source })?;
        Ok(found.map(|entries| entries.into_iter().map(|(name, _)| name).collect()))
    }

    /// A file is what was read if nothing about it changed meanwhile, or if it reads the same
    /// twice: while kache stores what a compiler has just made, its dates, links and permissions
    /// change, and that is when the next compile asks for it.
    fn digest(&self, path: &Path, stamp: &Stamp) -> io::Result<(Stamp, Digest)> {
        if let Some(digest) = self.memos.get(stamp) {
            return Ok((*stamp, digest));
        }
        let mut last = None;
        for _ in 0..READS_MAX {
            let begun = SystemTime::now();
            let Reading { before, after, digest, is_proven } = hash(path, &self.volumes, begun)?;
            let is_whole = digest.size_bytes == after.size_bytes;
            if is_whole && before == after {
                if is_proven {
                    self.memos.put(after, digest);
                    self.is_changed.store(true, Ordering::Relaxed);
                }
                return Ok((after, digest));
            }
            if last.replace(digest) == Some(digest) && is_whole {
                return Ok((after, digest));
            }
        }
        Err(io::Error::other("it changes while it is read"))
    }

    /// As [`World::state`], of an entry of a directory that is open.
    pub(super) fn state_in(&self, dir: &OpenDir, path: &Path) -> Result<FileState, WorldError> {
        let stamp = dir.stamp(path.file_name().unwrap_or_default());
        self.state_or_error(path, stamp)
    }

    fn state_or_error(&self, path: &Path, stamp: io::Result<Option<Stamp>>) -> Result<FileState, WorldError> {
        match stamp.and_then(|stamp| self.state_of(path, stamp)) {
            // It went away between two calls.
            Err(error) if is_absence(&error) => Ok(FileState::Absent),
            other => other.map_err(|source| WorldError { path: path.to_owned(), source }),
        }
    }

    fn state_of(&self, path: &Path, stamp: Option<Stamp>) -> io::Result<FileState> {
        let Some(stamp) = stamp else { return Ok(FileState::Absent) };
        if stamp.is_directory() {
            return Ok(FileState::Directory);
        }
        if !stamp.is_file() {
            return Err(io::Error::other("it is neither a file nor a directory"));
        }
        let (stamp, digest) = self.digest(path, &stamp)?;
        Ok(FileState::File { digest, is_executable: stamp.is_executable() })
    }

    fn listing_of(&self, path: &Path) -> io::Result<Option<Digest>> {
        let Some(stamp) = Stamp::of(path)?.filter(Stamp::is_directory) else { return Ok(None) };
        if let Some(digest) = self.memos.get(&stamp) {
            return Ok(Some(digest));
        }
        let begun = SystemTime::now();
        let Some(entries) = entries(path)? else { return Ok(None) };
        let mut framed = Writer::default();
        for (name, kind) in &entries {
            framed.bytes(name).u32(*kind);
        }
        let digest = Digest::of(FUNCTION, &framed.0);
        let is_proven = stamp.is_settled(begun) && self.volumes.proves(path, Some(&stamp));
        if is_proven && Stamp::of(path)? == Some(stamp) {
            self.memos.put(stamp, digest);
        }
        Ok(Some(digest))
    }
}

impl World for DiskWorld {
    fn state(&self, path: &Path) -> Result<FileState, WorldError> {
        self.state_or_error(path, Stamp::of(path))
    }

    fn listing(&self, path: &Path) -> Result<Option<Digest>, WorldError> {
        self.listing_of(path).map_err(|source| WorldError { path: path.to_owned(), source })
    }

    fn link(&self, path: &Path) -> Result<Option<Vec<u8>>, WorldError> {
        match fs::read_link(path) {
            Ok(text) => Ok(Some(text.into_os_string().into_vec())),
            // Something else than a link is here.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput || is_absence(&error) => Ok(None),
            Err(source) => Err(WorldError { path: path.to_owned(), source }),
        }
    }
}

/// A file that was read to its end, and its stamps on either side of that.
struct Reading {
    before: Stamp,
    after: Stamp,
    digest: Digest,
    /// Whether its looks prove its content from now on.
    is_proven: bool,
}

fn hash(path: &Path, volumes: &Volumes, begun: SystemTime) -> io::Result<Reading> {
    let mut file = File::open(path)?;
    let before = Stamp::of_file(&file)?;
    // Before it is read: a writer that comes later leaves a trace in its dates.
    let is_proven = before.is_settled(begun) && volumes.proves_file(&file, &before, begun);
    let mut hasher = Hasher::new(FUNCTION);
    let room = usize::try_from(before.size_bytes).unwrap_or(READ_BYTES).clamp(1, READ_BYTES);
    let mut buffer = vec![0; room];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => hasher.update(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let after = Stamp::of_file(&file)?;
    let digest = hasher.finish().digest(FUNCTION).expect("it was computed in this function");
    Ok(Reading { before, after, digest, is_proven })
}

/// Names of entries with the numbers of their kinds.
type Entries = Vec<(Vec<u8>, u32)>;

/// The entries of a directory in order of their names, each with the kind that `read_dir` says it
/// has. A symbolic link is a link here: a program that wants to know what it leads to asks the
/// system for that place, which is an observation of its own.
fn entries(path: &Path) -> io::Result<Option<Entries>> {
    let listed = match fs::read_dir(path) {
        Err(error) if is_absence(&error) => return Ok(None),
        other => other?,
    };
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry?;
        let kind = match entry.file_type() {
            Ok(kind) => kind_number(kind),
            // The entry was removed while the directory was read.
            Err(error) if is_absence(&error) => continue,
            Err(error) => return Err(error),
        };
        entries.push((entry.file_name().as_bytes().to_owned(), kind));
    }
    entries.sort_unstable();
    Ok(Some(entries))
}

/// How a listing writes down the kind of an entry. The numbers are part of every listing's digest.
fn kind_number(kind: FileType) -> u32 {
    if kind.is_file() {
        0
    } else if kind.is_dir() {
        1
    } else if kind.is_symlink() {
        2
    } else {
        3
    }
}
