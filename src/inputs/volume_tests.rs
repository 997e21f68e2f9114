//! Tests of which changes the dates of a file show, on the file systems of this machine.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::{Duration, Instant, SystemTime};

use kache_cas::{Digest, DigestFunction};
use tempfile::TempDir;

use super::bytes::ByteWriter;
use super::testing::{settle, store_stamp, write};
use super::volume::Volumes;
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

/// The first page of a file, mapped for writing. The descriptor is closed.
struct Mapping(*mut u8);

const PAGE: usize = 4096;

impl Mapping {
    fn new(path: &Path) -> Mapping {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, and the file is open.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), PAGE, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(address, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Mapping(address.cast())
    }

    fn write(&self, byte: u8) {
        // SAFETY: the page is mapped for reading and writing, and the file has bytes there.
        unsafe {
            self.0.read_volatile();
            self.0.write_volatile(byte);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the page was mapped with this length.
        unsafe { libc::munmap(self.0.cast(), PAGE) };
    }
}

/// Returns a directory on tmpfs; `None` if there is none.
fn in_memory() -> Option<TempDir> {
    let dir = tempfile::tempdir_in("/dev/shm").ok()?;
    let status = nix::sys::statfs::statfs(dir.path()).ok()?;
    (status.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC).then_some(dir)
}

#[test]
fn key_05_a_file_on_tmpfs_is_hashed_each_time() {
    let Some(dir) = in_memory() else { return };
    let path = write(dir.path(), "a", b"one");
    settle(&[&path]);
    let world = DiskWorld::new(DigestFunction::Blake3);
    assert_eq!(file_digest(&world, &path), digest_of(b"one"));
    let before = Stamp::of(&path).unwrap();
    Mapping::new(&path).write(b'O');
    assert_eq!(
        Stamp::of(&path).unwrap(),
        before,
        "tmpfs dates mapped files, so their digests could be remembered"
    );
    assert_eq!(file_digest(&world, &path), digest_of(b"One"));
    // A file that kache itself has placed there is not remembered, either.
    world.note_placed(&path, digest_of(b"One"), store_stamp(&path));
    Mapping::new(&path).write(b'o');
    assert_eq!(file_digest(&world, &path), digest_of(b"one"));
}

#[test]
fn key_05_a_file_that_is_mapped_for_writing_is_hashed_each_time() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a", b"one");
    let mapping = Mapping::new(&path);
    let world = DiskWorld::new(DigestFunction::Blake3);
    // While the page waits to be written to the disk, another write gives no new date. The system may write
    // it at any time, for instance when another test calls `sync`; the next attempt begins with a new page.
    let has_same_stamp = (0..10).any(|_| {
        mapping.write(b'O');
        settle(&[&path]);
        assert_eq!(file_digest(&world, &path), digest_of(b"One"));
        let before = Stamp::of(&path).unwrap();
        mapping.write(b'o');
        let is_same = Stamp::of(&path).unwrap() == before;
        assert_eq!(file_digest(&world, &path), digest_of(b"one"));
        is_same
    });
    assert!(has_same_stamp, "every write through the mapping gave the file another date");
    // As soon as no process can write to it any more, it is remembered.
    drop(mapping);
    is_remembered_soon(&world, &path, b"one");
}

/// Whether the digest of this file is remembered.
fn is_remembered(world: &DiskWorld, path: &Path, content: &[u8]) -> bool {
    let stamp = Stamp::of(path).unwrap().unwrap();
    world.remembered_digest(&stamp) == Some(digest_of(content))
}

/// Waits until the digest is remembered. A child process of another test may have inherited a descriptor of
/// the file and keeps it open until it runs another program.
fn is_remembered_soon(world: &DiskWorld, path: &Path, content: &[u8]) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_remembered(world, path, content) {
        assert!(Instant::now() < until, "the file is still hashed each time");
        assert_eq!(file_digest(world, path), digest_of(content));
    }
}

#[test]
fn key_05_a_file_without_writers_is_remembered_as_soon_as_it_is_settled() {
    let dir = TempDir::new().unwrap();
    let path = write(dir.path(), "a", b"one");
    let world = DiskWorld::new(DigestFunction::Blake3);
    file_digest(&world, &path);
    assert!(!is_remembered(&world, &path, b"one"), "the file is too young");
    settle(&[&path]);
    let writer = File::options().append(true).open(&path).unwrap();
    file_digest(&world, &path);
    assert!(!is_remembered(&world, &path, b"one"), "the file is open for writing");
    drop(writer);
    is_remembered_soon(&world, &path, b"one");
}

#[test]
fn key_05_dates_are_trusted_by_file_system() {
    let volumes = Volumes::default();
    let proves = |path: &Path| {
        let stamp = Stamp::of(path).unwrap();
        volumes.proves(path, stamp.as_ref())
    };
    let disk = TempDir::new().unwrap();
    let file = write(disk.path(), "a", b"one");
    assert_eq!(
        [&file, disk.path(), &disk.path().join("none"), &disk.path().join("no/such/place")].map(proves),
        [true; 4]
    );
    let now = SystemTime::now();
    let opened = File::open(&file).unwrap();
    let young = Stamp::of(&file).unwrap().unwrap();
    let old = Stamp { mtime_ns: 1, ctime_ns: 1, ..young };
    assert!(volumes.proves_file(&opened, &old, now));
    let _writer = File::options().append(true).open(&file).unwrap();
    assert!(!volumes.proves_file(&opened, &young, now), "another process may write to it");
    assert!(
        volumes.proves_file(&opened, &old, now),
        "the pages of an old file were written to the disk long ago"
    );
    // The kernel invents the dates of its own files.
    assert!(!proves(Path::new("/proc/self/status")) && !proves(Path::new("/proc")));
    let Some(memory) = in_memory() else { return };
    let file = write(memory.path(), "a", b"one");
    let opened = File::open(&file).unwrap();
    assert_eq!(
        [&file, memory.path(), &memory.path().join("none")].map(proves),
        [false, true, true],
        "directories are not mapped"
    );
    assert!(!volumes.proves_file(&opened, &old, now));
}

#[test]
fn key_05_an_unproven_answer_about_an_installed_program_expires_and_is_not_saved() {
    let Some(dir) = in_memory() else { return };
    let tool = write(dir.path(), "tool", b"one");
    settle(&[&tool]);
    let disk = TempDir::new().unwrap();
    let saved = disk.path().join("memos");
    let world = DiskWorld::open(DigestFunction::Blake3, &saved);
    let found = std::cell::Cell::new(0);
    let find = || {
        found.set(found.get() + 1);
        Ok::<_, std::io::Error>((b"answer".to_vec(), vec![tool.clone()]))
    };
    let question = || ByteWriter(b"a question".to_vec());
    for _ in 0..3 {
        world.cached_answer_about_installed(question(), find).unwrap();
    }
    assert_eq!(found.get(), 1, "a toolchain is not hashed for every call");
    world.save().unwrap();
    DiskWorld::open(DigestFunction::Blake3, &saved).cached_answer_about_installed(question(), find).unwrap();
    assert_eq!(found.get(), 2, "the answer was saved");
    // An answer about files of a build is found again each time.
    let other = || ByteWriter(b"another question".to_vec());
    for _ in 0..3 {
        world.cached_answer(other(), find).unwrap();
    }
    assert_eq!(found.get(), 5);
    fs::write(&tool, "two").unwrap();
    world.cached_answer_about_installed(question(), find).unwrap();
    assert_eq!(found.get(), 6, "the program has another date");
}

/// A file of another image on the same device may have the same stamp except for the number of the mount.
#[test]
fn key_05_the_same_stamp_through_another_mount_is_another_file() {
    let path = PathBuf::from("/");
    let stamp = Stamp::of(&path).unwrap().unwrap();
    if stamp.inode.mount == 0 {
        return; // This kernel does not tell the number of the mount.
    }
    let memos = memos::Memos::default();
    memos.put(stamp, digest_of(b"one"));
    assert_eq!(memos.get(&stamp), Some(digest_of(b"one")));
    let elsewhere = Inode { mount: stamp.inode.mount + 1, ..stamp.inode };
    assert_eq!(memos.get(&Stamp { inode: elsewhere, ..stamp }), None);
}
