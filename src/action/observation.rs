//! What earlier runs of a query saw, and which action it made of it.
//!
//! A query's trail holds the last few observation sets, newest first. A set that agrees
//! with the world names the full action; checking one starts no process.

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

use crate::roles::{Role, RolePath};

/// How many sets a trail holds. The least recently used goes first, never all.
pub const SETS_MAX: usize = 16;

/// One thing that a compiler saw.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Observation {
    /// A file with this content.
    File {
        /// Where.
        path: RolePath,
        /// What.
        digest: Digest,
    },
    /// Nothing where something was looked for (KEY-03).
    Absent {
        /// Where.
        path: RolePath,
    },
    /// A directory with these names in it.
    Listing {
        /// Where.
        path: RolePath,
        /// The digest of the names.
        digest: Digest,
    },
    /// A directory, whatever is in it, that was looked for and found (KEY-03).
    Directory {
        /// Where.
        path: RolePath,
    },
    /// A variable (KEY-06). Its value holds stand-ins for roots where it is a mere locator
    /// (KEY-07).
    Env {
        /// Its name.
        name: String,
        /// Its value; none is unset.
        value: Option<Vec<u8>>,
    },
    /// All variables may have been read. This says which are set; the value of each is an
    /// observation of its own.
    Environment {
        /// The digest of their names.
        digest: Digest,
    },
    /// A symbolic link that was read or followed.
    Link {
        /// Where the link itself lies.
        path: RolePath,
        /// What it says, with stand-ins for roots.
        text: Vec<u8>,
    },
    /// A root, or a directory above one, has to lie at this place: the outputs hold its path
    /// (KEY-07, KEY-18), or something was found by it that has no other name.
    Root {
        /// Which root.
        role: Role,
        /// How many levels above the root the directory lies; 0 is the root itself.
        up: u8,
        /// Whether the path is the real one, with every link followed, and not the call's.
        is_real: bool,
        /// Its path.
        path: Vec<u8>,
    },
    /// There were messages, so they look as these options say (RST-07).
    Presentation {
        /// The options, framed.
        options: Vec<u8>,
    },
}

/// What one run saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationSet {
    /// What it saw, sorted, each once.
    pub observations: Vec<Observation>,
    /// The action that this makes of the query.
    pub action: Digest<ActionMessage>,
}

/// The last few sets of a query, the most recently used first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// At most [`SETS_MAX`].
    pub sets: Vec<ObservationSet>,
}

impl Trail {
    /// Takes a new set, or one that was used, to the front.
    pub fn promote(&mut self, set: ObservationSet) {
        self.sets.retain(|other| other.observations != set.observations);
        self.sets.insert(0, set);
        self.sets.truncate(SETS_MAX);
    }
}
