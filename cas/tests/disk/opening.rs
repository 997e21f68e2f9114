//! Opening directories of every kind: empty, of another version, damaged, locked or unreadable.

use std::fs;
use std::path::Path;

use kache_cas::disk::{DiskSettings, DiskStore};
use kache_cas::evict::Catalog;
use kache_cas::{AccessKind, ActionCache, Digest, DigestFunction, StoreError};

use crate::support::{BLAKE3, SHA256, bytes, key, open, read, result, upkeep, write};

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Stores the content of the fixture, which is the same for every version.
fn fill(store: &DiskStore) {
    for (seed, size) in (0..).zip(FIXTURE_SIZES) {
        for function in DigestFunction::ALL {
            write(store, function, &bytes(seed, size));
        }
    }
    write(store, BLAKE3, b"known by one name");
    for seed in 0..3 {
        store.put(&key(seed), &result(seed.into())).unwrap();
    }
}

const FIXTURE_SIZES: [usize; 4] = [10, 4_096, 4_097, 20_000];

fn check(store: &DiskStore) {
    assert_eq!(store.troubles(), [""; 0]);
    for (seed, size) in (0..).zip(FIXTURE_SIZES) {
        for function in DigestFunction::ALL {
            let bytes = bytes(seed, size);
            assert_eq!(read(store, &Digest::of(function, &bytes)).unwrap(), bytes);
        }
    }
    assert!(read(store, &Digest::of(BLAKE3, b"known by one name")).is_some());
    assert!(read(store, &Digest::of(SHA256, b"known by one name")).is_none());
    for seed in 0..3 {
        let stored = store.get(&key(seed), AccessKind::Use).unwrap().unwrap().decode().unwrap();
        assert_eq!(stored.exit_code, seed.into());
    }
    let usage = store.usage().unwrap();
    assert_eq!((usage.blobs, usage.logical_bytes), (5, 10 + 4_096 + 4_097 + 20_000 + 17));
}

/// Returns the directory of a version's fixture. `the_fixture_can_be_made_again` makes that of the
/// next version, whose files `lock`, `db/LOCK`, `db/LOG*` and `db/OPTIONS*` need not be committed.
fn fixture(version: u32) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store-v{version}"))
}

#[test]
fn sto_09_a_store_of_version_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixture(1), dir.path());
    for _ in 0..2 {
        let store = open(dir.path());
        check(&store);
        upkeep(&store);
        assert_eq!(store.counters().reaped, 0, "every file belongs to a blob");
        check(&store);
        store.close().unwrap();
    }
    assert_eq!(fs::read_to_string(dir.path().join("VERSION")).unwrap(), "kache store 1\n");
}

#[test]
fn sto_09_this_version_writes_what_its_fixture_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    check(&store);
}

#[test]
fn sto_09_the_refusal_of_a_newer_store_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixture(1), dir.path());
    fs::write(dir.path().join("VERSION"), "kache store 2\nwhatever follows\n").unwrap();
    let error = DiskStore::open(DiskSettings::new(dir.path())).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }));
    let text = error.to_string();
    assert!(text.contains("format 2") && text.contains("another directory"), "{text}");
    fs::write(dir.path().join("VERSION"), "kache store 1\n").unwrap();
    check(&open(dir.path()));
}

#[test]
fn sto_07_a_corrupt_database_is_set_aside_and_a_new_store_is_made() {
    type Harm = fn(&Path);
    let harms: [Harm; 5] = [
        |db| fs::write(db.join("CURRENT"), "garbage").unwrap(),
        |db| fs::remove_file(db.join("CURRENT")).unwrap(),
        |db| each(db, "MANIFEST", |path| fs::write(path, [0xff; 4_096]).unwrap()),
        |db| each(db, "MANIFEST", |path| fs::remove_file(path).unwrap()),
        |db| each(db, "sst", |path| fs::remove_file(path).unwrap()),
    ];
    for (number, harm) in harms.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(&fixture(1), dir.path());
        harm(&dir.path().join("db"));
        let store = open(dir.path());
        let troubles = store.troubles();
        assert!(troubles.len() == 1 && troubles[0].contains("set-aside"), "{number}: {troubles:?}");
        assert!(dir.path().join("set-aside/VERSION").exists());
        assert_eq!(store.usage().unwrap().blobs, 0);
        fill(&store);
        upkeep(&store);
        store.close().unwrap();
        drop(store);
        check(&open(dir.path()));
    }
}

fn each(db: &Path, part: &str, harm: impl Fn(&Path)) {
    let paths = fs::read_dir(db).unwrap().map(|entry| entry.unwrap().path());
    let matching = paths.filter(|path| path.to_string_lossy().contains(part));
    assert!(matching.map(|path| harm(&path)).count() > 0, "there is a {part}");
}

#[test]
fn only_the_latest_set_aside_store_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3u8 {
        let store = open(dir.path());
        write(&store, BLAKE3, &bytes(round, 10_000));
        upkeep(&store);
        drop(store);
        fs::write(dir.path().join("db/CURRENT"), "garbage").unwrap();
    }
    upkeep(&open(dir.path()));
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["VERSION", "blobs", "db", "lock", "set-aside", "tmp"]);
    let hex = BLAKE3.hash(&bytes(2, 10_000)).to_hex();
    assert!(dir.path().join("set-aside/blobs").join(&hex[..2]).join(hex).exists());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "the former are gone");
}

#[test]
fn sto_07_the_error_names_a_directory_that_cannot_hold_a_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Not even root can make directories in these.
    for path in [file.path().join("store"), "/proc/kache/store".into(), "/sys/kache".into()] {
        let error = DiskStore::open(DiskSettings::new(&path)).map(drop).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn sto_07_the_refusal_of_a_second_process_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let error = DiskStore::open(DiskSettings::new(dir.path())).map(drop).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn sto_08_an_error_of_the_disk_is_not_absence_and_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let content = bytes(1, 50_000);
    let digest = {
        let store = open(dir.path());
        let digest = write(&store, SHA256, &content);
        store.close().unwrap();
        digest
    };
    let path = crate::support::blob_path(dir.path(), &content);
    let fan = path.parent().unwrap();
    let aside = dir.path().join("moved");
    let store = open(dir.path());
    // A loop of symbolic links gives an error other than "not found", for every user.
    fs::rename(fan, &aside).unwrap();
    std::os::unix::fs::symlink(fan, fan).unwrap();
    let error = kache_cas::BlobStore::open(&store, &digest, AccessKind::Use).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    fs::remove_file(fan).unwrap();
    fs::rename(&aside, fan).unwrap();
    assert_eq!(read(&store, &digest).unwrap(), content);
    assert_eq!(store.counters().damaged, 0);
}

/// Makes the fixture of the current version in the directory that the variable names.
#[test]
fn the_fixture_can_be_made_again() {
    let made = tempfile::tempdir().unwrap();
    let dir = option_env!("KACHE_TEST_FIXTURE").map_or(made.path(), Path::new);
    let store = open(dir);
    fill(&store);
    store.close().unwrap();
    drop(store);
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir, copy.path());
    check(&open(copy.path()));
}
