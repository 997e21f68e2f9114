//! A cache of answers that are expensive to find, with the files that each answer depends on.
//!
//! An answer is valid as long as each of these files has the stamp that it had, and each missing file is
//! still missing. So a hit needs only some `stat` calls for what once took a process or half a gigabyte of
//! hashing: the program behind a rustup proxy, the digest of a toolchain, the files that a linker finds.
//!
//! This file does not know what the questions and answers mean; to it, both are bytes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::stamp::{OpenDir, Stamp};

/// The largest number of answers. A machine has tens of toolchains and linkers, and a checkout has tens of
/// native libraries with their directories.
pub const ANSWERS_MAX: usize = 20_000;

/// The lifetime of an answer that depends on files whose dates do not show every change.
pub(crate) const UNPROVEN_LIFETIME: Duration = Duration::from_secs(30);

/// The number of entries of one directory from which it is cheaper to open the directory once.
const OPENED_MIN: usize = 3;

/// An answer, with the files that it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CachedAnswer {
    /// The answer, encoded by the caller.
    pub(crate) value: Vec<u8>,
    /// The files and directories that the answer depends on, by directory.
    pub(crate) depends_on: Vec<StampedEntries>,
    /// The time when the answer expires; `None` if stamps show every change of what it depends on.
    pub(crate) expires: Option<Instant>,
}

/// Some entries of one directory with their stamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StampedEntries {
    pub(crate) dir: PathBuf,
    /// The name and the stamp of each entry; the stamp is `None` if nothing was there. The name `.` stands
    /// for the directory itself.
    pub(crate) entries: Vec<(OsString, Option<Stamp>)>,
}

impl CachedAnswer {
    /// Creates an answer that depends on these files and directories.
    pub(crate) fn new(value: Vec<u8>, depends_on: Vec<(PathBuf, Option<Stamp>)>) -> CachedAnswer {
        let mut groups: BTreeMap<PathBuf, Vec<(OsString, Option<Stamp>)>> = BTreeMap::new();
        for (path, stamp) in depends_on {
            let (dir, name) = match (path.parent(), path.file_name()) {
                (Some(dir), Some(name)) => (dir.to_owned(), name.to_owned()),
                _ => (path, OsString::from(".")),
            };
            groups.entry(dir).or_default().push((name, stamp));
        }
        let depends_on = groups.into_iter().map(|(dir, entries)| StampedEntries { dir, entries }).collect();
        CachedAnswer { value, depends_on, expires: None }
    }

    /// Lets the answer expire [`UNPROVEN_LIFETIME`] from now. Such an answer is not saved.
    pub(crate) fn expiring(self) -> CachedAnswer {
        CachedAnswer { expires: Some(Instant::now() + UNPROVEN_LIFETIME), ..self }
    }

    /// Whether the answer has not expired and all stamps are the same. An error of `stat` counts as a change.
    fn is_valid(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
            && self.depends_on.iter().all(|entries| entries.are_unchanged().unwrap_or(false))
    }
}

impl StampedEntries {
    fn are_unchanged(&self) -> io::Result<bool> {
        if self.entries.len() < OPENED_MIN {
            for (name, stamp) in &self.entries {
                if Stamp::of(&self.dir.join(name))? != *stamp {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let Some(dir) = OpenDir::open(&self.dir)? else {
            return Ok(self.entries.iter().all(|(_, stamp)| stamp.is_none()));
        };
        for (name, stamp) in &self.entries {
            if dir.stamp(name)? != *stamp {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// All answers, by question.
#[derive(Debug, Default)]
pub(crate) struct AnswerCache {
    answers: RwLock<HashMap<Vec<u8>, Arc<CachedAnswer>>>,
}

impl AnswerCache {
    /// Returns the answer to a question; `None` if there is none or it is no longer valid. It calls `stat`.
    pub(crate) fn get(&self, question: &[u8]) -> Option<Arc<CachedAnswer>> {
        // The lock is not held during the `stat` calls.
        let answer = self.answers.read().get(question).cloned()?;
        answer.is_valid().then_some(answer)
    }

    /// Remembers the answer to a question, in place of an earlier one.
    pub(crate) fn put(&self, question: Vec<u8>, answer: Arc<CachedAnswer>) {
        let mut answers = self.answers.write();
        if answers.len() >= ANSWERS_MAX && !answers.contains_key(&question) {
            // Nothing records which answers are still used, so all go; those that are needed are found again.
            answers.clear();
        }
        answers.insert(question, answer);
    }

    /// Copies all answers that do not expire, sorted by question.
    pub(crate) fn all(&self) -> Vec<(Vec<u8>, Arc<CachedAnswer>)> {
        let answers = self.answers.read();
        let mut all: Vec<_> = answers
            .iter()
            .filter(|(_, answer)| answer.expires.is_none())
            .map(|(question, answer)| (question.clone(), answer.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
