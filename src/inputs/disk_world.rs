//! The files on disk: each is hashed once, and its digest is remembered by stamp.
//!
//! Invariant (KEY-05): an answer is true at the time of the call. A memo or a cached answer is only used
//! after `stat` has shown that the file did not change. If `stat` cannot show that, the file is hashed
//! again: while it is younger than the grain of the file system's clock, while another process may write to
//! it through a mapping, and on a file system whose dates do not show every change. For a file that kache
//! itself has just written, its age does not matter.

use std::fs::{self, File, FileType};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use kache_cas::{BlobNames, Digest, DigestFunction, FileStamp, Hasher};
use parking_lot::Mutex;

use super::bytes::ByteWriter;
use super::cached_answer::{AnswerCache, CachedAnswer};
use super::crates::{CrateUses, MadeCrate, UsesOfCrates};
use super::memos::Memos;
use super::snapshot::Snapshot;
use super::stamp::{OpenDir, Stamp, is_absence};
use super::twins::Twins;
use super::volume::Volumes;
use super::world::{FileState, World, WorldError};

/// The size of the buffer for reading.
const READ_BYTES: usize = 256 * 1024;

/// The number of attempts to read a file that changes during the reading. After that it counts as unreadable.
const READS_MAX: u32 = 3;

/// What happens to an answer that depends on files whose stamps do not show every change.
#[derive(Clone, Copy)]
enum UnprovenAnswer {
    /// It is not remembered.
    Forgotten,
    /// It is remembered for [`super::cached_answer::UNPROVEN_LIFETIME`].
    Expiring,
}

/// The files on disk, with everything that is remembered of them. Calls from several threads are allowed.
#[derive(Debug)]
pub struct DiskWorld {
    /// The function of all digests that it makes and remembers.
    function: DigestFunction,
    memos: Memos,
    answers: AnswerCache,
    crates: UsesOfCrates,
    twins: Twins,
    /// Whether every file is hashed with both functions.
    computes_twins: AtomicBool,
    volumes: Volumes,
    /// The file in which everything is saved, if there is one.
    snapshot: Option<PathBuf>,
    /// Whether anything was remembered since the last save.
    is_changed: AtomicBool,
    /// Held while the snapshot is written.
    saving: Mutex<()>,
}

impl DiskWorld {
    /// Creates one that remembers nothing beyond its own lifetime, and makes digests with this function.
    pub fn new(function: DigestFunction) -> DiskWorld {
        DiskWorld {
            function,
            memos: Memos::default(),
            answers: AnswerCache::default(),
            crates: UsesOfCrates::default(),
            twins: Twins::default(),
            computes_twins: AtomicBool::default(),
            volumes: Volumes::default(),
            snapshot: None,
            is_changed: AtomicBool::default(),
            saving: Mutex::default(),
        }
    }

    /// Opens one with everything that another process has saved in this file with the same function.
    pub fn open(function: DigestFunction, snapshot: impl Into<PathBuf>) -> DiskWorld {
        let world = DiskWorld { snapshot: Some(snapshot.into()), ..DiskWorld::new(function) };
        world.load_snapshot();
        world
    }

    /// Returns the function of the digests, with which the keys of compiles are made, too.
    pub fn function(&self) -> DigestFunction {
        self.function
    }

    /// Adds everything that another process has saved in the snapshot file. A damaged file adds nothing.
    pub fn load_snapshot(&self) {
        let Some(path) = &self.snapshot else { return };
        let saved = Snapshot::load(path, self.function);
        saved.memos.iter().for_each(|memo| self.memos.put(memo.stamp, memo.digest));
        saved.answers.into_iter().for_each(|(question, answer)| self.answers.put(question, answer));
        self.crates.load(saved.crates);
        for (digest, hash) in saved.twins {
            self.twins.put(digest, hash);
        }
    }

    /// Saves everything in the snapshot file. Does nothing if there is no such file or nothing is new.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.snapshot else { return Ok(()) };
        // Two writers at once would damage each other's file.
        let _guard = self.saving.lock();
        if !self.is_changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let snapshot = Snapshot {
            memos: self.memos.all(),
            answers: self.answers.all(),
            crates: self.crates.all(),
            twins: self.twins.all(),
        };
        snapshot.save(path, self.function).inspect_err(|_| self.is_changed.store(true, Ordering::Relaxed))
    }

    /// Remembers the digest of a file that kache has just placed or ingested, without reading it and however
    /// young it is. `stamp_then` is the stamp that the store saw then. If the file has another stamp now,
    /// another process may have written to it, and nothing is remembered.
    pub fn note_placed(&self, path: &Path, digest: Digest, stamp_then: Option<FileStamp>) {
        self.is_changed.store(true, Ordering::Relaxed);
        if let Some(stamp_then) = stamp_then
            && digest.function == self.function
            && let Ok(Some(stamp)) = Stamp::of(path)
            && stamp.is_file()
            && stamp.is_as_seen(&stamp_then)
            && self.volumes.proves_placed(path, &stamp)
        {
            self.memos.put(stamp, digest);
        }
    }

    /// Makes every file that is read from now on be hashed with both functions, because a remote needs the
    /// digests in the other one.
    pub fn compute_twins(&self) {
        self.computes_twins.store(true, Ordering::Relaxed);
    }

    /// Returns whether every file is hashed with both functions.
    pub fn computes_twins(&self) -> bool {
        self.computes_twins.load(Ordering::Relaxed)
    }

    /// Remembers both digests of a content that the store has hashed.
    pub fn note_names(&self, names: &BlobNames) {
        let [Some(own), Some(other)] = [self.function, other(self.function)].map(|one| names.digest(one))
        else {
            return;
        };
        if self.twins.put(own, other.hash) {
            self.is_changed.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the digest function that is not the one of this world's digests.
    pub fn other_function(&self) -> DigestFunction {
        other(self.function)
    }

    /// Remembers the digest of the same content in the other function.
    pub fn note_twin<K>(&self, digest: &Digest<K>, twin: &Digest<K>) {
        if digest.function == self.function && self.twins.put(digest.coerce(), twin.hash) {
            self.is_changed.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the digest of the same content in another function, if it is remembered.
    pub fn known_twin(&self, digest: &Digest, function: DigestFunction) -> Option<Digest> {
        self.twins.get(digest, function)
    }

    /// Returns the digest of a file in another function; `None` if the file's content does not have `digest`
    /// any more. Reads and hashes the file unless the digest is remembered.
    pub fn file_twin(
        &self,
        path: &Path,
        digest: &Digest,
        function: DigestFunction,
    ) -> Result<Option<Digest>, WorldError> {
        if let Some(twin) = self.twins.get(digest, function) {
            return Ok(Some(twin));
        }
        let hashed = hash(path, Hasher::new(DigestFunction::Sha256), &self.volumes, SystemTime::now());
        match hashed {
            Ok(file) => self.note_names(&file.names),
            Err(error) if is_absence(&error) => return Ok(None),
            Err(source) => return Err(WorldError { path: path.to_owned(), source }),
        }
        Ok(self.twins.get(digest, function))
    }

    /// Returns the digest of a directory's listing in another function; `None` if the listing does not have
    /// `digest` any more.
    pub fn listing_twin(
        &self,
        path: &Path,
        digest: &Digest,
        function: DigestFunction,
    ) -> Result<Option<Digest>, WorldError> {
        if let Some(twin) = self.twins.get(digest, function) {
            return Ok(Some(twin));
        }
        let listed = framed_listing(path).map_err(|source| WorldError { path: path.to_owned(), source })?;
        let Some(framed) = listed else { return Ok(None) };
        let twin: Digest = Digest::of(function, &framed);
        self.note_twin(&Digest::of(self.function, &framed), &twin);
        Ok(self.twins.get(digest, function))
    }

    /// The hasher for a file that is read.
    fn hasher(&self) -> Hasher {
        match self.computes_twins() {
            true => Hasher::new(DigestFunction::Sha256),
            false => Hasher::new(self.function),
        }
    }

    /// Returns the digest that is remembered for a file with this stamp.
    #[cfg(test)]
    pub(crate) fn remembered_digest(&self, stamp: &Stamp) -> Option<Digest> {
        self.memos.get(stamp)
    }

    /// Returns the uses of the crate in this file; `None` if kache did not see its compile.
    pub(crate) fn uses(&self, path: &Path, digest: &Digest) -> Option<Arc<CrateUses>> {
        self.crates.get(path, digest)
    }

    /// Remembers the uses of a crate whose compile begins.
    pub(crate) fn begin_crate(&self, made: &MadeCrate) {
        self.crates.begin(made);
    }

    /// Remembers the uses of a crate by the digest of its file, which is an output of the compile that makes
    /// the crate or was restored as one.
    pub fn note_crate(&self, made: &MadeCrate, path: &Path, digest: &Digest) {
        self.crates.note(made, path, digest);
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Returns the answer to a question. It comes from memory as long as nothing that it depends on has
    /// changed; otherwise `find` returns it, with the paths that it depends on.
    pub(crate) fn cached_answer<E>(
        &self,
        question: ByteWriter,
        find: impl FnOnce() -> Result<(Vec<u8>, Vec<PathBuf>), E>,
    ) -> Result<Arc<CachedAnswer>, E> {
        self.find_answer(question, find, UnprovenAnswer::Forgotten)
    }

    /// Like [`DiskWorld::cached_answer`], for questions about installed programs: a toolchain, a linker. The
    /// answer is remembered for some seconds even if stamps do not show every change, because hashing the
    /// programs takes as long as a small compile, and nobody patches a program in place during a build.
    pub(crate) fn cached_answer_about_installed<E>(
        &self,
        question: ByteWriter,
        find: impl FnOnce() -> Result<(Vec<u8>, Vec<PathBuf>), E>,
    ) -> Result<Arc<CachedAnswer>, E> {
        self.find_answer(question, find, UnprovenAnswer::Expiring)
    }

    fn find_answer<E>(
        &self,
        question: ByteWriter,
        find: impl FnOnce() -> Result<(Vec<u8>, Vec<PathBuf>), E>,
        unproven: UnprovenAnswer,
    ) -> Result<Arc<CachedAnswer>, E> {
        let question = question.0;
        if let Some(answer) = self.answers.get(&question) {
            return Ok(answer);
        }
        let begun = SystemTime::now();
        let (value, mut paths) = find()?;
        paths.sort_unstable();
        paths.dedup();
        // The stamps are taken after the answer was found. A file that changed in between is not settled at
        // the time when that began, and then the answer is not remembered.
        let stamped: io::Result<Vec<_>> =
            paths.into_iter().map(|path| Stamp::of(&path).map(|stamp| (path, stamp))).collect();
        let Ok(depends_on) = stamped else {
            return Ok(Arc::new(CachedAnswer::new(value, Vec::new())));
        };
        let is_settled = depends_on.iter().flat_map(|(_, stamp)| stamp).all(|stamp| stamp.is_settled(begun));
        let is_proven = is_settled && self.show_every_change(&depends_on);
        let answer = CachedAnswer::new(value, depends_on);
        let answer = match (is_settled, is_proven, unproven) {
            (true, true, _) => Arc::new(answer),
            (true, false, UnprovenAnswer::Expiring) => Arc::new(answer.expiring()),
            _ => return Ok(Arc::new(answer)),
        };
        self.answers.put(question, answer.clone());
        self.is_changed.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    /// Whether the stamps of all these paths show every change.
    fn show_every_change(&self, paths: &[(PathBuf, Option<Stamp>)]) -> bool {
        paths.iter().all(|(path, stamp)| self.volumes.proves(path, stamp.as_ref()))
    }

    /// Returns the names in a directory, sorted; `None` if there is no directory.
    pub(crate) fn names(&self, path: &Path) -> Result<Option<Vec<Vec<u8>>>, WorldError> {
        let entries = entries(path).map_err(|source| WorldError { path: path.to_owned(), source })?;
        Ok(entries.map(|entries| entries.into_iter().map(|(name, _)| name).collect()))
    }

    /// Returns the digest of a file with the stamp that belongs to it. The digest is valid if the stamp did
    /// not change during the reading, or if two attempts gave the same digest. The second case is needed
    /// because kache itself changes dates, links and permissions of a new output while it stores it, and at
    /// that time the next compile reads the output.
    fn digest(&self, path: &Path, stamp: &Stamp) -> io::Result<(Stamp, Digest)> {
        if let Some(digest) = self.memos.get(stamp) {
            return Ok((*stamp, digest));
        }
        let mut last = None;
        for _ in 0..READS_MAX {
            let begun = SystemTime::now();
            let HashedFile { before, after, names, is_proven } =
                hash(path, self.hasher(), &self.volumes, begun)?;
            let digest = names.digest(self.function).expect("it was computed in this function");
            self.note_names(&names);
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
        Err(io::Error::other("it changes while kache reads it"))
    }

    /// Like [`World::state`], for an entry of a directory that is already open.
    pub(crate) fn state_in(&self, dir: &OpenDir, path: &Path) -> Result<FileState, WorldError> {
        let stamp = dir.stamp(path.file_name().unwrap_or_default());
        self.state_or_error(path, stamp)
    }

    fn state_or_error(&self, path: &Path, stamp: io::Result<Option<Stamp>>) -> Result<FileState, WorldError> {
        match stamp.and_then(|stamp| self.state_of(path, stamp)) {
            // The file was removed between two system calls.
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
        let Some(framed) = framed_listing(path)? else { return Ok(None) };
        let digest = Digest::of(self.function, &framed);
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
            // What is here is not a link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput || is_absence(&error) => Ok(None),
            Err(source) => Err(WorldError { path: path.to_owned(), source }),
        }
    }
}

/// A file that was read to its end, with its stamps before and after.
struct HashedFile {
    before: Stamp,
    after: Stamp,
    names: BlobNames,
    /// Whether the stamp shows every later change.
    is_proven: bool,
}

fn hash(path: &Path, mut hasher: Hasher, volumes: &Volumes, begun: SystemTime) -> io::Result<HashedFile> {
    let mut file = File::open(path)?;
    let before = Stamp::of_file(&file)?;
    // This is checked before the file is read: a process that opens the file for writing later gives it
    // another date, which the stamp after the reading shows.
    let is_proven = before.is_settled(begun) && volumes.proves_file(&file, &before, begun);
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
    Ok(HashedFile { before, after, names: hasher.finish(), is_proven })
}

/// The digest function that is not this one.
fn other(function: DigestFunction) -> DigestFunction {
    match function {
        DigestFunction::Blake3 => DigestFunction::Sha256,
        DigestFunction::Sha256 => DigestFunction::Blake3,
    }
}

/// The names of entries with the numbers of their kinds.
type DirListing = Vec<(Vec<u8>, u32)>;

/// Returns the bytes whose digest is that of a directory's listing; `None` if there is no directory.
fn framed_listing(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(entries) = entries(path)? else { return Ok(None) };
    let mut framed = ByteWriter::default();
    for (name, kind) in &entries {
        framed.bytes(name).u32(*kind);
    }
    Ok(Some(framed.0))
}

/// Returns the entries of a directory, sorted by name, with the kinds that `read_dir` returns; `None` if
/// there is no directory. Links are not followed: a program that follows a link reads another path, which is
/// an observation of its own.
fn entries(path: &Path) -> io::Result<Option<DirListing>> {
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

/// The number of a kind in the encoding of a listing. The numbers are part of the digest of each listing.
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
