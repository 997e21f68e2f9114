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

use super::columns::{ColumnReader, ColumnWriter, Columns, skipped_rows};
use super::observation::{Observation, ObservationSet, SETS_MAX, Trail};

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
        let mut rows = RowWriter::default();
        table.iter().for_each(|observation| rows.observation(observation));
        let sets = self.sets.iter().map(|set| set_message(set, &table)).collect();
        let message = rows.into_message(sets);
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

/// Appends observations to the columns of the table.
#[derive(Default)]
struct RowWriter<'a> {
    columns: ColumnWriter<'a>,
    kinds: Vec<i32>,
    functions: Vec<i32>,
    hashes: Vec<u8>,
    size_bytes: Vec<u64>,
}

impl<'a> RowWriter<'a> {
    fn observation(&mut self, observation: &'a Observation) {
        let columns = &mut self.columns;
        let kind = match observation {
            Observation::File { path, digest } => {
                columns.path(path);
                self.digest(digest);
                Kind::File
            }
            Observation::Absent { path } => {
                columns.path(path);
                Kind::Absent
            }
            Observation::Listing { path, digest } => {
                columns.path(path);
                self.digest(digest);
                Kind::Listing
            }
            Observation::Directory { path } => {
                columns.path(path);
                Kind::Directory
            }
            Observation::Env { name, value } => {
                columns.text(name.as_bytes());
                value.iter().for_each(|value| columns.text(value));
                if value.is_some() { Kind::Variable } else { Kind::UnsetVariable }
            }
            Observation::Environment { digest } => {
                self.digest(digest);
                Kind::Environment
            }
            Observation::Link { path, text } => {
                columns.path(path);
                columns.text(text);
                Kind::Link
            }
            Observation::Root { role, up, is_real, path } => {
                columns.start(*role, *up);
                columns.text(path);
                if *is_real { Kind::RealRoot } else { Kind::Root }
            }
            Observation::Presentation { options } => {
                columns.text(options);
                Kind::Presentation
            }
        };
        self.kinds.push(kind.into());
    }

    fn digest(&mut self, digest: &Digest) {
        self.functions.push(function_field(digest.function));
        self.hashes.extend_from_slice(&digest.hash.0);
        self.size_bytes.push(digest.size_bytes);
    }

    fn into_message(self, sets: Vec<wire::ObservationSet>) -> wire::Trail {
        let Columns { starts, path_starts, shared_bytes, texts, text_bytes } = self.columns.finish();
        wire::Trail {
            kinds: self.kinds,
            starts,
            path_starts,
            shared_bytes,
            texts,
            text_bytes,
            functions: self.functions,
            hashes: self.hashes.into(),
            size_bytes: self.size_bytes,
            sets,
        }
    }
}

fn set_message(set: &ObservationSet, table: &[&Observation]) -> wire::ObservationSet {
    let row = |one: &Observation| table.binary_search(&one).expect("the table has every observation");
    let mut rows: Vec<usize> = set.observations.iter().map(row).collect();
    rows.sort_unstable();
    rows.dedup();
    wire::ObservationSet {
        action_function: function_field(set.action.function),
        action_hash: Bytes::copy_from_slice(&set.action.hash.0),
        action_size_bytes: set.action.size_bytes,
        skipped_rows: skipped_rows(rows),
    }
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
    let mut rows = RowReader::new(message)?;
    let mut table = Vec::with_capacity(message.kinds.len());
    for kind in &message.kinds {
        table.push(rows.observation(*kind)?);
    }
    let sets = match &*message.sets {
        // The usual trail has one set, so the rows are not cloned.
        [only] => set(only, table.into_iter(), |row| row).map(|set| vec![set]),
        sets => sets.iter().map(|message| set(message, table.iter(), Observation::clone)).collect(),
    };
    rows.is_at_end().then_some(Trail { sets: sets? })
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
struct RowReader<'a> {
    columns: ColumnReader<'a>,
    functions: Iter<'a, i32>,
    hashes: &'a [u8],
    size_bytes: Iter<'a, u64>,
}

impl<'a> RowReader<'a> {
    fn new(message: &'a wire::Trail) -> Option<Self> {
        let wire::Trail { starts, path_starts, shared_bytes, texts, text_bytes, .. } = message;
        Some(RowReader {
            columns: ColumnReader::new(starts, path_starts, shared_bytes, texts, text_bytes)?,
            functions: message.functions.iter(),
            hashes: &message.hashes,
            size_bytes: message.size_bytes.iter(),
        })
    }

    fn observation(&mut self, kind: i32) -> Option<Observation> {
        let columns = &mut self.columns;
        Some(match Kind::try_from(kind).ok()? {
            Kind::Unspecified => return None,
            Kind::File => Observation::File { path: columns.path()?, digest: self.digest()? },
            Kind::Absent => Observation::Absent { path: columns.path()? },
            Kind::Listing => Observation::Listing { path: columns.path()?, digest: self.digest()? },
            Kind::Directory => Observation::Directory { path: columns.path()? },
            Kind::Variable => {
                Observation::Env { name: columns.name()?, value: Some(columns.text()?.to_vec()) }
            }
            Kind::UnsetVariable => Observation::Env { name: columns.name()?, value: None },
            Kind::Environment => Observation::Environment { digest: self.digest()? },
            Kind::Link => Observation::Link { path: columns.path()?, text: columns.text()?.to_vec() },
            Kind::Root => self.root(false)?,
            Kind::RealRoot => self.root(true)?,
            Kind::Presentation => Observation::Presentation { options: columns.text()?.to_vec() },
        })
    }

    fn root(&mut self, is_real: bool) -> Option<Observation> {
        let (role, up) = self.columns.start()?;
        Some(Observation::Root { role, up, is_real, path: self.columns.text()?.to_vec() })
    }

    fn digest(&mut self) -> Option<Digest> {
        let (hash, hashes) = self.hashes.split_at_checked(Hash::LEN)?;
        self.hashes = hashes;
        digest(*self.functions.next()?, hash, *self.size_bytes.next()?)
    }

    /// Whether the rows have taken all values of all columns.
    fn is_at_end(&self) -> bool {
        self.columns.is_at_end()
            && self.functions.len() == 0
            && self.hashes.is_empty()
            && self.size_bytes.len() == 0
    }
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
    use crate::roles::{Role, RolePath};

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
