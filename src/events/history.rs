//! Reading the log. It starts nothing, locks nothing and changes nothing (DMN-06), and may
//! read while a daemon writes.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::event::{Amendment, Event, Phase};
use super::record::{Next, Record, next};
use super::segment::{self, Header};

/// What is on record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Calls, in the order in which they were recorded.
    pub events: Vec<Event>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// A part of the log that could not be read, so that a report can say that it is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The file.
    pub path: PathBuf,
    /// Why, in words.
    pub why: String,
}

/// Reads the log of a cache directory: all of it, or calls at or after a moment.
///
/// A log that was never written is empty. Errors are those of the directory; a file that
/// cannot be read is named in [`History::unread`].
pub fn read(cache_dir: &Path, since: Option<SystemTime>) -> io::Result<History> {
    let mut reader = Reader { since, places: HashMap::new(), history: History::default() };
    for segment in segment::list(&segment::directory(cache_dir))? {
        match fs::read(&segment.path) {
            Ok(bytes) => {
                if let Some(why) = reader.take(&bytes) {
                    reader.history.unread.push(Unread { path: segment.path, why });
                }
            }
            // Its time had come between two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => reader.history.unread.push(Unread { path: segment.path, why: error.to_string() }),
        }
    }
    Ok(reader.history)
}

struct Reader {
    since: Option<SystemTime>,
    /// Where in the history a call is.
    places: HashMap<u64, usize>,
    history: History,
}

impl Reader {
    /// Takes one file in. Says what could not be read of it.
    fn take(&mut self, bytes: &[u8]) -> Option<String> {
        let mut rest = match segment::read_header(bytes) {
            Header::Ours(records) => records,
            Header::Torn => return None,
            Header::Other(version) => {
                return Some(format!(
                    "it has format {version}, this kache reads format {}",
                    segment::VERSION
                ));
            }
            Header::Alien => return Some("it is no event log".to_owned()),
        };
        loop {
            match next(rest) {
                Next::Record(record, behind) => {
                    self.keep(record);
                    rest = behind;
                }
                // A record that is being written is no loss, and one whose writer was killed
                // was never answered.
                Next::End | Next::Torn => return None,
                Next::Damaged => return Some(format!("its last {} bytes are damaged", rest.len())),
            }
        }
    }

    fn keep(&mut self, record: Record) {
        match record {
            Record::Call(id, event) => {
                if self.since.is_none_or(|since| event.at >= since) {
                    self.places.insert(id, self.history.events.len());
                    self.history.events.push(*event);
                }
            }
            Record::Amendment(id, amendment) => {
                if let Some(place) = self.places.get(&id) {
                    amend(&mut self.history.events[*place], amendment);
                }
            }
            Record::Unknown => {}
        }
    }
}

fn amend(event: &mut Event, amendment: Amendment) {
    if !amendment.action.is_empty() {
        event.action = amendment.action;
    }
    event.stored_bytes += amendment.stored_bytes;
    event.phases.push((Phase::Publish, amendment.publish_time));
    event.not_stored = amendment.not_stored;
}
