//! The disk: whether the store can be written, has room, lies well, and whether the clock
//! fits the files.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::finding::{Finding, State};
use crate::cli::output;
use crate::config::{PROJECT_FILE, Settings};

/// A file may be ahead of the clock by as much as two machines that share a disk differ.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// No clock that is right says an earlier moment: kache was written later. 2026-01-01.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// How long a disk may take to say how a file of the store begins.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Files that every store has. The names on a disk that was pulled may still be known, what is in
/// them is not.
const ALWAYS_THERE: [&str; 2] = ["lock", "VERSION"];

/// What helps where it is somebody else's.
const OWNERSHIP: &str = "correct its owner or permissions, or set `cache.dir`";

/// What helps where the disk is at fault.
const ANOTHER_DISK: &str =
    "the system's log may say what is wrong with the disk; `cache.dir` chooses another";

/// That the store's disk does not answer, if it does not: whoever looked further would wait, too.
pub(super) fn silence(cache_dir: &Path) -> Option<Finding> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let dir = cache_dir.to_owned();
    // It waits for as long as the disk does, or until this process ends.
    std::thread::spawn(move || sender.send(read(&dir).is_ok()));
    receiver.recv_timeout(ANSWER_WAIT_MAX).err()?;
    let what = format!("`{}` cannot be read: its disk does not answer", cache_dir.display());
    Some(Finding::new(State::Wrong, "store", what).hint(ANOTHER_DISK))
}

pub(super) fn look(settings: &Settings, current_dir: Option<&Path>) -> Vec<Finding> {
    let cache_dir = settings.address.cache_dir();
    let there = nearest(cache_dir);
    let unusable = writable(cache_dir, &there).or_else(|| unreadable(cache_dir));
    let mut findings: Vec<Finding> = unusable.into_iter().collect();
    findings.push(room(settings, &there));
    findings.extend(current_dir.and_then(|dir| sharing(&there, dir)));
    findings.push(clock(cache_dir, current_dir, SystemTime::now()));
    findings
}

/// The directory itself, or the nearest one above that is there.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn writable(cache_dir: &Path, there: &Path) -> Option<Finding> {
    let wrong = |what: String, hint: &str| Some(Finding::new(State::Wrong, "store", what).hint(hint));
    if cache_dir.exists() && !cache_dir.is_dir() {
        let what = format!("`{}` is not a directory", cache_dir.display());
        return wrong(what, "move it away, or set `cache.dir`");
    }
    let may = access(there, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK);
    let error = may.err()?;
    let what = format!("`{}` cannot be written: {}", there.display(), error.desc());
    wrong(what, OWNERSHIP)
}

fn unreadable(cache_dir: &Path) -> Option<Finding> {
    let (path, error) = read(cache_dir).err()?;
    let hint = if error.kind() == ErrorKind::PermissionDenied { OWNERSHIP } else { ANOTHER_DISK };
    let what = format!("`{}` cannot be read: {error}", path.display());
    Some(Finding::new(State::Wrong, "store", what).hint(hint))
}

/// Reads a little of what every store has. What is not there yet is no error.
fn read(cache_dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    let listed = fs::read_dir(cache_dir).and_then(|mut entries| entries.next().transpose().map(drop));
    let files = ALWAYS_THERE.map(|name| cache_dir.join(name));
    let begins = |path: &PathBuf| File::open(path).and_then(|mut file| file.read(&mut [0]).map(drop));
    let tried = files.iter().map(|path| (path.clone(), begins(path)));
    let tried = std::iter::once((cache_dir.to_owned(), listed)).chain(tried);
    for (path, outcome) in tried {
        match outcome {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err((path, error)),
            _ => {}
        }
    }
    Ok(())
}

fn room(settings: &Settings, there: &Path) -> Finding {
    const SUBJECT: &str = "disk";
    let volume = match statvfs(there) {
        Ok(volume) => volume,
        Err(error) => {
            let what = format!("`{}` cannot be examined: {}", there.display(), error.desc());
            return Finding::new(State::Wrong, SUBJECT, what);
        }
    };
    let bytes = |blocks: u64| blocks.saturating_mul(wide(volume.fragment_size()));
    let (free, total) = (bytes(wide(volume.blocks_available())), bytes(wide(volume.blocks())));
    let what = format!("{} of {} are free for the store", output::size(free), output::size(total));
    if volume.flags().contains(FsFlags::ST_RDONLY) {
        return Finding::new(
            State::Wrong,
            SUBJECT,
            format!("`{}` is on a read-only volume", there.display()),
        )
        .hint("set `cache.dir` to a place that can be written");
    }
    if free <= settings.reserve_bytes {
        let reserve = output::size(settings.reserve_bytes);
        return Finding::new(
            State::Wrong,
            SUBJECT,
            format!("{what}, and `cache.reserve` leaves {reserve} alone"),
        )
        .hint("make room, or lower `cache.reserve`");
    }
    Finding::new(State::Good, SUBJECT, what)
}

/// The types of these numbers differ between systems.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// What the store and the work here can share, as far as it can be told without trying.
fn sharing(there: &Path, current_dir: &Path) -> Option<Finding> {
    const SUBJECT: &str = "sharing";
    let target =
        Some(current_dir.join("target")).filter(|dir| dir.is_dir()).unwrap_or(current_dir.to_owned());
    let device = |path: &Path| fs::metadata(path).map(|found: Metadata| found.dev());
    let (Ok(store), Ok(work)) = (device(there), device(&target)) else { return None };
    let kind = filesystem(there);
    let of_kind = kind.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    if let Some(network) = kind.as_deref().filter(|kind| NETWORK.contains(kind)) {
        let what =
            format!("the store is on a network filesystem ({network}), which is slow and may lose its locks");
        return Some(Finding::new(State::Warning, SUBJECT, what).hint("set `cache.dir` to a local disk"));
    }
    if store != work {
        let what =
            format!("the store and `{}` are on different filesystems: files are copied", target.display());
        return Some(
            Finding::new(State::Warning, SUBJECT, what).hint("set `cache.dir` to a place on the same one"),
        );
    }
    let how = if kind.as_deref().is_some_and(|kind| CLONING.contains(&kind)) {
        "by clones where the volume allows it, else by links"
    } else {
        "by links"
    };
    let what = format!(
        "the store and `{}` are on one filesystem{of_kind}: files are shared {how}",
        target.display()
    );
    Some(Finding::new(State::Good, SUBJECT, what))
}

/// Filesystems that can have two files share their bytes.
const CLONING: &[&str] = &["btrfs", "xfs", "bcachefs"];

/// Filesystems whose files are on another machine.
const NETWORK: &[&str] = &["nfs", "cifs", "smb", "9p"];

/// Its name, for those that matter here.
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
    // Its type differs between machines, and its sign.
    let magic = i128::from(found.0) & 0xffff_ffff;
    NAMES.iter().find(|(known, _)| *known == magic).map(|(_, name)| (*name).to_owned())
}

/// Its name, as the system gives it.
#[cfg(not(target_os = "linux"))]
fn filesystem(path: &Path) -> Option<String> {
    Some(nix::sys::statfs::statfs(path).ok()?.filesystem_type_name().to_owned())
}

/// A clock that was set back makes files of the future, which make cargo and kache build what
/// is there already.
fn clock(cache_dir: &Path, current_dir: Option<&Path>, now: SystemTime) -> Finding {
    const SUBJECT: &str = "clock";
    if now < SystemTime::UNIX_EPOCH + EARLIEST {
        return Finding::new(State::Wrong, SUBJECT, "it says a moment before kache was written")
            .hint("set it");
    }
    let work = current_dir.into_iter().flat_map(|dir| {
        ["Cargo.toml", "Cargo.lock", "target", "src", PROJECT_FILE].map(|name| dir.join(name))
    });
    let files = [cache_dir.to_owned(), cache_dir.join("events")].into_iter().chain(work);
    let is_ahead = |path: &PathBuf| {
        fs::metadata(path).and_then(|found| found.modified()).is_ok_and(|date| date > now + AHEAD_MAX)
    };
    match files.into_iter().find(is_ahead) {
        Some(path) => {
            let what = format!("`{}` is of the future: the clock was set back", path.display());
            Finding::new(State::Warning, SUBJECT, what)
                .hint("set the clock; what was written meanwhile is compiled again until its date has come")
        }
        None => Finding::new(State::Good, SUBJECT, "no file is of the future"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        let at = |now: SystemTime| clock(&dir.path().join("cache"), Some(dir.path()), now).state;
        let now = SystemTime::now();
        assert_eq!(at(now), State::Good);
        assert_eq!(at(now - Duration::from_secs(3600)), State::Warning);
        assert_eq!(at(SystemTime::UNIX_EPOCH), State::Wrong);
    }

    #[test]
    fn a_store_that_cannot_be_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(writable(&file, &nearest(&file)).unwrap().what.ends_with("is not a directory"));
        assert_eq!(writable(&dir.path().join("new"), dir.path()), None);
        assert_eq!(nearest(&dir.path().join("a/b/c")), dir.path());
    }

    #[test]
    fn sto_07_a_disk_that_cannot_be_read_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        assert_eq!((silence(&cache), unreadable(&cache)), (None, None));
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("lock"), "").unwrap();
        assert_eq!((silence(&cache), unreadable(&cache)), (None, None));
        // It can be opened, and fails when it is read.
        fs::create_dir(cache.join("VERSION")).unwrap();
        assert_eq!(silence(&cache), None);
        let found = unreadable(&cache).unwrap();
        assert!(found.what.contains("VERSION` cannot be read: Is a directory"), "{found:?}");
        // Whoever opens this waits for somebody who writes.
        fs::remove_dir(cache.join("VERSION")).unwrap();
        nix::unistd::mkfifo(&cache.join("VERSION"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let begun = std::time::Instant::now();
        let found = silence(&cache).unwrap();
        assert!(found.what.ends_with("its disk does not answer"), "{found:?}");
        assert!(begun.elapsed() < 10 * ANSWER_WAIT_MAX);
    }

    #[test]
    fn what_lies_together_shares() {
        let dir = tempfile::tempdir().unwrap();
        let found = sharing(dir.path(), dir.path()).unwrap();
        assert!(found.state == State::Good || found.what.contains("network"), "{found:?}");
        if cfg!(target_os = "linux") {
            let apart = sharing(Path::new("/proc"), dir.path()).unwrap();
            assert!(apart.what.contains("files are copied"), "{apart:?}");
        }
    }
}
