//! Writes the event log.
//!
//! Each record is written by one `write` of a whole frame before the call is answered (DMN-07). There
//! is no buffer and no thread, so a daemon that is killed loses at most the record that it was
//! writing. A writer holds the lock of its file; a second writer uses another file.
//!
//! The log is bounded: the oldest file is removed when there are too many files or bytes.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::event::{Amendment, Event};
use super::record::{self, NextRecord};
use super::segment::{self, SegmentHeader};

/// The size limits of a log. Some 100,000 calls fit, which are months of one user's builds.
#[derive(Clone, Copy, Debug)]
struct LogLimits {
    /// The size at which a file is finished.
    segment_bytes: u64,
    /// The size of all files together. The newest file is kept whatever its size.
    log_bytes: u64,
    /// The number of files, each of which a report has to open.
    segments: usize,
}

const LIMITS: LogLimits = LogLimits { segment_bytes: 4 << 20, log_bytes: 64 << 20, segments: 64 };

/// Only the owner may read the log, because it holds names of crates and paths.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The number of attempts to create a file while other processes take the same numbers.
const NAME_ATTEMPTS_MAX: usize = 16;

/// Identifies a recorded call, so that an amendment can be added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(u64);

/// A log that is open for writing.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    limits: LogLimits,
    /// A panic of a thread that holds it may at worst leave a torn record, which readers skip.
    writer: Mutex<LogWriter>,
}

#[derive(Debug)]
struct LogWriter {
    /// The file that records are written to; `None` after a failure, until the next record.
    segment: Option<OpenSegment>,
    last_id: u64,
}

/// A file whose lock this process holds.
#[derive(Debug)]
struct OpenSegment {
    file: File,
    size_bytes: u64,
}

impl Log {
    /// Opens the log of a cache directory, and creates it if it does not exist.
    pub fn open(cache_dir: &Path) -> io::Result<Log> {
        Log::open_with(cache_dir, LIMITS)
    }

    fn open_with(cache_dir: &Path, limits: LogLimits) -> io::Result<Log> {
        let directory = segment::directory(cache_dir);
        let segment = Some(open_segment(&directory, limits)?);
        Ok(Log { directory, limits, writer: Mutex::new(LogWriter { segment, last_id: 0 }) })
    }

    /// Records a call. When this returns, every reader sees the event.
    pub fn record(&self, event: &Event) -> io::Result<CallId> {
        let mut writer = self.writer.lock();
        let id = writer.next_id();
        self.append(&mut writer, &record::frame_call(id, event))?;
        Ok(CallId(id))
    }

    /// Adds to the event of a recorded call.
    pub fn amend(&self, call: CallId, amendment: &Amendment) -> io::Result<()> {
        self.append(&mut self.writer.lock(), &record::frame_amendment(call.0, amendment))
    }

    fn append(&self, writer: &mut LogWriter, frame: &[u8]) -> io::Result<()> {
        // The segment is put back only after success, so that the next record after an error goes to a
        // file whose content is known.
        let mut segment = match writer.segment.take() {
            Some(segment) if segment.accepts(frame, self.limits)? => segment,
            _ => open_segment(&self.directory, self.limits)?,
        };
        segment.append(frame)?;
        writer.segment = Some(segment);
        Ok(())
    }
}

impl LogWriter {
    /// Returns an id that is unique among all writers and restarts: the time in nanoseconds, and more
    /// than the last id if the clock has not advanced.
    fn next_id(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        self.last_id = u64::try_from(now).unwrap_or(u64::MAX).max(self.last_id + 1);
        self.last_id
    }
}

impl OpenSegment {
    /// Returns whether a record may be written here: there is room, and the file was not deleted. A
    /// record in a deleted file could not be read.
    fn accepts(&self, frame: &[u8], limits: LogLimits) -> io::Result<bool> {
        let has_room = self.size_bytes + frame.len() as u64 <= limits.segment_bytes;
        Ok(has_room && self.file.metadata()?.nlink() > 0)
    }

    /// Appends a record. After an error the file is cut back to its former size, because readers stop
    /// at half a record and would not see later ones.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // If this fails as well, the file is not written again.
            let _ = self.file.set_len(self.size_bytes);
            return Err(error);
        }
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Opens the newest file if it is complete, has room and no other process writes it. Otherwise creates
/// a new one.
fn open_segment(directory: &Path, limits: LogLimits) -> io::Result<OpenSegment> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let segments = segment::list(directory)?;
    if let Some(last) = segments.last()
        && last.size_bytes < limits.segment_bytes
        && let Some(segment) = reopen(&last.path)?
    {
        return Ok(segment);
    }
    let segment = create(directory, segments.last().map_or(1, |last| last.number + 1))?;
    remove_oldest(directory, limits)?;
    Ok(segment)
}

/// Opens an existing file. Returns `None` if it is of another version, if its end is torn, or if
/// another process writes it.
fn reopen(path: &Path) -> io::Result<Option<OpenSegment>> {
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
    Ok(is_complete(&bytes).then_some(OpenSegment { file, size_bytes }))
}

fn is_complete(bytes: &[u8]) -> bool {
    let SegmentHeader::Current(mut rest) = segment::read_header(bytes) else { return false };
    loop {
        match record::read_next(rest) {
            NextRecord::Record(_, behind) => rest = behind,
            NextRecord::End => return true,
            NextRecord::Torn | NextRecord::Damaged => return false,
        }
    }
}

/// Takes the lock of a file; `false` if another process holds it.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Creates a file with this number, or the next number that is free.
fn create(directory: &Path, first_number: u64) -> io::Result<OpenSegment> {
    for number in (first_number..).take(NAME_ATTEMPTS_MAX) {
        let path = segment::path(directory, number);
        match OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path) {
            // Another process has opened and locked the file between the two calls.
            Ok(file) if !lock(&file)? => {}
            Ok(file) => {
                let mut segment = OpenSegment { file, size_bytes: 0 };
                segment.append(&segment::header())?;
                return Ok(segment);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many other processes create files in the event log"))
}

/// Removes the oldest files until the limits hold. The newest file always stays.
fn remove_oldest(directory: &Path, limits: LogLimits) -> io::Result<()> {
    let segments = segment::list(directory)?;
    let mut bytes: u64 = segments.iter().map(|one| one.size_bytes).sum();
    let mut count = segments.len();
    for segment in &segments[..segments.len().saturating_sub(1)] {
        // The file that is being written counts as full, so that the sum stays below the limit.
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
