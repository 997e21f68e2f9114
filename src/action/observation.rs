//! Observations: what a compiler read that nothing on its command line names.
//!
//! The trail of a query holds the observation sets of its last runs, newest first. A lookup compares
//! a set with the checkout. If every observation still holds, the set names the full action, whose
//! result can be restored. The comparison starts no process.

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

use crate::roles::{Role, RolePath};

/// The largest number of sets in a trail. A new set replaces the least recently used one.
pub const SETS_MAX: usize = 16;

/// One thing that a compiler read, with the value that it had.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Observation {
    /// A file had this content.
    File {
        /// The path of the file.
        path: RolePath,
        /// The digest of its content.
        digest: Digest,
    },
    /// The compiler looked for something at this path and found nothing (KEY-03).
    Absent {
        /// The path that did not exist.
        path: RolePath,
    },
    /// A directory had these entries.
    Listing {
        /// The path of the directory.
        path: RolePath,
        /// The digest of the entries' names and kinds.
        digest: Digest,
    },
    /// The compiler looked for this path and found a directory. Its content does not count (KEY-03).
    Directory {
        /// The path of the directory.
        path: RolePath,
    },
    /// A variable had this value (KEY-06). The value has stand-ins for roots if the variable is a
    /// locator (KEY-07).
    Env {
        /// The name of the variable.
        name: String,
        /// The value; `None` if the variable was not set.
        value: Option<Vec<u8>>,
    },
    /// A program may have read all variables, so the set of variables counts. The value of each one is
    /// an [`Observation::Env`] of its own.
    Environment {
        /// The digest of the names of all variables that were set.
        digest: Digest,
    },
    /// A symbolic link was read or followed, or a program saw that a path is no symbolic link.
    Link {
        /// The path of the link itself, or the one that is no link.
        path: RolePath,
        /// The text of the link, with stand-ins for roots; empty if there was no link.
        text: Vec<u8>,
    },
    /// A root, or a directory above one, must have this path. Either the outputs contain the path
    /// (KEY-07, KEY-18), or the compiler found something through it that no path by role can name.
    Root {
        /// The role of the root.
        role: Role,
        /// How many levels above the root the directory lies; 0 is the root itself.
        up: u8,
        /// Whether every symbolic link in `path` was followed. If not, `path` is spelled as in the call.
        is_real: bool,
        /// The absolute path of the directory.
        path: Vec<u8>,
    },
    /// The compiler printed messages, so the options that decide how they look count (RST-07).
    Presentation {
        /// The options, each with its length in front.
        options: Vec<u8>,
    },
}

/// All observations of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationSet {
    /// The observations, sorted and without duplicates.
    pub observations: Vec<Observation>,
    /// The full action of the query with these observations.
    pub action: Digest<ActionMessage>,
}

/// The observation sets of a query's last runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// The most recently used set first; at most [`SETS_MAX`].
    pub sets: Vec<ObservationSet>,
}

impl Trail {
    /// Puts a new set, or one that a lookup has just used, to the front. If the trail is full, the least
    /// recently used set is dropped.
    pub fn promote(&mut self, set: ObservationSet) {
        self.sets.retain(|other| other.observations != set.observations);
        self.sets.insert(0, set);
        self.sets.truncate(SETS_MAX);
    }
}
