//! Tests of files on disk, roots and toolchains, with real files and the real compiler.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kache_cas::{Digest, DigestFunction};
use tempfile::TempDir;

use super::testing::{store_stamp, write};
use super::*;

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(DigestFunction::Blake3, bytes)
}

fn file_digest(world: &DiskWorld, path: &Path) -> Digest {
    match world.state(path).unwrap() {
        FileState::File { digest, .. } => digest,
        other => panic!("{other:?}"),
    }
}

#[test]
fn key_05_a_young_file_is_hashed_again() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a", b"one");
    let world = DiskWorld::new(DigestFunction::Blake3);
    assert_eq!(file_digest(&world, &path), digest_of(b"one"));
    // The file is rewritten within the grain of the clock, and each date that can be set is set back.
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    write(dir.path(), "a", b"two");
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    assert_eq!(file_digest(&world, &path), digest_of(b"two"));
}

#[test]
fn key_05_a_settled_file_is_hashed_once_and_again_when_it_changes() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a", b"one");
    let stamp = Stamp::of(&path).unwrap().unwrap();
    let now = SystemTime::now();
    assert!(!stamp.is_settled(now));
    assert!(!stamp.is_settled(now + CLOCK_GRAIN - Duration::from_secs(1)));
    assert!(stamp.is_settled(now + CLOCK_GRAIN + Duration::from_secs(1)));
    assert!(
        !stamp.is_settled(now - Duration::from_secs(3600)),
        "after the clock was set back, no stamp is trusted"
    );
}

/// Repeats `change` on another thread while `read` runs.
fn while_changing(change: impl Fn(&Path, u32) + Send + Sync, read: impl Fn(&DiskWorld, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "big", &vec![7; 4 << 20]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            (0..).take_while(|_| !is_over.load(Ordering::Relaxed)).for_each(|round| change(&path, round));
        });
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            read(&DiskWorld::new(DigestFunction::Blake3), &path);
        }));
        is_over.store(true, Ordering::Relaxed);
        other.join().unwrap();
        result.unwrap();
    });
}

/// This happens when kache stores an output of a compile and the next compile reads it.
#[test]
fn key_05_a_file_whose_date_is_set_while_it_is_read_gets_its_digest() {
    let share = |path: &Path, round: u32| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(round.into())).unwrap();
    };
    while_changing(share, |world, path| {
        for _ in 0..10 {
            assert_eq!(file_digest(world, path), digest_of(&vec![7; 4 << 20]));
        }
    });
}

#[test]
fn key_05_a_file_that_is_written_while_it_is_read_gets_no_digest() {
    let overwrite = |path: &Path, round: u32| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&round.to_le_bytes(), 0).unwrap();
    };
    while_changing(overwrite, |world, path| {
        let until = Instant::now() + Duration::from_secs(30);
        while world.state(path).is_ok() {
            assert!(Instant::now() < until, "a file that never stays the same got a digest");
        }
    });
}

#[test]
fn an_open_directory_returns_the_same_stamps_as_a_path() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a", b"one");
    let open = OpenDir::open(dir.path()).unwrap().unwrap();
    assert_eq!(open.stamp("a".as_ref()).unwrap(), Stamp::of(&path).unwrap());
    assert_eq!(open.stamp("b".as_ref()).unwrap(), None);
    assert!(OpenDir::open(&path).unwrap().is_none());
}

#[test]
fn a_placed_file_is_remembered_at_once_until_it_changes() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a", b"one");
    let world = DiskWorld::new(DigestFunction::Blake3);
    let claimed = digest_of(b"two");
    world.note_placed(&path, claimed, store_stamp(&path));
    assert_eq!(file_digest(&world, &path), claimed, "the file was read again");
    // The same inode under another name is the same content.
    let other = dir.path().join("b");
    fs::hard_link(&path, &other).unwrap();
    world.note_placed(&other, claimed, store_stamp(&other));
    assert_eq!(file_digest(&world, &path), claimed);
    write(dir.path(), "a", b"new");
    assert_eq!(file_digest(&world, &path), digest_of(b"new"));
}

#[test]
fn key_05_a_file_that_changes_between_storing_and_noting_is_not_remembered() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a", b"one");
    let stored = store_stamp(&path);
    let world = DiskWorld::new(DigestFunction::Blake3);
    // The same length, so that the size does not show the change.
    write(dir.path(), "a", b"two");
    world.note_placed(&path, digest_of(b"one"), stored);
    assert_eq!(file_digest(&world, &path), digest_of(b"two"));
    // Another file with the same date replaces it.
    let beside = write(dir.path(), "b", b"six");
    let stored = store_stamp(&path);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&beside).unwrap().set_modified(modified).unwrap();
    fs::rename(&beside, &path).unwrap();
    world.note_placed(&path, digest_of(b"two"), stored);
    assert_eq!(file_digest(&world, &path), digest_of(b"six"));
    // The store itself has seen that the file changed.
    world.note_placed(&path, digest_of(b"two"), None);
    assert_eq!(file_digest(&world, &path), digest_of(b"six"));
}

#[test]
fn sto_08_an_error_is_not_absence() {
    let dir = TempDir::new().unwrap();
    let world = DiskWorld::new(DigestFunction::Blake3);
    let state = |path: &Path| world.state(path);
    assert_eq!(state(&dir.path().join("none")).unwrap(), FileState::Absent);
    let file = write(dir.path(), "file", b"");
    assert_eq!(state(&file.join("below")).unwrap(), FileState::Absent);
    assert_eq!(state(dir.path()).unwrap(), FileState::Directory);
    let circle = dir.path().join("circle");
    symlink(&circle, &circle).unwrap();
    assert_eq!(state(&circle).unwrap_err().path, circle);
    assert!(state(Path::new("/dev/null")).is_err());
}

#[test]
fn key_22_a_listing_ignores_the_order_and_separates_names() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let world = DiskWorld::new(DigestFunction::Blake3);
    assert_eq!(world.listing(&one.path().join("none")).unwrap(), None);
    for (name, other) in [("ab", "c"), ("c", "ab")] {
        write(one.path(), name, b"");
        write(two.path(), other, b"other");
    }
    assert_eq!(world.listing(one.path()).unwrap(), world.listing(two.path()).unwrap());
    let before = world.listing(one.path()).unwrap();
    fs::rename(one.path().join("ab"), one.path().join("a")).unwrap();
    fs::rename(one.path().join("c"), one.path().join("bc")).unwrap();
    assert_ne!(world.listing(one.path()).unwrap(), before);
}

#[test]
fn key_23_a_listing_tells_files_directories_and_links_apart() {
    let dir = TempDir::new().unwrap();
    let entry = dir.path().join("entry");
    let outside = TempDir::new().unwrap();
    let world = DiskWorld::new(DigestFunction::Blake3);
    let mut listings = Vec::new();
    let mut list = || listings.push(world.listing(dir.path()).unwrap().unwrap());
    fs::write(&entry, "").unwrap();
    list();
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    list();
    fs::remove_dir(&entry).unwrap();
    symlink(outside.path(), &entry).unwrap();
    list();
    fs::remove_file(&entry).unwrap();
    nix::unistd::mkfifo(&entry, nix::sys::stat::Mode::S_IRWXU).unwrap();
    list();
    let different: std::collections::HashSet<_> = listings.iter().map(|digest| digest.hash).collect();
    assert_eq!(different.len(), listings.len(), "{listings:?}");
    // The content of an entry is not part of a listing.
    fs::remove_file(&entry).unwrap();
    fs::write(&entry, "some content").unwrap();
    assert_eq!(world.listing(dir.path()).unwrap(), Some(listings[0]));
}

#[test]
fn sto_09_a_snapshot_is_read_back_or_set_aside() {
    let dir = TempDir::new().unwrap();
    let snapshot = dir.path().join("memos");
    let path = write(dir.path(), "a", b"one");
    let claimed = digest_of(b"two");
    let world = DiskWorld::open(DigestFunction::Blake3, &snapshot);
    world.note_placed(&path, claimed, store_stamp(&path));
    world.save().unwrap();
    assert_eq!(file_digest(&DiskWorld::open(DigestFunction::Blake3, &snapshot), &path), claimed);

    let whole = fs::read(&snapshot).unwrap();
    let version_at = b"kache memos\n".len();
    let mut damaged = vec![whole[..whole.len() - 1].to_vec(), Vec::new(), whole.clone(), whole.clone()];
    *damaged[2].last_mut().unwrap() ^= 1;
    damaged[3][version_at] += 1;
    for bytes in damaged {
        write(dir.path(), "memos", &bytes);
        assert_eq!(
            file_digest(&DiskWorld::open(DigestFunction::Blake3, &snapshot), &path),
            digest_of(b"one")
        );
    }
}
