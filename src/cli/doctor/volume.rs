//! Checks the store's disk: whether the store can be read and written, has room and lies on a
//! suitable filesystem. Also checks the clock against the dates of files.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::finding::{DoctorFinding, Severity};
use crate::cli::output;
use crate::config::{PROJECT_FILE, Settings};

/// How far a file's date may lie in the future: two machines that share a disk may differ by that.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// A clock that shows an earlier time than this is wrong: 2026-01-01, before kache was written.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// How long reading the first byte of a file of the store may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Files that every store has. They are read and not only listed, because the system may still
/// remember the names on a disk that was removed, but not the contents.
const ALWAYS_THERE: [&str; 2] = ["lock", "VERSION"];

/// The hint for a directory of another user.
const OWNERSHIP: &str = "correct its owner or permissions, or set `cache.dir` to another directory";

/// The hint for a faulty disk.
const ANOTHER_DISK: &str =
    "the system's log may say what is wrong with the disk; `cache.dir` can name another disk";

/// Returns a finding if the store's disk does not answer within `ANSWER_WAIT_MAX`.
pub(super) fn check_answers(cache_dir: &Path) -> Option<DoctorFinding> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let dir = cache_dir.to_owned();
    // A read from a disk that hangs cannot be interrupted. The thread stays blocked until the
    // disk answers or this process ends.
    std::thread::spawn(move || sender.send(read(&dir).is_ok()));
    receiver.recv_timeout(ANSWER_WAIT_MAX).err()?;
    let what = format!("`{}` cannot be read: its disk does not answer", cache_dir.display());
    Some(DoctorFinding::new(Severity::Error, "store", what).hint(ANOTHER_DISK))
}

pub(super) fn check(settings: &Settings, current_dir: Option<&Path>) -> Vec<DoctorFinding> {
    let cache_dir = settings.address.cache_dir();
    let existing_dir = nearest(cache_dir);
    let unusable = unwritable(cache_dir, &existing_dir).or_else(|| unreadable(cache_dir));
    let mut findings: Vec<DoctorFinding> = unusable.into_iter().collect();
    findings.push(room(settings, &existing_dir));
    findings.extend(current_dir.and_then(|dir| sharing(&existing_dir, dir)));
    findings.push(clock(cache_dir, current_dir, SystemTime::now()));
    findings
}

/// The directory itself, or the nearest directory above it that exists.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn unwritable(cache_dir: &Path, existing_dir: &Path) -> Option<DoctorFinding> {
    let error =
        |what: String, hint: &str| Some(DoctorFinding::new(Severity::Error, "store", what).hint(hint));
    if cache_dir.exists() && !cache_dir.is_dir() {
        let what = format!("`{}` is not a directory", cache_dir.display());
        return error(what, "move it away, or set `cache.dir`");
    }
    let allowed = access(existing_dir, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK);
    let cause = allowed.err()?;
    let what = format!("`{}` cannot be written: {}", existing_dir.display(), cause.desc());
    error(what, OWNERSHIP)
}

fn unreadable(cache_dir: &Path) -> Option<DoctorFinding> {
    let (path, error) = read(cache_dir).err()?;
    let hint = if error.kind() == ErrorKind::PermissionDenied { OWNERSHIP } else { ANOTHER_DISK };
    let what = format!("`{}` cannot be read: {error}", path.display());
    Some(DoctorFinding::new(Severity::Error, "store", what).hint(hint))
}

/// Reads the directory and the first byte of the files that every store has. A file that does
/// not exist yet is no error. On a disk that hangs this blocks.
fn read(cache_dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    let listed = fs::read_dir(cache_dir).and_then(|mut entries| entries.next().transpose().map(drop));
    let files = ALWAYS_THERE.map(|name| cache_dir.join(name));
    let begins = |path: &PathBuf| File::open(path).and_then(|mut file| file.read(&mut [0]).map(drop));
    let reads = files.iter().map(|path| (path.clone(), begins(path)));
    let reads = std::iter::once((cache_dir.to_owned(), listed)).chain(reads);
    for (path, outcome) in reads {
        match outcome {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err((path, error)),
            _ => {}
        }
    }
    Ok(())
}

fn room(settings: &Settings, existing_dir: &Path) -> DoctorFinding {
    const SUBJECT: &str = "disk";
    let volume = match statvfs(existing_dir) {
        Ok(volume) => volume,
        Err(error) => {
            let what =
                format!("the free space of `{}` cannot be read: {}", existing_dir.display(), error.desc());
            return DoctorFinding::new(Severity::Error, SUBJECT, what);
        }
    };
    let bytes = |blocks: u64| blocks.saturating_mul(wide(volume.fragment_size()));
    let (free, total) = (bytes(wide(volume.blocks_available())), bytes(wide(volume.blocks())));
    let what = format!("{} of {} are free on the store's volume", output::size(free), output::size(total));
    if volume.flags().contains(FsFlags::ST_RDONLY) {
        let what = format!("`{}` is on a read-only volume", existing_dir.display());
        return DoctorFinding::new(Severity::Error, SUBJECT, what)
            .hint("set `cache.dir` to a directory that can be written");
    }
    if free <= settings.reserve_bytes {
        let reserve = output::size(settings.reserve_bytes);
        let what = format!("{what}, but `cache.reserve` keeps {reserve} free");
        return DoctorFinding::new(Severity::Error, SUBJECT, what)
            .hint("free some space, or lower `cache.reserve`");
    }
    DoctorFinding::new(Severity::Good, SUBJECT, what)
}

/// The integer types in `statvfs` differ between systems.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// Says how the store and the target directory can share files. `None` if one of them cannot be
/// examined. Nothing is tried out: a filesystem of a kind that supports clones may refuse them.
fn sharing(existing_dir: &Path, current_dir: &Path) -> Option<DoctorFinding> {
    const SUBJECT: &str = "sharing";
    let target =
        Some(current_dir.join("target")).filter(|dir| dir.is_dir()).unwrap_or(current_dir.to_owned());
    let device = |path: &Path| fs::metadata(path).map(|metadata: Metadata| metadata.dev());
    let (Ok(store_device), Ok(target_device)) = (device(existing_dir), device(&target)) else { return None };
    let kind = filesystem(existing_dir);
    let of_kind = kind.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    if let Some(network) = kind.as_deref().filter(|kind| NETWORK.contains(kind)) {
        let what =
            format!("the store is on a network filesystem ({network}), which is slow and may lose locks");
        return Some(
            DoctorFinding::new(Severity::Warning, SUBJECT, what).hint("set `cache.dir` to a local disk"),
        );
    }
    if store_device != target_device {
        let what =
            format!("the store and `{}` are on different filesystems: files are copied", target.display());
        return Some(
            DoctorFinding::new(Severity::Warning, SUBJECT, what)
                .hint("set `cache.dir` to a directory on the same filesystem"),
        );
    }
    let how = if kind.as_deref().is_some_and(|kind| CLONING.contains(&kind)) {
        "by reflinks where the volume allows them, otherwise by hard links"
    } else {
        "by hard links"
    };
    let what = format!(
        "the store and `{}` are on the same filesystem{of_kind}: files are shared {how}",
        target.display()
    );
    Some(DoctorFinding::new(Severity::Good, SUBJECT, what))
}

/// Filesystems on which two files can share their blocks (reflinks).
const CLONING: &[&str] = &["btrfs", "xfs", "bcachefs"];

/// Filesystems whose files are on another machine.
const NETWORK: &[&str] = &["nfs", "cifs", "smb", "9p"];

/// The name of the filesystem, for the filesystems that matter here.
#[cfg(target_os = "linux")]
fn filesystem(path: &Path) -> Option<String> {
    // From linux/magic.h and the filesystems' own headers.
    const NAMES: &[(i128, &str)] = &[
        (0xef53, "ext4"),
        (0x9123_683e, "btrfs"),
        (0x5846_5342, "xfs"),
        (0xca45_1a4e, "bcachefs"),
        (0x2fc1_2fc1, "zfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlayfs"),
        (0xf2f5_2010, "f2fs"),
        (0x6969, "nfs"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb"),
        (0x0102_1997, "9p"),
    ];
    let found = nix::sys::statfs::statfs(path).ok()?.filesystem_type();
    // The type of this number differs between architectures, and so does its sign.
    let magic = i128::from(found.0) & 0xffff_ffff;
    NAMES.iter().find(|(known, _)| *known == magic).map(|(_, name)| (*name).to_owned())
}

/// The name of the filesystem, as the system gives it.
#[cfg(not(target_os = "linux"))]
fn filesystem(path: &Path) -> Option<String> {
    Some(nix::sys::statfs::statfs(path).ok()?.filesystem_type_name().to_owned())
}

/// Checks the clock. After a clock was set back, files have dates in the future, and cargo and
/// kache build again what depends on them.
fn clock(cache_dir: &Path, current_dir: Option<&Path>, now: SystemTime) -> DoctorFinding {
    const SUBJECT: &str = "clock";
    if now < SystemTime::UNIX_EPOCH + EARLIEST {
        return DoctorFinding::new(Severity::Error, SUBJECT, "the clock shows a time before 2026")
            .hint("set the clock");
    }
    let project_files = current_dir.into_iter().flat_map(|dir| {
        ["Cargo.toml", "Cargo.lock", "target", "src", PROJECT_FILE].map(|name| dir.join(name))
    });
    let files = [cache_dir.to_owned(), cache_dir.join("events")].into_iter().chain(project_files);
    let is_ahead = |path: &PathBuf| {
        fs::metadata(path).and_then(|metadata| metadata.modified()).is_ok_and(|date| date > now + AHEAD_MAX)
    };
    match files.into_iter().find(is_ahead) {
        Some(path) => {
            let what = format!("`{}` has a date in the future: the clock was set back", path.display());
            DoctorFinding::new(Severity::Warning, SUBJECT, what)
                .hint("correct the clock; crates with such files are compiled every time until that date")
        }
        None => DoctorFinding::new(Severity::Good, SUBJECT, "no file has a date in the future"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        let at = |now: SystemTime| clock(&dir.path().join("cache"), Some(dir.path()), now).severity;
        let now = SystemTime::now();
        assert_eq!(at(now), Severity::Good);
        assert_eq!(at(now - Duration::from_secs(3600)), Severity::Warning);
        assert_eq!(at(SystemTime::UNIX_EPOCH), Severity::Error);
    }

    #[test]
    fn a_cache_directory_that_is_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(unwritable(&file, &nearest(&file)).unwrap().what.ends_with("is not a directory"));
        assert_eq!(unwritable(&dir.path().join("new"), dir.path()), None);
        assert_eq!(nearest(&dir.path().join("a/b/c")), dir.path());
    }

    #[test]
    fn sto_07_a_disk_that_cannot_be_read_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        assert_eq!((check_answers(&cache), unreadable(&cache)), (None, None));
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("lock"), "").unwrap();
        assert_eq!((check_answers(&cache), unreadable(&cache)), (None, None));
        // A directory can be opened like a file, but reading from it fails.
        fs::create_dir(cache.join("VERSION")).unwrap();
        assert_eq!(check_answers(&cache), None);
        let found = unreadable(&cache).unwrap();
        assert!(found.what.contains("VERSION` cannot be read: Is a directory"), "{found:?}");
        // Opening a pipe blocks until another process opens it for writing, like a disk that hangs.
        fs::remove_dir(cache.join("VERSION")).unwrap();
        nix::unistd::mkfifo(&cache.join("VERSION"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let begun = std::time::Instant::now();
        let found = check_answers(&cache).unwrap();
        assert!(found.what.ends_with("its disk does not answer"), "{found:?}");
        assert!(begun.elapsed() < 10 * ANSWER_WAIT_MAX);
    }

    #[test]
    fn files_are_shared_within_a_filesystem_and_copied_between_two() {
        let dir = tempfile::tempdir().unwrap();
        let found = sharing(dir.path(), dir.path()).unwrap();
        assert!(found.severity == Severity::Good || found.what.contains("network"), "{found:?}");
        if cfg!(target_os = "linux") {
            let apart = sharing(Path::new("/proc"), dir.path()).unwrap();
            assert!(apart.what.contains("files are copied"), "{apart:?}");
        }
    }
}
