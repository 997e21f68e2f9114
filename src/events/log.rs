//! Writing the log.
//!
//! A record is one `write` of a whole frame before the call is answered (DMN-07); there is
//! no buffer and no thread, so a killed daemon loses at most the record it was writing.
//! Whoever writes a file holds its lock; a second writer takes a file of its own.
//!
//! The log is bounded: the oldest file goes when there are too many, or too many bytes.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::event::{Amendment, Event};
use super::record::{self, Next};
use super::segment::{self, Header};

/// How much a log may hold. Some 100,000 calls fit: months of one person's builds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// A file that has so much is finished.
    segment_bytes: u64,
    /// All files together; the youngest is kept whatever it has.
    log_bytes: u64,
    /// So many files, since each is opened for a report.
    segments: usize,
}

const LIMITS: Limits = Limits { segment_bytes: 4 << 20, log_bytes: 64 << 20, segments: 64 };

/// Only the owner may look: names of crates and paths are nobody else's business.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// How often a new file is tried for when others take the same number at once.
const NAME_ATTEMPTS_MAX: usize = 16;

/// Which recorded call an amendment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(u64);

/// A log that is open for writing.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The file that records go to; none after a failure, until the next record.
    file: Option<Current>,
    last_id: u64,
}

/// A file that this process alone writes.
#[derive(Debug)]
struct Current {
    file: File,
    size_bytes: u64,
}

impl Log {
    /// Opens the log of a cache directory, and makes it if need be.
    pub fn open(cache_dir: &Path) -> io::Result<Log> {
        Log::open_with(cache_dir, LIMITS)
    }

    fn open_with(cache_dir: &Path, limits: Limits) -> io::Result<Log> {
        let directory = segment::directory(cache_dir);
        let file = Some(open_file(&directory, limits)?);
        Ok(Log { directory, limits, state: Mutex::new(State { file, last_id: 0 }) })
    }

    /// Puts a call on record. When this returns, every reader sees it.
    pub fn record(&self, event: &Event) -> io::Result<CallId> {
        let mut state = self.state();
        let id = state.next_id();
        self.append(&mut state, &record::frame_call(id, event))?;
        Ok(CallId(id))
    }

    /// Adds what became of a recorded call.
    pub fn amend(&self, call: CallId, amendment: &Amendment) -> io::Result<()> {
        self.append(&mut self.state(), &record::frame_amendment(call.0, amendment))
    }

    /// A panic elsewhere leaves at worst a torn record behind, which readers know.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, state: &mut State, frame: &[u8]) -> io::Result<()> {
        let mut current = match state.file.take() {
            Some(current) if current.takes(frame, self.limits)? => current,
            _ => open_file(&self.directory, self.limits)?,
        };
        current.append(frame)?;
        state.file = Some(current);
        Ok(())
    }
}

impl State {
    /// Rises, also when the clock does not.
    fn next_id(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        self.last_id = u64::try_from(now).unwrap_or(u64::MAX).max(self.last_id + 1);
        self.last_id
    }
}

impl Current {
    /// Whether a record has its place here: there is room, and the file is still in its
    /// directory. A record in a file that somebody deleted would be seen by nobody.
    fn takes(&self, frame: &[u8], limits: Limits) -> io::Result<bool> {
        let has_room = self.size_bytes + frame.len() as u64 <= limits.segment_bytes;
        Ok(has_room && self.file.metadata()?.nlink() > 0)
    }

    /// One `write`, or an error and nothing behind: half a record would hide what follows.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // If this fails too, the file is left as it is and not written again.
            let _ = self.file.set_len(self.size_bytes);
            return Err(error);
        }
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// The last file if it is whole, has room and nobody else writes it; else a new one.
fn open_file(directory: &Path, limits: Limits) -> io::Result<Current> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let segments = segment::list(directory)?;
    if let Some(last) = segments.last()
        && last.size_bytes < limits.segment_bytes
        && let Some(current) = reopen(&last.path)?
    {
        return Ok(current);
    }
    let current = create(directory, segments.last().map_or(1, |last| last.number + 1))?;
    remove_oldest(directory, limits)?;
    Ok(current)
}

/// `None` if it is of another version, if its end is torn, or if somebody else writes it.
fn reopen(path: &Path) -> io::Result<Option<Current>> {
    let file = match OpenOptions::new().append(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !lock(&file)? {
        return Ok(None);
    }
    let bytes = fs::read(path)?;
    let size_bytes = bytes.len() as u64;
    Ok(is_whole(&bytes).then_some(Current { file, size_bytes }))
}

fn is_whole(bytes: &[u8]) -> bool {
    let Header::Ours(mut rest) = segment::read_header(bytes) else { return false };
    loop {
        match record::next(rest) {
            Next::Record(_, behind) => rest = behind,
            Next::End => return true,
            Next::Torn | Next::Damaged => return false,
        }
    }
}

fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a file with this number, or the next that is free.
fn create(directory: &Path, first_number: u64) -> io::Result<Current> {
    for number in (first_number..).take(NAME_ATTEMPTS_MAX) {
        let path = segment::path(directory, number);
        match OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path) {
            // Somebody who saw it before it was locked writes there now.
            Ok(file) if !lock(&file)? => {}
            Ok(file) => {
                let mut current = Current { file, size_bytes: 0 };
                current.append(&segment::header())?;
                return Ok(current);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many others make files in the event log"))
}

/// The youngest stays.
fn remove_oldest(directory: &Path, limits: Limits) -> io::Result<()> {
    let segments = segment::list(directory)?;
    let mut bytes: u64 = segments.iter().map(|one| one.size_bytes).sum();
    let mut count = segments.len();
    for segment in &segments[..segments.len().saturating_sub(1)] {
        // The one that is being filled counts as full, so that the sum stays below.
        if count <= limits.segments && bytes + limits.segment_bytes <= limits.log_bytes {
            break;
        }
        match fs::remove_file(&segment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        bytes -= segment.size_bytes;
        count -= 1;
    }
    Ok(())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
