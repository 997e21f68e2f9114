//! Tests of `completeness`: when a result is incomplete, how many lookups a hit costs, and for
//! which blobs an access counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kache_proto::reapi::{DirectoryNode, FileNode, OutputDirectory, OutputFile};

use super::*;
use crate::clock::ManualClock;
use crate::digest::{Blob, BlobNames, DigestFunction, Hash};
use crate::encoding::wire_digest;
use crate::evict::Catalog;
use crate::memory::MemoryStore;
use crate::store::{BlobWriter, Content, PROMISE_LEASE};

const SHA256: DigestFunction = DigestFunction::Sha256;

/// A blob store that counts its requests.
struct Counted {
    memory: Arc<MemoryStore>,
    checks: AtomicUsize,
    opens: AtomicUsize,
    fails: std::sync::atomic::AtomicBool,
}

impl BlobStore for Counted {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        match self.fails.load(Ordering::Relaxed) {
            true => Err(StoreError::Database { doing: "look", message: "it broke".to_owned() }),
            false => self.memory.find_missing(digests, access),
        }
    }
    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        self.memory.open(digest, access)
    }
    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        self.memory.size_of(function, hash)
    }
    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        self.memory.names_of(digest)
    }
    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.memory.create(digest)
    }
    fn deletions(&self) -> u64 {
        self.memory.deletions()
    }
    fn may_block(&self) -> bool {
        self.memory.may_block()
    }
}

struct Fixture {
    memory: Arc<MemoryStore>,
    blobs: Arc<Counted>,
    clock: Arc<ManualClock>,
    meter: Arc<Meter>,
    cache: CompleteActionCache<MemoryStore, Counted>,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let memory = Arc::new(MemoryStore::new(clock.clone()));
        let blobs = Arc::new(Counted {
            memory: memory.clone(),
            checks: AtomicUsize::new(0),
            opens: AtomicUsize::new(0),
            fails: false.into(),
        });
        let meter = Arc::new(Meter::default());
        let cache = CompleteActionCache::new(
            memory.clone(),
            blobs.clone(),
            clock.clone(),
            Arc::new(TreeCache::default()),
            meter.clone(),
        );
        Fixture { memory, blobs, clock, meter, cache }
    }

    fn add(&self, bytes: impl AsRef<[u8]>) -> Digest {
        let digest = Digest::of(SHA256, bytes.as_ref());
        self.memory.insert(&[(digest, Bytes::copy_from_slice(bytes.as_ref()))]).remove(0).unwrap();
        digest
    }

    /// Deletes a blob as eviction would after all leases have ended.
    fn delete(&self, digest: &Digest) {
        self.clock.advance(Duration::from_secs(24 * 60 * 60));
        let entry = self.memory.blob_entry(digest).unwrap().expect("it is there");
        assert!(self.memory.delete_blob(&entry.names.blake3, entry.retention).unwrap().is_some());
    }

    fn get(&self, access: AccessKind) -> Option<StoredResult> {
        self.cache.get(&key(), access).unwrap()
    }

    fn leased(&self, digest: &Digest, after: Duration) -> bool {
        let entry = self.memory.blob_entry(digest).unwrap().expect("it is there");
        entry.retention.is_leased(self.clock.now_ms() + duration_ms(after))
    }
}

fn key() -> ActionKey {
    ActionKey { instance: "".into(), function: SHA256, hash: Hash([7; 32]) }
}

fn output(path: &str, digest: &Digest) -> OutputFile {
    OutputFile { path: path.to_owned(), digest: Some(wire_digest(digest)), ..Default::default() }
}

/// A result that names a blob in every way there is: file, stdout, stderr, tree, file in a tree,
/// root directory and directory below it.
fn everything(fixture: &Fixture) -> (ActionResult, Vec<Digest>) {
    let node = |name: &str, digest: &Digest| FileNode {
        name: name.to_owned(),
        digest: Some(wire_digest(digest)),
        ..Default::default()
    };
    let [file, stdout, stderr, inner, outer] =
        ["file", "stdout", "stderr", "inner", "outer"].map(|text| fixture.add(text));
    let below = kache_proto::reapi::Directory { files: vec![node("inner", &inner)], ..Default::default() };
    let below_digest = fixture.add(below.encode_to_vec());
    let root = kache_proto::reapi::Directory {
        files: vec![node("outer", &outer)],
        directories: vec![DirectoryNode {
            name: "below".to_owned(),
            digest: Some(wire_digest(&below_digest)),
        }],
        ..Default::default()
    };
    let root_digest = fixture.add(root.encode_to_vec());
    let tree = fixture.add(Tree { root: Some(root), children: vec![below] }.encode_to_vec());
    let result = ActionResult {
        output_files: vec![output("a", &file)],
        output_directories: vec![OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(wire_digest(&tree)),
            root_directory_digest: Some(wire_digest(&root_digest)),
            ..Default::default()
        }],
        stdout_digest: Some(wire_digest(&stdout)),
        stderr_digest: Some(wire_digest(&stderr)),
        ..Default::default()
    };
    (result, vec![file, stdout, stderr, inner, outer, below_digest, root_digest, tree])
}

#[test]
fn sto_03_a_result_lacking_any_blob_is_not_returned() {
    for index in 0..8 {
        let fixture = Fixture::new();
        let (result, named) = everything(&fixture);
        fixture.cache.put(&key(), &result).unwrap();
        for access in [AccessKind::Peek, AccessKind::Use, AccessKind::Promise] {
            assert!(fixture.get(access).is_some());
        }
        fixture.delete(&named[index]);
        for access in [AccessKind::Peek, AccessKind::Use, AccessKind::Promise] {
            assert_eq!(fixture.get(access), None, "without blob {index} of the result");
        }
        assert_eq!(fixture.meter.read().actions_incomplete, 3);
    }
}

#[test]
fn sto_03_a_result_is_returned_again_when_its_blob_is_back() {
    let fixture = Fixture::new();
    let blob = fixture.add("bytes");
    let result = ActionResult { output_files: vec![output("a", &blob)], ..Default::default() };
    fixture.cache.put(&key(), &result).unwrap();
    fixture.delete(&blob);
    assert_eq!(fixture.get(AccessKind::Promise), None);
    fixture.add("bytes");
    assert!(fixture.get(AccessKind::Promise).is_some());
}

#[test]
fn sto_03_a_result_whose_tree_is_malformed_is_a_miss() {
    let fixture = Fixture::new();
    let tree = fixture.add([0xff; 40]);
    let directory =
        OutputDirectory { path: "d".to_owned(), tree_digest: Some(wire_digest(&tree)), ..Default::default() };
    let result = ActionResult { output_directories: vec![directory], ..Default::default() };
    fixture.cache.put(&key(), &result).unwrap();
    assert_eq!(fixture.get(AccessKind::Use), None);
}

#[test]
fn sto_03_a_replaced_result_is_checked_again() {
    let fixture = Fixture::new();
    let there = fixture.add("there");
    let absent = Digest::<Blob>::of(SHA256, b"absent");
    let naming = |digest| ActionResult { output_files: vec![output("a", digest)], ..Default::default() };
    fixture.cache.put(&key(), &naming(&there)).unwrap();
    assert!(fixture.get(AccessKind::Promise).is_some());
    fixture.cache.put(&key(), &naming(&absent)).unwrap();
    assert_eq!(fixture.get(AccessKind::Promise), None);
}

#[test]
fn sto_03_the_empty_blob_is_never_missing() {
    let fixture = Fixture::new();
    let empty = Some(wire_digest(&Digest::<Blob>::empty(SHA256)));
    let directory =
        OutputDirectory { path: "d".to_owned(), tree_digest: empty.clone(), ..Default::default() };
    let result = ActionResult {
        stdout_digest: empty.clone(),
        output_files: vec![OutputFile { path: "a".to_owned(), digest: empty, ..Default::default() }],
        output_directories: vec![directory],
        ..Default::default()
    };
    fixture.cache.put(&key(), &result).unwrap();
    assert!(fixture.get(AccessKind::Promise).is_some());
}

#[test]
fn sto_08_an_error_while_checking_is_returned_and_deletes_nothing() {
    let fixture = Fixture::new();
    let (result, _) = everything(&fixture);
    fixture.cache.put(&key(), &result).unwrap();
    fixture.blobs.fails.store(true, Ordering::Relaxed);
    assert!(fixture.cache.get(&key(), AccessKind::Use).is_err());
    fixture.blobs.fails.store(false, Ordering::Relaxed);
    assert!(fixture.get(AccessKind::Use).is_some());
}

#[test]
fn sto_10_a_hot_action_costs_one_lookup() {
    let fixture = Fixture::new();
    let (result, _) = everything(&fixture);
    fixture.cache.put(&key(), &result).unwrap();
    fixture.get(AccessKind::Promise);
    let asked =
        || (fixture.blobs.checks.load(Ordering::Relaxed), fixture.blobs.opens.load(Ordering::Relaxed));
    let before = asked();
    for _ in 0..100 {
        for access in [AccessKind::Promise, AccessKind::Use, AccessKind::Peek] {
            assert!(fixture.get(access).is_some());
        }
    }
    assert_eq!(asked(), before, "the blobs are not asked again");

    // The deletion of another blob costs one more check of presence, but no read of a tree.
    let other = fixture.add("other");
    fixture.delete(&other);
    fixture.get(AccessKind::Peek);
    assert_eq!(asked(), (before.0 + 1, before.1));
}

#[test]
fn sto_04_a_promise_covers_every_blob_of_the_result_for_its_whole_time() {
    let fixture = Fixture::new();
    let (result, named) = everything(&fixture);
    fixture.cache.put(&key(), &result).unwrap();
    fixture.clock.advance(PROMISE_LEASE);
    fixture.get(AccessKind::Use);
    assert!(!named.iter().any(|digest| fixture.leased(digest, Duration::ZERO)), "a use promises nothing");
    // Each hit gives a whole promise, at whatever time it comes.
    for _ in 0..30 {
        fixture.clock.advance(Duration::from_secs(170));
        fixture.get(AccessKind::Promise);
        assert!(named.iter().all(|digest| fixture.leased(digest, PROMISE_LEASE)));
    }
}

#[test]
fn sto_04_storing_a_result_counts_as_a_use_of_its_blobs() {
    let fixture = Fixture::new();
    let (result, named) = everything(&fixture);
    fixture.clock.advance(Duration::from_secs(1000));
    fixture.cache.put(&key(), &result).unwrap();
    for digest in named {
        let entry = fixture.memory.blob_entry(&digest).unwrap().expect("it is there");
        assert_eq!(entry.retention.used_ms, fixture.clock.now_ms());
    }
}

#[test]
fn file_contents_inside_a_result_are_stored_as_blobs() {
    let fixture = Fixture::new();
    let digest = Digest::<Blob>::of(SHA256, b"contents");
    let file = OutputFile { contents: Bytes::from_static(b"contents"), ..output("a", &digest) };
    let result = ActionResult { output_files: vec![file.clone()], ..Default::default() };
    let stored = fixture.cache.put(&key(), &result).unwrap().decode().unwrap();
    assert!(stored.output_files[0].contents.is_empty());
    assert_eq!(fixture.memory.find_missing(&[digest], AccessKind::Peek).unwrap(), [false]);

    let lie = OutputFile { contents: Bytes::from_static(b"other"), ..file };
    let result = ActionResult { output_files: vec![lie], ..Default::default() };
    assert!(matches!(fixture.cache.put(&key(), &result), Err(StoreError::InvalidResult { .. })));
}
