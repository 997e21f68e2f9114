//! The encoding of a trail, and the action result that carries it.
//!
//! A byte with the version is followed by the length and the message `kache.trail.v1.Trail`
//! (`protos/proto/kache/trail.proto`). The sets of one trail have most observations in common, so the
//! message has a table that holds every observation once, sorted, and a set is a list of rows of the
//! table. Of a path only the part is written that differs from the path before it.
//!
//! The bytes may come from a remote store. Bytes that do not decode are an error, never a panic.

use std::collections::BTreeSet;
use std::slice::Iter;

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction, Hash};
use kache_proto::reapi::ActionResult;
use kache_proto::trail::{self as wire, Kind};
use kache_proto::{Message as _, length_delimiter_len};
use thiserror::Error;

use super::observation::{Observation, ObservationSet, SETS_MAX, Trail};
use crate::roles::{Role, RolePath};

/// The version of this format. A trail of another version is not read, and its query counts as new.
pub const TRAIL_VERSION: u8 = 4;

/// The largest number of different observations in a trail. A compile with 6,000 files is the largest
/// one that was measured.
const OBSERVATIONS_MAX: usize = 1 << 20;

/// Why bytes cannot be read as a trail.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TrailError {
    /// They have another version of the format than [`TRAIL_VERSION`].
    #[error("the trail has version {0}")]
    Version(u8),
    /// They do not follow the format.
    #[error("the trail is malformed")]
    Malformed,
}

impl Trail {
    /// Returns the trail in its stored form.
    pub fn encode(&self) -> Vec<u8> {
        let observations: BTreeSet<&Observation> =
            self.sets.iter().flat_map(|set| &set.observations).collect();
        let table: Vec<&Observation> = observations.into_iter().collect();
        let mut columns = ColumnWriter::default();
        table.iter().for_each(|observation| columns.observation(observation));
        let sets = self.sets.iter().map(|set| set_message(set, &table)).collect();
        let message = columns.into_message(sets);
        let mut bytes = vec![TRAIL_VERSION];
        message.encode_length_delimited(&mut bytes).expect("a vector grows as needed");
        bytes
    }

    /// Reads a trail from its stored form.
    pub fn decode(bytes: &[u8]) -> Result<Trail, TrailError> {
        let (version, rest) = bytes.split_first().ok_or(TrailError::Malformed)?;
        if *version != TRAIL_VERSION {
            return Err(TrailError::Version(*version));
        }
        read_message(rest).and_then(|message| trail(&message)).ok_or(TrailError::Malformed)
    }

    /// Wraps the encoded trail in an action result, which is stored under the query's digest.
    pub fn to_result(&self) -> ActionResult {
        ActionResult { stdout_raw: Bytes::from(self.encode()), ..ActionResult::default() }
    }

    /// Decodes the trail that [`Trail::to_result`] wrapped.
    pub fn from_result(result: &ActionResult) -> Result<Trail, TrailError> {
        Trail::decode(&result.stdout_raw)
    }
}

/// The value of `Start.up` for a path that is `RolePath::is_everywhere_above`.
const EVERY_LEVEL: u8 = u8::MAX;

/// Appends observations to the columns of the table.
#[derive(Default)]
struct ColumnWriter<'a> {
    /// All columns but those that follow.
    message: wire::Trail,
    starts: Vec<(Role, u8)>,
    texts: Vec<u8>,
    hashes: Vec<u8>,
    /// The rest of the path before, of which the next one may share bytes.
    before: &'a [u8],
}

impl<'a> ColumnWriter<'a> {
    fn observation(&mut self, observation: &'a Observation) {
        let kind = match observation {
            Observation::File { path, digest } => {
                self.path(path);
                self.digest(digest);
                Kind::File
            }
            Observation::Absent { path } => {
                self.path(path);
                Kind::Absent
            }
            Observation::Listing { path, digest } => {
                self.path(path);
                self.digest(digest);
                Kind::Listing
            }
            Observation::Directory { path } => {
                self.path(path);
                Kind::Directory
            }
            Observation::Env { name, value } => {
                self.text(name.as_bytes());
                value.iter().for_each(|value| self.text(value));
                if value.is_some() { Kind::Variable } else { Kind::UnsetVariable }
            }
            Observation::Environment { digest } => {
                self.digest(digest);
                Kind::Environment
            }
            Observation::Link { path, text } => {
                self.path(path);
                self.text(text);
                Kind::Link
            }
            Observation::Root { role, up, is_real, path } => {
                self.start(*role, *up);
                self.text(path);
                if *is_real { Kind::RealRoot } else { Kind::Root }
            }
            Observation::Presentation { options } => {
                self.text(options);
                Kind::Presentation
            }
        };
        self.message.kinds.push(kind.into());
    }

    fn path(&mut self, path: &'a RolePath) {
        self.start(path.role(), if path.is_everywhere_above() { EVERY_LEVEL } else { path.up() });
        let shared = self.before.iter().zip(path.rest()).take_while(|(a, b)| a == b).count();
        self.message.shared_bytes.push(number(shared));
        self.text(&path.rest()[shared..]);
        self.before = path.rest();
    }

    fn start(&mut self, role: Role, up: u8) {
        let index = self.starts.iter().position(|start| *start == (role, up)).unwrap_or_else(|| {
            self.starts.push((role, up));
            self.starts.len() - 1
        });
        self.message.path_starts.push(number(index));
    }

    fn text(&mut self, text: &[u8]) {
        self.message.text_bytes.push(number(text.len()));
        self.texts.extend_from_slice(text);
    }

    fn digest(&mut self, digest: &Digest) {
        self.message.functions.push(function_field(digest.function));
        self.hashes.extend_from_slice(&digest.hash.0);
        self.message.size_bytes.push(digest.size_bytes);
    }

    fn into_message(self, sets: Vec<wire::ObservationSet>) -> wire::Trail {
        wire::Trail {
            starts: self.starts.into_iter().map(|(role, up)| start_message(role, up)).collect(),
            texts: self.texts.into(),
            hashes: self.hashes.into(),
            sets,
            ..self.message
        }
    }
}

fn set_message(set: &ObservationSet, table: &[&Observation]) -> wire::ObservationSet {
    let row = |one: &Observation| table.binary_search(&one).expect("the table has every observation");
    let mut rows: Vec<usize> = set.observations.iter().map(row).collect();
    rows.sort_unstable();
    rows.dedup();
    let mut next = 0;
    let skipped = |row| number(row - std::mem::replace(&mut next, row + 1));
    wire::ObservationSet {
        action_function: function_field(set.action.function),
        action_hash: Bytes::copy_from_slice(&set.action.hash.0),
        action_size_bytes: set.action.size_bytes,
        skipped_rows: rows.into_iter().map(skipped).collect(),
    }
}

fn number(number: usize) -> u32 {
    u32::try_from(number).expect("the numbers and lengths in a trail are far below 2^32")
}

fn start_message(role: Role, up: u8) -> wire::Start {
    let (role, base) = match role {
        Role::Workspace => (wire::Role::Workspace, 0),
        Role::Target => (wire::Role::Target, 0),
        Role::Cargo => (wire::Role::Cargo, 0),
        Role::Sysroot => (wire::Role::Sysroot, 0),
        Role::Absolute => (wire::Role::Absolute, 0),
        Role::Base(index) => (wire::Role::Base, index),
    };
    wire::Start { role: role.into(), base: base.into(), up: up.into() }
}

fn function_field(function: DigestFunction) -> i32 {
    match function {
        DigestFunction::Sha256 => wire::DigestFunction::Sha256,
        DigestFunction::Blake3 => wire::DigestFunction::Blake3,
    }
    .into()
}

/// Decodes the message; `None` if the bytes are not as long as [`Trail::encode`] makes it. They are longer
/// if the message has a field that this version does not know, which could change its meaning.
fn read_message(bytes: &[u8]) -> Option<wire::Trail> {
    let message = wire::Trail::decode_length_delimited(bytes).ok()?;
    let length = message.encoded_len();
    (length_delimiter_len(length) + length == bytes.len()).then_some(message)
}

/// Returns the trail of a message; `None` if a field has a value that no trail has.
fn trail(message: &wire::Trail) -> Option<Trail> {
    if message.kinds.len() > OBSERVATIONS_MAX || message.sets.len() > SETS_MAX {
        return None;
    }
    let mut columns = ColumnReader::new(message)?;
    let mut table = Vec::with_capacity(message.kinds.len());
    for kind in &message.kinds {
        table.push(columns.observation(*kind)?);
    }
    let sets = match &*message.sets {
        // The usual trail has one set, so the rows are not cloned.
        [only] => set(only, table.into_iter(), |row| row).map(|set| vec![set]),
        sets => sets.iter().map(|message| set(message, table.iter(), Observation::clone)).collect(),
    };
    columns.is_at_end().then_some(Trail { sets: sets? })
}

fn set<R: ExactSizeIterator>(
    message: &wire::ObservationSet,
    mut rows: R,
    observation: impl Fn(R::Item) -> Observation,
) -> Option<ObservationSet> {
    let mut observations = Vec::with_capacity(message.skipped_rows.len().min(rows.len()));
    for skipped in &message.skipped_rows {
        observations.push(observation(rows.nth(usize::try_from(*skipped).ok()?)?));
    }
    let action = digest(message.action_function, &message.action_hash, message.action_size_bytes)?;
    Some(ObservationSet { observations, action })
}

/// Takes observations from the columns of the table. Every method returns `None` if a column has no more
/// values, or one that no trail has.
struct ColumnReader<'a> {
    starts: Vec<(Role, u8)>,
    path_starts: Iter<'a, u32>,
    shared_bytes: Iter<'a, u32>,
    texts: &'a [u8],
    text_bytes: Iter<'a, u32>,
    functions: Iter<'a, i32>,
    hashes: &'a [u8],
    size_bytes: Iter<'a, u64>,
    /// The rest of the path before, of which the next one may share bytes.
    before: Vec<u8>,
}

impl<'a> ColumnReader<'a> {
    fn new(message: &'a wire::Trail) -> Option<Self> {
        Some(ColumnReader {
            starts: message.starts.iter().map(start).collect::<Option<_>>()?,
            path_starts: message.path_starts.iter(),
            shared_bytes: message.shared_bytes.iter(),
            texts: &message.texts,
            text_bytes: message.text_bytes.iter(),
            functions: message.functions.iter(),
            hashes: &message.hashes,
            size_bytes: message.size_bytes.iter(),
            before: Vec::new(),
        })
    }

    fn observation(&mut self, kind: i32) -> Option<Observation> {
        Some(match Kind::try_from(kind).ok()? {
            Kind::Unspecified => return None,
            Kind::File => Observation::File { path: self.path()?, digest: self.digest()? },
            Kind::Absent => Observation::Absent { path: self.path()? },
            Kind::Listing => Observation::Listing { path: self.path()?, digest: self.digest()? },
            Kind::Directory => Observation::Directory { path: self.path()? },
            Kind::Variable => Observation::Env { name: self.name()?, value: Some(self.text()?.to_vec()) },
            Kind::UnsetVariable => Observation::Env { name: self.name()?, value: None },
            Kind::Environment => Observation::Environment { digest: self.digest()? },
            Kind::Link => Observation::Link { path: self.path()?, text: self.text()?.to_vec() },
            Kind::Root => self.root(false)?,
            Kind::RealRoot => self.root(true)?,
            Kind::Presentation => Observation::Presentation { options: self.text()?.to_vec() },
        })
    }

    fn root(&mut self, is_real: bool) -> Option<Observation> {
        let (role, up) = self.start()?;
        Some(Observation::Root { role, up, is_real, path: self.text()?.to_vec() })
    }

    fn path(&mut self) -> Option<RolePath> {
        let (role, up) = self.start()?;
        let shared = usize::try_from(*self.shared_bytes.next()?).ok()?;
        let rest = self.text()?;
        if shared > self.before.len() {
            return None;
        }
        self.before.truncate(shared);
        self.before.extend_from_slice(rest);
        match up {
            EVERY_LEVEL => RolePath::everywhere_above(role, self.before.clone()),
            up => RolePath::above(role, up, self.before.clone()),
        }
    }

    fn start(&mut self) -> Option<(Role, u8)> {
        let index = usize::try_from(*self.path_starts.next()?).ok()?;
        self.starts.get(index).copied()
    }

    fn name(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.to_vec()).ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(*self.text_bytes.next()?).ok()?;
        let (text, texts) = self.texts.split_at_checked(length)?;
        self.texts = texts;
        Some(text)
    }

    fn digest(&mut self) -> Option<Digest> {
        let (hash, hashes) = self.hashes.split_at_checked(Hash::LEN)?;
        self.hashes = hashes;
        digest(*self.functions.next()?, hash, *self.size_bytes.next()?)
    }

    /// Whether the rows have taken all values of all columns.
    fn is_at_end(&self) -> bool {
        self.path_starts.len() == 0
            && self.shared_bytes.len() == 0
            && self.texts.is_empty()
            && self.text_bytes.len() == 0
            && self.functions.len() == 0
            && self.hashes.is_empty()
            && self.size_bytes.len() == 0
    }
}

fn start(message: &wire::Start) -> Option<(Role, u8)> {
    let role = match wire::Role::try_from(message.role).ok()? {
        wire::Role::Workspace => Role::Workspace,
        wire::Role::Target => Role::Target,
        wire::Role::Cargo => Role::Cargo,
        wire::Role::Sysroot => Role::Sysroot,
        wire::Role::Absolute => Role::Absolute,
        wire::Role::Base => Role::Base(u8::try_from(message.base).ok()?),
    };
    Some((role, u8::try_from(message.up).ok()?))
}

fn digest<K>(function: i32, hash: &[u8], size_bytes: u64) -> Option<Digest<K>> {
    let function = match wire::DigestFunction::try_from(function).ok()? {
        wire::DigestFunction::Sha256 => DigestFunction::Sha256,
        wire::DigestFunction::Blake3 => DigestFunction::Blake3,
    };
    Some(Digest::new(function, Hash(hash.try_into().ok()?), size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trail of two sets, one of which has a file more.
    fn sample() -> Trail {
        let path = |rest: &str| RolePath::new(Role::Workspace, rest).unwrap();
        let file = |rest: &str| Observation::File {
            path: path(rest),
            digest: Digest::of(DigestFunction::Blake3, rest.as_bytes()),
        };
        let absent = Observation::Absent { path: path("src/a/mod.rs") };
        let directory = Observation::Directory { path: path("src/a") };
        let unset = Observation::Env { name: "A".into(), value: None };
        let action = |name: &[u8]| Digest::of(DigestFunction::Blake3, name);
        let observations = vec![file("src/a.rs"), file("src/b.rs"), absent.clone(), directory, unset.clone()];
        let first = ObservationSet { observations, action: action(b"first") };
        let observations = vec![file("src/b.rs"), absent, unset];
        Trail { sets: vec![first, ObservationSet { observations, action: action(b"second") }] }
    }

    /// Decodes the sample after a change of its message.
    fn changed(change: impl FnOnce(&mut wire::Trail)) -> Result<Trail, TrailError> {
        let mut message = read_message(&sample().encode()[1..]).unwrap();
        change(&mut message);
        let mut bytes = vec![TRAIL_VERSION];
        message.encode_length_delimited(&mut bytes).unwrap();
        Trail::decode(&bytes)
    }

    #[test]
    fn sto_09_a_trail_that_is_cut_off_anywhere_is_malformed() {
        let mut bytes = sample().encode();
        assert_eq!(Trail::decode(&bytes), Ok(sample()));
        for length in 0..bytes.len() {
            assert_eq!(Trail::decode(&bytes[..length]), Err(TrailError::Malformed), "{length} bytes");
        }
        bytes.push(0);
        assert_eq!(Trail::decode(&bytes), Err(TrailError::Malformed));
    }

    #[test]
    fn sto_09_a_trail_with_an_unknown_kind_or_field_is_malformed() {
        for kind in [0, 12, -1] {
            assert_eq!(changed(|message| message.kinds[1] = kind), Err(TrailError::Malformed), "{kind}");
        }
        assert_eq!(changed(|message| message.starts[0].role = 6), Err(TrailError::Malformed));
        assert_eq!(changed(|message| message.functions[0] = 2), Err(TrailError::Malformed));
        // The message of the second trail has the number 1 as field 15.
        assert_eq!(Trail::decode(&[TRAIL_VERSION, 0]), Ok(Trail::default()));
        assert_eq!(Trail::decode(&[TRAIL_VERSION, 2, 15 << 3, 1]), Err(TrailError::Malformed));
    }

    /// A row would get the values of another one, or none.
    #[test]
    fn sto_09_a_trail_with_a_column_of_another_length_is_malformed() {
        let changes: [fn(&mut wire::Trail); 12] = [
            |message| message.kinds.truncate(1),
            |message| message.path_starts.push(0),
            |message| message.path_starts.truncate(1),
            |message| message.path_starts[0] = 1,
            |message| message.shared_bytes.push(0),
            |message| message.shared_bytes[0] = 1,
            |message| message.text_bytes.push(0),
            |message| message.texts.truncate(1),
            |message| message.functions.push(1),
            |message| message.hashes.truncate(33),
            |message| message.size_bytes.push(0),
            |message| message.sets[1].skipped_rows.push(0),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(changed(change), Err(TrailError::Malformed), "change {index}");
        }
    }
}
