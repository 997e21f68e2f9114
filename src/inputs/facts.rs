//! Answers that took trouble to find, with what they depend on.
//!
//! A fact holds as long as every file that it was made of bears the stamp that it bore, and
//! every file that was missing still is. That is how a hit learns from a handful of `stat`
//! calls what once took a process or half a gigabyte of hashing: where a proxy leads, what
//! a toolchain consists of, what a linker finds.
//!
//! It does not know what the answers mean.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::stamp::{OpenDir, Stamp};

/// How many are kept. A machine has tens of toolchains and linkers, and a checkout has tens of
/// native libraries with their directories.
pub const FACTS_MAX: usize = 20_000;

/// How long a fact is believed that is made of files whose dates do not tell of every change.
pub(super) const MOMENT: Duration = Duration::from_secs(30);

/// From so many entries of one directory on, it is opened to be asked for them.
const OPENED_MIN: usize = 3;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// The answer, as whoever asked has encoded it.
    pub(super) value: Vec<u8>,
    /// What it was made of, by directory.
    pub(super) depends_on: Vec<Group>,
    /// Until when it is believed, if what it was made of can change without a trace.
    pub(super) until: Option<Instant>,
}

/// Entries of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The directory.
    pub(super) dir: PathBuf,
    /// What was there; a name of `.` is the directory itself.
    pub(super) entries: Vec<(OsString, Option<Stamp>)>,
}

impl Fact {
    /// An answer that was made of these files and directories.
    pub(super) fn new(value: Vec<u8>, depends_on: Vec<(PathBuf, Option<Stamp>)>) -> Fact {
        let mut groups: BTreeMap<PathBuf, Vec<(OsString, Option<Stamp>)>> = BTreeMap::new();
        for (path, stamp) in depends_on {
            let (dir, name) = match (path.parent(), path.file_name()) {
                (Some(dir), Some(name)) => (dir.to_owned(), name.to_owned()),
                _ => (path, OsString::from(".")),
            };
            groups.entry(dir).or_default().push((name, stamp));
        }
        let depends_on = groups.into_iter().map(|(dir, entries)| Group { dir, entries }).collect();
        Fact { value, depends_on, until: None }
    }

    /// The same, to be believed for [`MOMENT`] from now on, and by this daemon only.
    pub(super) fn for_a_moment(self) -> Fact {
        Fact { until: Some(Instant::now() + MOMENT), ..self }
    }

    /// Whether nothing has changed.
    fn holds(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
            && self.depends_on.iter().all(|group| group.holds().unwrap_or(false))
    }
}

impl Group {
    fn holds(&self) -> io::Result<bool> {
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

/// All facts, by question.
#[derive(Debug, Default)]
pub(super) struct Facts {
    facts: RwLock<HashMap<Vec<u8>, Arc<Fact>>>,
}

impl Facts {
    /// The answer, if it still holds.
    pub(super) fn get(&self, question: &[u8]) -> Option<Arc<Fact>> {
        let fact = self.facts.read().unwrap_or_else(PoisonError::into_inner).get(question).cloned()?;
        fact.holds().then_some(fact)
    }

    /// Remembers an answer.
    pub(super) fn put(&self, question: Vec<u8>, fact: Arc<Fact>) {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        if facts.len() >= FACTS_MAX && !facts.contains_key(&question) {
            // They are found again; which of them are still asked for is not recorded.
            facts.clear();
        }
        facts.insert(question, fact);
    }

    /// A copy of all that last, in order of the questions.
    pub(super) fn all(&self) -> Vec<(Vec<u8>, Arc<Fact>)> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = facts
            .iter()
            .filter(|(_, fact)| fact.until.is_none())
            .map(|(question, fact)| (question.clone(), fact.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
