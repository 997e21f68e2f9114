//! Reads the event log. It takes no lock and changes nothing (DMN-06), and the daemon may write at the
//! same time.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::event::{Amendment, Event, Phase};
use super::record::{LogRecord, NextRecord, read_next};
use super::segment::{self, SegmentHeader};

/// The events of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The events, in the order in which they were recorded.
    pub events: Vec<Event>,
    /// The parts of the log that could not be read.
    pub unread: Vec<Unread>,
}

/// A part of the log that could not be read. A report warns that it is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The path of the file.
    pub path: PathBuf,
    /// The reason, as text for the user.
    pub why: String,
}

/// Reads the log of a cache directory: all events, or those at or after `since`.
///
/// A log that was never written is empty. An error means that the directory cannot be read; a file
/// that cannot be read is listed in [`History::unread`].
pub fn read(cache_dir: &Path, since: Option<SystemTime>) -> io::Result<History> {
    let mut reader = HistoryReader { since, indexes: HashMap::new(), history: History::default() };
    for segment in segment::list(&segment::directory(cache_dir))? {
        match fs::read(&segment.path) {
            Ok(bytes) => {
                if let Err(why) = reader.read_segment(&bytes) {
                    reader.history.unread.push(Unread { path: segment.path, why });
                }
            }
            // The daemon has removed this file, the oldest one, since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => reader.history.unread.push(Unread { path: segment.path, why: error.to_string() }),
        }
    }
    Ok(reader.history)
}

struct HistoryReader {
    since: Option<SystemTime>,
    /// The index of a call's event in the history, by the call's id.
    indexes: HashMap<u64, usize>,
    history: History,
}

impl HistoryReader {
    /// Adds the records of one file. The error says what could not be read; the records before it are
    /// added.
    fn read_segment(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut rest = match segment::read_header(bytes) {
            SegmentHeader::Current(records) => records,
            SegmentHeader::Torn => return Ok(()),
            SegmentHeader::OtherVersion(version) => {
                return Err(format!("it has format {version}, this kache reads format {}", segment::VERSION));
            }
            SegmentHeader::Foreign => return Err("it is no event log".to_owned()),
        };
        loop {
            match read_next(rest) {
                NextRecord::Record(record, behind) => {
                    self.add(record);
                    rest = behind;
                }
                // A torn record at the end is no loss. Either it is just being written, or its writer
                // was killed before it replied to the call.
                NextRecord::End | NextRecord::Torn => return Ok(()),
                NextRecord::Damaged => return Err(format!("its last {} bytes are damaged", rest.len())),
            }
        }
    }

    fn add(&mut self, record: LogRecord) {
        match record {
            LogRecord::Call(id, event) => {
                if self.since.is_none_or(|since| event.at >= since) {
                    self.indexes.insert(id, self.history.events.len());
                    self.history.events.push(*event);
                }
            }
            LogRecord::Amendment(id, amendment) => {
                if let Some(index) = self.indexes.get(&id) {
                    amend(&mut self.history.events[*index], amendment);
                }
            }
            LogRecord::Unknown => {}
        }
    }
}

fn amend(event: &mut Event, amendment: Amendment) {
    if amendment.action.is_some() {
        event.action = amendment.action;
    }
    event.stored_bytes += amendment.stored_bytes;
    event.phases.push((Phase::Publish, amendment.publish_time));
    event.not_stored = amendment.not_stored;
}
