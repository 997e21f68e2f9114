//! Path sets: what compiles of a query look at, by names only, without any digest or value.
//!
//! A trail does not leave the machine: its values differ from checkout to checkout, and some are secret. A path
//! set is the same for every checkout that has the same files. Another machine makes the observations of the
//! set in its own checkout, and so finds the action whose result it needs.
//!
//! The bytes come from a remote. Bytes that do not decode are an error, never a panic, and a set with wrong
//! names leads to an action that nobody has stored.

use std::collections::BTreeSet;

use kache_proto::path_set::{self as wire, Kind};
use kache_proto::{Message as _, length_delimiter_len};
use thiserror::Error;

use super::columns::{ColumnReader, ColumnWriter, skipped_rows};
use super::environment::CallEnv;
use super::observation::{Observation, SETS_MAX};
use crate::roles::{Role, RolePath};

/// The version of this format. Sets of another version are not read, and their query counts as new.
pub const PATH_SETS_VERSION: u8 = 1;

/// The largest number of different names in the sets of a query. A compile with 6,000 files is the largest
/// one that was measured.
const NAMES_MAX: usize = 1 << 16;

/// Something that a compile looks at: an observation without its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Observable {
    /// Whether there is a file at this path, with its content, or a directory, or nothing.
    State {
        /// The path that a compile looked at.
        path: RolePath,
    },
    /// The entries of a directory.
    Listing {
        /// The path of the directory.
        path: RolePath,
    },
    /// The value of a variable, or that it is not set.
    Env {
        /// The name of the variable.
        name: String,
        /// Whether the value counts with stand-ins for roots, because the variable is a locator (KEY-07).
        is_locator: bool,
    },
    /// The names of all variables.
    Environment,
    /// The text of a symbolic link, or that there is none.
    Link {
        /// The path of the link itself.
        path: RolePath,
    },
    /// The path of a root, or of a directory above one.
    Root {
        /// The role of the root.
        role: Role,
        /// How many levels above the root the directory lies.
        up: u8,
        /// Whether every symbolic link is followed.
        is_real: bool,
    },
    /// The options that decide how messages look.
    Presentation,
}

impl Observable {
    /// Returns what an observation looked at. `env` is the environment of the call that made the observation;
    /// it tells whether the value of a variable was stored with stand-ins.
    pub fn of(observation: &Observation, env: &dyn CallEnv) -> Observable {
        match observation {
            Observation::File { path, .. }
            | Observation::Absent { path }
            | Observation::Directory { path } => Observable::State { path: path.clone() },
            Observation::Listing { path, .. } => Observable::Listing { path: path.clone() },
            Observation::Env { name, value } => {
                Observable::Env { name: name.clone(), is_locator: *value != env.value(name) }
            }
            Observation::Environment { .. } => Observable::Environment,
            Observation::Link { path, .. } => Observable::Link { path: path.clone() },
            Observation::Root { role, up, is_real, .. } => {
                Observable::Root { role: *role, up: *up, is_real: *is_real }
            }
            Observation::Presentation { .. } => Observable::Presentation,
        }
    }
}

/// The names of one run's observations, sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathSet(Vec<Observable>);

impl PathSet {
    /// Makes the set of a run's observations. `env` is the environment of the run's call.
    pub fn of(observations: &[Observation], env: &dyn CallEnv) -> PathSet {
        let names: BTreeSet<Observable> = observations.iter().map(|one| Observable::of(one, env)).collect();
        PathSet(names.into_iter().collect())
    }

    /// Returns the names, sorted.
    pub fn names(&self) -> &[Observable] {
        &self.0
    }
}

/// Why bytes cannot be read as path sets.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathSetError {
    /// They have another version of the format than [`PATH_SETS_VERSION`].
    #[error("the path sets have version {0}")]
    Version(u8),
    /// They do not follow the format.
    #[error("the path sets are malformed")]
    Malformed,
}

/// The path sets of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSets {
    /// The newest set first; at most [`SETS_MAX`].
    pub sets: Vec<PathSet>,
}

impl PathSets {
    /// Puts a set to the front, unless it is among the sets already. Returns whether anything changed. If
    /// there are too many sets, the oldest one is dropped.
    pub fn add(&mut self, set: PathSet) -> bool {
        if self.sets.contains(&set) {
            return false;
        }
        self.sets.insert(0, set);
        self.sets.truncate(SETS_MAX);
        true
    }

    /// Returns the sets in their stored form: a byte with the version, the length, and the message
    /// `kache.pathset.v1.PathSets`.
    pub fn encode(&self) -> Vec<u8> {
        let names: BTreeSet<&Observable> = self.sets.iter().flat_map(|set| &set.0).collect();
        let table: Vec<&Observable> = names.into_iter().collect();
        let mut writer = ColumnWriter::default();
        let kinds = table.iter().map(|name| write(name, &mut writer).into()).collect();
        let columns = writer.finish();
        let message = wire::PathSets {
            kinds,
            starts: columns.starts,
            path_starts: columns.path_starts,
            shared_bytes: columns.shared_bytes,
            texts: columns.texts,
            text_bytes: columns.text_bytes,
            sets: self.sets.iter().map(|set| set_message(set, &table)).collect(),
        };
        let mut bytes = vec![PATH_SETS_VERSION];
        message.encode_length_delimited(&mut bytes).expect("a vector grows as needed");
        bytes
    }

    /// Reads sets from their stored form.
    pub fn decode(bytes: &[u8]) -> Result<PathSets, PathSetError> {
        let (version, rest) = bytes.split_first().ok_or(PathSetError::Malformed)?;
        if *version != PATH_SETS_VERSION {
            return Err(PathSetError::Version(*version));
        }
        read_message(rest).and_then(|message| path_sets(&message)).ok_or(PathSetError::Malformed)
    }
}

fn write<'a>(name: &'a Observable, columns: &mut ColumnWriter<'a>) -> Kind {
    match name {
        Observable::State { path } => {
            columns.path(path);
            Kind::State
        }
        Observable::Listing { path } => {
            columns.path(path);
            Kind::Listing
        }
        Observable::Env { name, is_locator } => {
            columns.text(name.as_bytes());
            if *is_locator { Kind::Locator } else { Kind::Variable }
        }
        Observable::Environment => Kind::Environment,
        Observable::Link { path } => {
            columns.path(path);
            Kind::Link
        }
        Observable::Root { role, up, is_real } => {
            columns.start(*role, *up);
            if *is_real { Kind::RealRoot } else { Kind::Root }
        }
        Observable::Presentation => Kind::Presentation,
    }
}

fn set_message(set: &PathSet, table: &[&Observable]) -> wire::PathSet {
    let row = |one: &Observable| table.binary_search(&one).expect("the table has every name");
    wire::PathSet { skipped_rows: skipped_rows(set.0.iter().map(row).collect()) }
}

/// Decodes the message; `None` if the bytes are not as long as [`PathSets::encode`] makes it.
fn read_message(bytes: &[u8]) -> Option<wire::PathSets> {
    let message = wire::PathSets::decode_length_delimited(bytes).ok()?;
    let length = message.encoded_len();
    (length_delimiter_len(length) + length == bytes.len()).then_some(message)
}

fn path_sets(message: &wire::PathSets) -> Option<PathSets> {
    if message.kinds.len() > NAMES_MAX || message.sets.len() > SETS_MAX {
        return None;
    }
    let wire::PathSets { starts, path_starts, shared_bytes, texts, text_bytes, .. } = message;
    let mut columns = ColumnReader::new(starts, path_starts, shared_bytes, texts, text_bytes)?;
    let mut table = Vec::with_capacity(message.kinds.len());
    for kind in &message.kinds {
        table.push(read(*kind, &mut columns)?);
    }
    let sets = message.sets.iter().map(|set| read_set(set, &table)).collect::<Option<_>>()?;
    columns.is_at_end().then_some(PathSets { sets })
}

fn read(kind: i32, columns: &mut ColumnReader<'_>) -> Option<Observable> {
    let root = |columns: &mut ColumnReader<'_>, is_real| {
        let (role, up) = columns.start()?;
        Some(Observable::Root { role, up, is_real })
    };
    Some(match Kind::try_from(kind).ok()? {
        Kind::Unspecified => return None,
        Kind::State => Observable::State { path: columns.path()? },
        Kind::Listing => Observable::Listing { path: columns.path()? },
        Kind::Variable => Observable::Env { name: columns.name()?, is_locator: false },
        Kind::Locator => Observable::Env { name: columns.name()?, is_locator: true },
        Kind::Environment => Observable::Environment,
        Kind::Link => Observable::Link { path: columns.path()? },
        Kind::Root => root(columns, false)?,
        Kind::RealRoot => root(columns, true)?,
        Kind::Presentation => Observable::Presentation,
    })
}

fn read_set(message: &wire::PathSet, table: &[Observable]) -> Option<PathSet> {
    let mut rows = table.iter();
    let mut names = Vec::with_capacity(message.skipped_rows.len().min(table.len()));
    for skipped in &message.skipped_rows {
        names.push(rows.nth(usize::try_from(*skipped).ok()?)?.clone());
    }
    Some(PathSet(names))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kache_cas::{Digest, DigestFunction};

    use super::*;

    fn path(rest: &str) -> RolePath {
        RolePath::new(Role::Workspace, rest).unwrap()
    }

    fn env() -> BTreeMap<String, String> {
        [("PLAIN", "secret"), ("OUT_DIR", "/home/a/ws/target/out")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn locator(name: &Observable) -> Option<(&str, bool)> {
        match name {
            Observable::Env { name, is_locator } => Some((name, *is_locator)),
            _ => None,
        }
    }

    fn observations(content: &[u8]) -> Vec<Observation> {
        let digest = Digest::of(DigestFunction::Blake3, content);
        let set =
            |name: &str, value: &[u8]| Observation::Env { name: name.into(), value: Some(value.to_vec()) };
        vec![
            Observation::File { path: path("src/a.rs"), digest },
            Observation::Absent { path: path("src/a/mod.rs") },
            Observation::Directory { path: path("src/a") },
            Observation::Listing { path: path("src"), digest },
            set("PLAIN", b"secret"),
            set("OUT_DIR", b"/kache/out/out"),
            Observation::Env { name: "UNSET".into(), value: None },
            Observation::Environment { digest },
            Observation::Link { path: path("link"), text: b"to".to_vec() },
            Observation::Root { role: Role::Workspace, up: 1, is_real: true, path: b"/home/a".to_vec() },
            Observation::Presentation { options: b"--color".to_vec() },
        ]
    }

    fn sample() -> PathSets {
        let all = observations(b"x");
        let mut sets = PathSets::default();
        assert!(sets.add(PathSet::of(&all[..3], &env())));
        assert!(sets.add(PathSet::of(&all, &env())));
        sets
    }

    #[test]
    fn path_sets_hold_names_and_no_values() {
        let set = PathSet::of(&observations(b"x"), &env());
        assert_eq!(set, PathSet::of(&observations(b"other"), &env()));
        let locators: Vec<_> = set.names().iter().filter_map(locator).collect();
        assert_eq!(locators, [("OUT_DIR", true), ("PLAIN", false), ("UNSET", false)]);
        let bytes = sample().encode();
        for value in ["secret", "/home/a", "/kache/out", "--color"] {
            assert!(!bytes.windows(value.len()).any(|part| part == value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn a_set_that_is_there_already_changes_nothing() {
        let mut sets = sample();
        assert!(!sets.add(PathSet::of(&observations(b"other"), &env())));
        for index in 0..SETS_MAX {
            sets.add(PathSet(vec![Observable::State { path: path(&format!("{index}.rs")) }]));
        }
        assert_eq!(sets.sets.len(), SETS_MAX);
        assert_eq!(PathSets::decode(&sets.encode()), Ok(sets));
    }

    #[test]
    fn net_02_path_sets_that_are_cut_off_anywhere_are_malformed() {
        let mut bytes = sample().encode();
        assert_eq!(PathSets::decode(&bytes), Ok(sample()));
        for length in 0..bytes.len() {
            assert_eq!(PathSets::decode(&bytes[..length]), Err(PathSetError::Malformed), "{length} bytes");
        }
        bytes.push(0);
        assert_eq!(PathSets::decode(&bytes), Err(PathSetError::Malformed));
        bytes[0] = 9;
        assert_eq!(PathSets::decode(&bytes), Err(PathSetError::Version(9)));
    }
}
