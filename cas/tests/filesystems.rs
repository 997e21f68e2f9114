//! Ingest and place on real filesystems: which of them share bytes, and how much space that saves.
//!
//! btrfs and XFS are mounted from image files, which needs root; without it these tests
//! fail and say so, unless `KACHE_TEST_MOUNTS=skip` is set, which CI must not do.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use kache_cas::composed::{Store, StoreSettings};
use kache_cas::digest::DigestFunction;
use kache_cas::{Link, PlaceOptions, Sharing, with_causes};

use self::volume::Volume;

#[path = "../../tests/support/volume.rs"]
mod volume;

const MIB: usize = 1 << 20;

/// Makes bytes that no filesystem can compress or deduplicate by itself.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).take(len / 8).flatten().collect()
}

/// Opens a store that may fill the volume: the volumes of these tests are smaller than the usual
/// reserve.
fn store_on(volume: &Volume) -> Store {
    let mut settings = StoreSettings::new(volume.mountpoint.join("cache"));
    settings.reserve_bytes = 0;
    Store::open(settings).unwrap()
}

fn placing(sharing: Sharing) -> PlaceOptions<'static> {
    PlaceOptions { mode: 0o644, modified: None, sharing, staging: None }
}

/// Ingests a file and places it ten times, all on one volume that can share extents.
fn ten_worktrees_share_their_bytes(volume: &Volume) {
    let store = store_on(volume);
    let built = volume.mountpoint.join("libdemo.rlib");
    let bytes = noise(24 * MIB);
    fs::write(&built, &bytes).unwrap();
    assert_eq!(store.files().shares(&volume.mountpoint).unwrap(), Link::Reflink);
    let before = volume.used_bytes();

    let (names, linked) = store.files().ingest(&built, DigestFunction::Sha256, Sharing::Private).unwrap();
    assert_eq!(linked.link, Link::Reflink);
    let digest = names.digest(DigestFunction::Sha256).unwrap();
    for worktree in 0..10 {
        let path = volume.mountpoint.join(format!("worktree-{worktree}.rlib"));
        let link = store.files().place(&digest, &path, &placing(Sharing::Private)).unwrap();
        assert_eq!(link.map(|linked| linked.link), Some(Link::Reflink));
    }
    let grown = volume.used_bytes() - before;
    assert!(grown < 6 * MIB as u64, "eleven more copies of 24 MiB took {grown} bytes");

    // RST-02, RST-03: a write to one of the files changes neither the others nor the blob.
    let spoilt = volume.mountpoint.join("worktree-3.rlib");
    fs::write(&spoilt, b"spoilt").unwrap();
    assert!(fs::read(volume.mountpoint.join("worktree-4.rlib")).unwrap() == bytes);
    let again = volume.mountpoint.join("again.rlib");
    store.files().place(&digest, &again, &placing(Sharing::Private)).unwrap().unwrap();
    assert!(fs::read(&again).unwrap() == bytes);
    store.close().unwrap();
}

#[test]
fn rst_02_on_btrfs_ten_worktrees_share_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.btrfs", "-q"], 256) else { return };
    ten_worktrees_share_their_bytes(&volume);
}

#[test]
fn rst_02_on_xfs_ten_worktrees_share_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.xfs", "-q", "-m", "reflink=1"], 400) else { return };
    ten_worktrees_share_their_bytes(&volume);
}

#[test]
fn rst_02_on_ext4_hardlinks_share_and_copies_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 128) else { return };
    let store = store_on(&volume);
    let built = volume.mountpoint.join("libdemo.rlib");
    let bytes = noise(4 * MIB);
    fs::write(&built, &bytes).unwrap();
    fs::set_permissions(&built, fs::Permissions::from_mode(0o644)).unwrap();
    let (names, linked) = store.files().ingest(&built, DigestFunction::Blake3, Sharing::Hardlink).unwrap();
    assert_eq!(linked.link, Link::Hardlink);
    let digest = names.digest(DigestFunction::Blake3).unwrap();

    // Twice, because the second answer is remembered.
    for _ in 0..2 {
        assert_eq!(store.files().shares(&volume.mountpoint).unwrap(), Link::Hardlink);
    }
    let shared = volume.mountpoint.join("shared.rlib");
    let placed = store.files().place(&digest, &shared, &placing(Sharing::Hardlink)).unwrap();
    assert_eq!(placed.map(|linked| linked.link), Some(Link::Hardlink));
    assert_eq!(fs::metadata(&shared).unwrap().ino(), fs::metadata(&built).unwrap().ino());
    let private = volume.mountpoint.join("private.rlib");
    let placed = store.files().place(&digest, &private, &placing(Sharing::Private)).unwrap();
    assert_eq!(placed.map(|linked| linked.link), Some(Link::Copy));
    assert_ne!(fs::metadata(&private).unwrap().ino(), fs::metadata(&built).unwrap().ino());
    assert!(fs::read(&private).unwrap() == bytes);

    // RST-03: another process writes through the shared inode. The store must not serve that.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&shared, b"spoilt").unwrap();
    let again = volume.mountpoint.join("again.rlib");
    let placed = store.files().place(&digest, &again, &placing(Sharing::Private));
    assert!(!matches!(placed, Ok(Some(_))), "a blob changed from outside was served: {placed:?}");
    assert!(!again.exists());
    store.close().unwrap();
}

#[test]
fn rst_02_between_two_volumes_a_copy_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.btrfs", "-q"], 256) else { return };
    let store = store_on(&volume);
    let built = dir.path().join("libdemo.rlib");
    let bytes = noise(4 * MIB);
    fs::write(&built, &bytes).unwrap();
    let (names, linked) = store.files().ingest(&built, DigestFunction::Blake3, Sharing::Hardlink).unwrap();
    assert_eq!(linked.link, Link::Copy);
    assert_eq!(store.files().shares(dir.path()).unwrap(), Link::Copy);
    let digest = names.digest(DigestFunction::Blake3).unwrap();
    // Twice, because the pair is remembered; the outcome is the same.
    for name in ["one.rlib", "two.rlib"] {
        let path = dir.path().join(name);
        let link = store.files().place(&digest, &path, &placing(Sharing::Hardlink)).unwrap();
        assert_eq!(link.map(|linked| linked.link), Some(Link::Copy));
        assert!(fs::read(&path).unwrap() == bytes);
    }
    store.close().unwrap();
}

#[test]
fn sto_07_a_store_on_a_read_only_volume_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 64) else { return };
    volume.remount("ro");
    let cache_dir = volume.mountpoint.join("cache");
    let error =
        Store::open(StoreSettings::new(cache_dir.clone())).err().expect("nothing can be written there");
    let text = with_causes(&error);
    assert!(text.contains(cache_dir.to_str().unwrap()), "{text}");
    assert!(text.to_lowercase().contains("read-only"), "{text}");
}
