//! The daemon's log file.
//!
//! Only its owner can read it (mode 0600). It is rotated at [`LOG_BYTES_MAX`], and one older file is
//! kept. If it cannot be opened, the daemon runs all the same and its status says so.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Level, LogSettings};

/// The size at which a log file is rotated.
pub const LOG_BYTES_MAX: u64 = 5_000_000;

/// Returns the path to which a log file is moved when it is rotated.
pub fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// A log file that rotates itself.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    written_bytes: u64,
    limit_bytes: u64,
}

impl RotatingFile {
    /// Opens or creates the file and its directory.
    pub(super) fn open(path: &Path, limit_bytes: u64) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let file = open_to_append(path)?;
        let written_bytes = file.metadata()?.len();
        Ok(RotatingFile { path: path.to_owned(), file, written_bytes, limit_bytes })
    }

    /// Moves the file and opens a new one. It is not copied, so a program that follows the old file
    /// reads it to its end.
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, rotated(&self.path))?;
        self.file = open_to_append(&self.path)?;
        self.written_bytes = 0;
        Ok(())
    }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.written_bytes > 0 && self.written_bytes + line.len() as u64 > self.limit_bytes {
            self.rotate()?;
        }
        // Each call brings a whole line, so a rotation never falls into a line.
        self.file.write_all(line)?;
        self.written_bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether the log is written to standard error as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Console {
    /// To the file and to standard error: the daemon runs in the foreground.
    Attached,
    /// To the file only.
    Detached,
}

/// Starts logging. Returns the reason if nothing can be logged to the file.
pub(super) fn begin(settings: &LogSettings, console: Console) -> Option<String> {
    let (file, trouble) = match &settings.file {
        _ if settings.file_level == Level::Off => (None, None),
        Some(path) => match RotatingFile::open(path, LOG_BYTES_MAX) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("failed to open the log `{}`: {error}", path.display()))),
        },
        None => (None, Some("there is no directory for a log: set KACHE_LOG_FILE_PATH".to_owned())),
    };
    let to_file = file.map(|file| {
        #[expect(
            clippy::disallowed_types,
            reason = "the writers of `tracing-subscriber` are behind locks of the standard library"
        )]
        let writer = std::sync::Mutex::new(file);
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_target(true).with_writer(writer);
        layer.with_filter(filter(settings.file_level))
    });
    let to_console = (console == Console::Attached).then(|| {
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(io::stderr);
        layer.with_filter(filter(settings.level))
    });
    // It fails only where a daemon in this process has started logging before, as in tests.
    let _ = tracing_subscriber::registry().with(to_file).with(to_console).try_init();
    log_panics();
    trouble
}

/// Returns a filter that lets pass kache's own messages from `level` up, and those of libraries from
/// warnings up at most.
fn filter(level: Level) -> Targets {
    let level = match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("kache", level)
}

/// Writes panics to the log. A panic ends only its task, and a detached daemon's standard error is
/// `/dev/null`.
fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!("a bug in kache: {panic}\n{backtrace}");
        before(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_log_is_bounded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/kached.log");
        let mut log = RotatingFile::open(&path, 100).unwrap();
        for number in 0..50 {
            log.write_all(format!("line {number:02} of the log\n").as_bytes()).unwrap();
        }
        let (new, old) = (fs::read_to_string(&path).unwrap(), fs::read_to_string(rotated(&path)).unwrap());
        assert!(new.len() <= 100 && old.len() <= 100);
        assert!(new.ends_with("line 49 of the log\n"));
        assert!(old.lines().chain(new.lines()).all(|line| line.len() == 18), "no line is torn");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // The content that exists already counts.
        drop(log);
        let log = RotatingFile::open(&path, 100).unwrap();
        assert_eq!(log.written_bytes, new.len() as u64);
    }

    #[test]
    fn a_line_that_is_too_long_is_kept_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kached.log");
        let mut log = RotatingFile::open(&path, 10).unwrap();
        log.write_all(&[b'x'; 30]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 30);
        assert!(!rotated(&path).exists());
    }
}
