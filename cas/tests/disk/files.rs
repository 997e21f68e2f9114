//! Files that enter and leave the store: what they share with it and with each other.

use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kache_cas::disk::DiskStore;
use kache_cas::evict::Catalog;
use kache_cas::{
    AccessKind, BlobNames, BlobStore, Digest, DigestFunction, FileStamp, Link, LocalFiles, PlaceOptions,
    Sharing, StoreError,
};

use crate::support::{BLAKE3, SHA256, blob_path, bytes, files_below, is_missing, open, read, write};

/// Returns a date so old that a write made now changes it.
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn set_modified(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn placing(mode: u32, sharing: Sharing) -> PlaceOptions<'static> {
    PlaceOptions { mode, modified: Some(long_ago()), sharing, staging: None }
}

fn look(path: &Path) -> Metadata {
    fs::metadata(path).unwrap()
}

/// A store, and a directory on the same filesystem.
struct World {
    dir: tempfile::TempDir,
    outside: tempfile::TempDir,
    store: DiskStore,
}

impl World {
    fn new() -> World {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = open(dir.path());
        World { dir, outside, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.outside.path().join(name)
    }

    /// Makes a file outside the store, with an old date.
    fn file(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        set_modified(&path, long_ago());
        path
    }

    /// Stores a file, and checks that the returned stamp is the file's.
    fn ingest(&self, path: &Path, function: DigestFunction, sharing: Sharing) -> (BlobNames, Link) {
        let (names, linked) = self.store.ingest(path, function, sharing).unwrap();
        assert_eq!(linked.stamp, Some(FileStamp::of(&look(path))), "the stamp");
        (names, linked.link)
    }

    fn place(&self, digest: &Digest, name: &str, placing: &PlaceOptions<'_>) -> Option<Link> {
        let path = self.path(name);
        let linked = self.store.place(digest, &path, placing).unwrap()?;
        assert_eq!(linked.stamp, Some(FileStamp::of(&look(&path))), "the stamp");
        Some(linked.link)
    }

    /// Tells whether this filesystem has reflinks; hard links are never made then.
    fn has_reflinks(&self) -> bool {
        let from = self.file("probe", &bytes(99, 5_000), 0o644);
        self.ingest(&from, BLAKE3, Sharing::Private).1 == Link::Reflink
    }

    fn leftovers(&self) -> usize {
        let is_hidden = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".kache");
        let outside = fs::read_dir(self.outside.path()).unwrap().map(|entry| entry.unwrap());
        outside.filter(is_hidden).count() + files_below(&self.dir.path().join("tmp"))
    }
}

#[test]
fn rst_04_a_placed_file_has_exactly_its_mode_and_date() {
    let world = World::new();
    for size in [100, 100_000] {
        let digest = write(&world.store, BLAKE3, &bytes(1, size));
        for sharing in [Sharing::Private, Sharing::Exclusive, Sharing::Hardlink] {
            for mode in [0o644, 0o755, 0o600, 0o444, 0o664] {
                let link = world.place(&digest, "to", &placing(mode, sharing)).unwrap();
                let metadata = look(&world.path("to"));
                assert_eq!(metadata.mode() & 0o7777, mode, "{link:?}");
                assert_eq!(metadata.modified().unwrap(), long_ago(), "{link:?}");
                assert_eq!(fs::read(world.path("to")).unwrap(), bytes(1, size));
            }
        }
    }
    assert_eq!(world.leftovers(), 0);
}

#[test]
fn rst_02_placing_again_changes_no_file_that_was_placed_before() {
    let world = World::new();
    let digest = write(&world.store, BLAKE3, &bytes(1, 100_000));
    let requests = [
        placing(0o644, Sharing::Hardlink),
        placing(0o644, Sharing::Hardlink),
        placing(0o755, Sharing::Hardlink),
        PlaceOptions { modified: Some(SystemTime::UNIX_EPOCH), ..placing(0o644, Sharing::Hardlink) },
        placing(0o600, Sharing::Private),
    ];
    let mut seen: Vec<(PathBuf, u32, SystemTime)> = Vec::new();
    for (number, placing) in requests.iter().enumerate() {
        world.place(&digest, &number.to_string(), placing).unwrap();
        let metadata = look(&world.path(&number.to_string()));
        assert_eq!(metadata.mode() & 0o7777, placing.mode);
        seen.push((world.path(&number.to_string()), metadata.mode(), metadata.modified().unwrap()));
        for (path, mode, modified) in &seen {
            let metadata = look(path);
            assert_eq!((metadata.mode(), metadata.modified().unwrap()), (*mode, *modified));
            assert_eq!(fs::read(path).unwrap(), bytes(1, 100_000));
        }
    }
}

#[test]
fn a_hard_link_shares_its_inode_with_the_store() {
    let world = World::new();
    if world.has_reflinks() {
        return; // Then nothing has to share an inode.
    }
    let from = world.file("from", &bytes(1, 100_000), 0o644);
    let (names, link) = world.ingest(&from, SHA256, Sharing::Hardlink);
    assert_eq!(link, Link::Hardlink);
    let digest = names.digest(SHA256).unwrap();
    for name in ["one", "two"] {
        assert_eq!(world.place(&digest, name, &placing(0o644, Sharing::Hardlink)), Some(Link::Hardlink));
        assert_eq!(look(&world.path(name)).ino(), look(&from).ino());
    }
    // Placing over another name of the same inode leaves no third name.
    assert_eq!(world.place(&digest, "two", &placing(0o644, Sharing::Hardlink)), Some(Link::Hardlink));
    assert_eq!(look(&from).nlink(), 4);
    assert_eq!(world.leftovers(), 0);
    let (_, link) = world.ingest(&world.file("other", &bytes(1, 100_000), 0o644), SHA256, Sharing::Hardlink);
    assert_eq!(link, Link::Copy, "a blob that is stored already shares nothing with the file");
}

#[test]
fn a_private_file_does_not_share_its_inode() {
    let world = World::new();
    let from = world.file("from", &bytes(1, 100_000), 0o644);
    let (names, link) = world.ingest(&from, BLAKE3, Sharing::Private);
    assert_ne!(link, Link::Hardlink);
    let digest = names.digest(BLAKE3).unwrap();
    assert_ne!(world.place(&digest, "to", &placing(0o644, Sharing::Private)), Some(Link::Hardlink));
    fs::write(&from, "changed").unwrap();
    fs::write(world.path("to"), "changed").unwrap();
    assert_eq!(read(&world.store, &digest).unwrap(), bytes(1, 100_000));
}

/// An exclusive inode has one name outside the store at a time, and a new date for each.
#[test]
fn rst_02_an_exclusive_inode_is_given_to_one_place_at_a_time() {
    let world = World::new();
    if world.has_reflinks() {
        return;
    }
    let from = world.file("from", &bytes(1, 100_000), 0o755);
    let (names, link) = world.ingest(&from, BLAKE3, Sharing::Exclusive);
    assert_eq!(link, Link::Hardlink);
    let digest = names.digest(BLAKE3).unwrap();
    let request = PlaceOptions { modified: None, ..placing(0o750, Sharing::Exclusive) };
    let begun = look(&world.file("clock", b"", 0o600)).ctime();
    assert_eq!(world.place(&digest, "second", &request), Some(Link::Copy), "the first file has the inode");
    assert_eq!((look(&from).mode() & 0o7777, look(&from).modified().unwrap()), (0o755, long_ago()));

    fs::remove_file(&from).unwrap();
    assert_eq!(world.place(&digest, "third", &request), Some(Link::Hardlink));
    let third = look(&world.path("third"));
    assert_eq!((third.mode() & 0o7777, third.nlink()), (0o750, 2));
    assert!(third.mtime() >= begun, "as new as a copy would be");
    assert!((third.mtime(), third.mtime_nsec()) <= (third.ctime(), third.ctime_nsec()), "and no newer");
    assert_eq!(world.place(&digest, "fourth", &request), Some(Link::Copy));
    let fifth = world.place(&digest, "fifth", &placing(0o750, Sharing::Hardlink));
    assert_eq!(fifth, Some(Link::Hardlink), "the store has an inode of its own again");
    assert_ne!(look(&world.path("fifth")).ino(), third.ino());
    let after = look(&world.path("third"));
    assert_eq!((after.mtime(), after.mtime_nsec()), (third.mtime(), third.mtime_nsec()));
    for name in ["second", "third", "fourth", "fifth"] {
        assert_eq!(fs::read(world.path(name)).unwrap(), bytes(1, 100_000));
    }
    assert_eq!(world.leftovers(), 0);
}

/// Changes a file in one of the ways in which tools do.
fn tamper(path: &Path, how: usize) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    match how {
        0 => file.set_len(50_000).unwrap(),
        1 => {
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b"appended").unwrap();
        }
        2 => file.write_all(b"in place").unwrap(),
        // A write in place, after which the date is set back, as `strip -p` and `rsync -t` do.
        _ => {
            file.write_all(b"in place").unwrap();
            set_modified(path, long_ago());
        }
    }
}

#[test]
fn rst_03_a_write_through_a_shared_inode_is_noticed_before_it_is_served() {
    for how in 0..4 {
        let world = World::new();
        let from = world.file("from", &bytes(1, 100_000), 0o644);
        let (names, _) = world.ingest(&from, SHA256, Sharing::Hardlink);
        let digest = names.digest(SHA256).unwrap();
        world.place(&digest, "placed", &placing(0o644, Sharing::Hardlink)).unwrap();
        let shares =
            look(&world.path("placed")).ino() == look(&blob_path(world.dir.path(), &bytes(1, 100_000))).ino();
        tamper(&world.path("placed"), how);
        if !shares {
            assert_eq!(read(&world.store, &digest).unwrap(), bytes(1, 100_000));
            continue;
        }
        match how % 2 {
            0 => assert!(world.store.open(&digest, AccessKind::Use).unwrap().is_none(), "{how}"),
            _ => {
                assert_eq!(world.place(&digest, "elsewhere", &placing(0o600, Sharing::Private)), None);
                assert!(!world.path("elsewhere").exists());
            }
        }
        assert!(is_missing(&world.store, &digest) && read(&world.store, &digest).is_none());
        let counters = world.store.counters();
        assert_eq!((counters.overwritten, counters.damaged), (1, 0), "the disk is not to blame");
        assert!(world.store.troubles().is_empty());
        write(&world.store, SHA256, &bytes(1, 100_000));
        assert_eq!(read(&world.store, &digest).unwrap(), bytes(1, 100_000), "it can be stored anew");
    }
}

#[test]
fn rst_03_a_change_that_is_no_write_takes_no_blob_out_of_service() {
    let world = World::new();
    let from = world.file("from", &bytes(1, 100_000), 0o644);
    let (names, _) = world.ingest(&from, SHA256, Sharing::Hardlink);
    let digest = names.digest(SHA256).unwrap();
    let changes: [&dyn Fn(); 4] = [
        &|| fs::set_permissions(&from, Permissions::from_mode(0o600)).unwrap(),
        &|| set_modified(&from, long_ago() + Duration::from_secs(60)),
        &|| fs::rename(&from, world.path("renamed")).unwrap(),
        &|| fs::remove_file(world.path("renamed")).unwrap(),
    ];
    for change in changes {
        change();
        assert_eq!(read(&world.store, &digest).unwrap(), bytes(1, 100_000));
        assert!(!is_missing(&world.store, &digest));
    }
    assert_eq!(world.store.counters().damaged, 0);
}

#[test]
fn rst_03_a_just_written_file_is_hashed_before_it_is_served() {
    let world = World::new();
    if world.has_reflinks() {
        return;
    }
    let from = world.path("from");
    fs::write(&from, bytes(1, 100_000)).unwrap();
    let (names, _) = world.ingest(&from, BLAKE3, Sharing::Hardlink);
    let date = look(&from).modified().unwrap();
    fs::write(&from, bytes(2, 100_000)).unwrap();
    set_modified(&from, date);
    assert!(world.store.open(&names.digest(BLAKE3).unwrap(), AccessKind::Use).unwrap().is_none());
}

#[test]
fn rst_05_a_failed_placement_leaves_the_destination_as_it_was() {
    let world = World::new();
    let absent = Digest::of(BLAKE3, &bytes(9, 100_000));
    let there = write(&world.store, BLAKE3, &bytes(1, 100_000));
    let request = placing(0o644, Sharing::Hardlink);
    let path = world.file("to", b"before", 0o640);
    assert_eq!(world.place(&absent, "to", &request), None);
    assert_eq!(world.place(&Digest::of(SHA256, b"absent"), "to", &request), None);
    assert_eq!(fs::read(&path).unwrap(), b"before");

    fs::create_dir_all(world.path("directory/inside")).unwrap();
    for wrong in ["directory", "no/such/directory/to", "to/below/a/file"] {
        let error = world.store.place(&there, &world.path(wrong), &request).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert!(error.to_string().contains(world.outside.path().to_str().unwrap()), "{error}");
    }
    assert!(world.path("directory/inside").exists());
    assert_eq!(world.leftovers(), 0);
}

#[test]
fn a_file_is_copied_between_filesystems() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let world = World::new();
    if look(elsewhere.path()).dev() == look(world.dir.path()).dev() {
        return;
    }
    let from = elsewhere.path().join("from");
    for round in 0..2 {
        fs::write(&from, bytes(round, 300_000)).unwrap();
        let (names, link) = world.ingest(&from, SHA256, Sharing::Hardlink);
        assert_eq!(link, Link::Copy);
        let to = elsewhere.path().join("to");
        let link = world.store.place(&names.digest(SHA256).unwrap(), &to, &placing(0o755, Sharing::Hardlink));
        assert_eq!(link.unwrap().map(|linked| linked.link), Some(Link::Copy));
        assert_eq!(fs::read(&to).unwrap(), bytes(round, 300_000));
        assert_eq!(look(&to).mode() & 0o7777, 0o755);
    }
    assert_eq!(world.leftovers(), 0);
}

#[test]
fn only_regular_files_are_ingested_and_the_error_names_them() {
    let world = World::new();
    let pipe = world.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(world.path("directory")).unwrap();
    for name in ["pipe", "directory", "absent"] {
        let error = world.store.ingest(&world.path(name), BLAKE3, Sharing::Hardlink).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains(name), "{error}");
    }
    assert_eq!(world.store.usage().unwrap().blobs, 0);
}

#[test]
fn a_symbolic_link_is_followed_and_never_linked_itself() {
    let world = World::new();
    let from = world.file("from", &bytes(1, 100_000), 0o644);
    symlink(&from, world.path("link")).unwrap();
    let (names, _) = world.ingest(&world.path("link"), BLAKE3, Sharing::Hardlink);
    fs::remove_file(&from).unwrap();
    assert_eq!(read(&world.store, &names.digest(BLAKE3).unwrap()).unwrap(), bytes(1, 100_000));
    assert!(fs::symlink_metadata(blob_path(world.dir.path(), &bytes(1, 100_000))).unwrap().is_file());
}

#[test]
fn key_05_a_file_that_changes_while_it_is_ingested_is_not_stored_under_a_wrong_name() {
    let world = World::new();
    let path = world.path("busy");
    fs::write(&path, bytes(0, 4_000_000)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..u64::MAX {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.seek(SeekFrom::Start((round * 7_919) % 3_999_000)).unwrap();
                file.write_all(&round.to_le_bytes()).unwrap();
            }
        });
        let mut changed = 0;
        let until = std::time::Instant::now() + Duration::from_secs(20);
        let mut rounds = 0;
        // On a busy machine the writer may run late.
        while rounds < 40 || (changed == 0 && std::time::Instant::now() < until) {
            rounds += 1;
            match world.store.ingest(&path, BLAKE3, Sharing::Private) {
                Ok((names, _)) => {
                    let stored = read(&world.store, &names.digest(BLAKE3).unwrap()).unwrap();
                    assert_eq!(BLAKE3.hash(&stored), names.blake3);
                }
                Err(StoreError::Changed { path: named }) => {
                    assert_eq!(named, path);
                    changed += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(changed > 0, "a file that is written to all the time is noticed");
    });
    assert_eq!(world.leftovers(), 0);
}

/// A change through one name of an inode no longer affects the other files once these were placed
/// again.
#[test]
fn rst_02_a_changed_inode_is_not_shared_any_more() {
    let world = World::new();
    if world.has_reflinks() {
        return;
    }
    let from = world.file("from", &bytes(1, 100_000), 0o444);
    let (names, _) = world.store.ingest(&from, BLAKE3, Sharing::Hardlink).unwrap();
    let digest = names.digest(BLAKE3).unwrap();
    let shared = placing(0o444, Sharing::Hardlink);
    assert_eq!(world.place(&digest, "one", &shared), Some(Link::Hardlink));
    assert_eq!(world.place(&digest, "two", &shared), Some(Link::Hardlink));
    let changed = look(&from).ino();
    fs::set_permissions(&from, Permissions::from_mode(0o600)).unwrap();
    set_modified(&from, SystemTime::UNIX_EPOCH);

    let anew = PlaceOptions { sharing: Sharing::Anew { not: changed }, ..shared };
    for name in ["one", "two"] {
        assert_eq!(world.place(&digest, name, &anew), Some(Link::Hardlink));
    }
    assert_eq!(world.place(&digest, "three", &shared), Some(Link::Hardlink));
    let inode = look(&blob_path(world.dir.path(), &bytes(1, 100_000))).ino();
    for name in ["one", "two", "three"] {
        let seen = look(&world.path(name));
        assert_eq!((seen.mode() & 0o7777, seen.modified().unwrap()), (0o444, long_ago()), "{name}");
        assert_eq!((seen.ino(), seen.nlink()), (inode, 4), "{name}");
        assert_eq!(fs::read(world.path(name)).unwrap(), bytes(1, 100_000));
    }
    let seen = look(&from);
    assert_eq!((seen.ino(), seen.nlink()), (changed, 1), "the changed inode has no other name");
    assert_eq!((seen.mode() & 0o7777, seen.modified().unwrap()), (0o600, SystemTime::UNIX_EPOCH));
    assert_eq!(read(&world.store, &digest).unwrap(), bytes(1, 100_000));
    // Wrong bytes are not served in any way.
    fs::set_permissions(world.path("one"), Permissions::from_mode(0o600)).unwrap();
    tamper(&world.path("one"), 2);
    assert_eq!(
        world.place(&digest, "two", &PlaceOptions { sharing: Sharing::Anew { not: inode }, ..shared }),
        None
    );
    assert_eq!(world.leftovers(), 0);
}

#[test]
fn rst_02_a_full_copy_shares_nothing() {
    let world = World::new();
    let from = world.file("from", &bytes(1, 100_000), 0o644);
    let (names, link) = world.store.ingest(&from, BLAKE3, Sharing::Copy).unwrap();
    assert_eq!(link.link, Link::Copy);
    let digest = names.digest(BLAKE3).unwrap();
    assert_eq!(world.place(&digest, "to", &placing(0o644, Sharing::Copy)), Some(Link::Copy));
    assert_eq!((look(&from).nlink(), look(&world.path("to")).nlink()), (1, 1));
}
