//! Builds on real volumes: filesystems that share extents, and one that does not.
//!
//! They are mounted from image files, which needs root. Without root these tests fail and say so, unless
//! `KACHE_TEST_MOUNTS=skip` is set, which CI must not do.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;

use crate::acting::{Meeting, acting};
use crate::home::{Home, KACHE, eventually};
use crate::project::{self, PRINTS};
use crate::report::Call;
use crate::tree::assert_untouched;
use crate::volume::Volume;

/// Builds in three worktrees. Returns the bytes of one worktree's artifacts, and the bytes by which the second and
/// third worktree have grown the volume.
fn three_worktrees(volume: &Volume) -> (u64, u64) {
    let home = Home::on_volume(&volume.mountpoint);
    let first = project::mini(&home, "a");
    let build = |tree: &crate::tree::Tree| home.cargo(tree, &["build", "--workspace", "--release"]).ok();
    build(&first);
    let artifacts = first.artifacts("target");
    let mut inodes: Vec<_> = artifacts.values().map(|stamp| (stamp.ino, stamp.len)).collect();
    inodes.sort_unstable();
    inodes.dedup();
    let bytes = inodes.iter().map(|(_, len)| len).sum();
    let before_files = first.files("target");
    let before = volume.used_bytes();
    for name in ["b", "another place/which is longer"] {
        let tree = project::mini(&home, name);
        build(&tree).expect_all_hits();
        build(&tree).expect_silent();
        assert_eq!(tree.prints("target/release/app"), PRINTS);
    }
    assert_untouched(&first.files("target"), &before_files);
    build(&first).expect_silent();
    (bytes, volume.used_bytes().saturating_sub(before))
}

/// The bytes that cargo, not kache, writes in each worktree: fingerprints and directories.
const OVERHEAD_BYTES: u64 = 3 << 20;

#[test]
fn rst_02_on_btrfs_worktrees_share_all_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.btrfs", "-q"], 512) else { return };
    let (bytes, grown) = three_worktrees(&volume);
    assert!(bytes > 10 << 20 && grown < bytes / 4 + OVERHEAD_BYTES, "{bytes} bytes, two more took {grown}");
}

#[test]
fn rst_02_on_xfs_worktrees_share_all_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.xfs", "-q", "-m", "reflink=1"], 512) else { return };
    let (bytes, grown) = three_worktrees(&volume);
    assert!(bytes > 10 << 20 && grown < bytes / 4 + OVERHEAD_BYTES, "{bytes} bytes, two more took {grown}");
}

#[test]
fn rst_02_on_ext4_immutable_files_are_shared() {
    let home = Home::new();
    let trees = ["a", "b", "c/longer"].map(|name| project::mini(&home, name));
    for tree in &trees {
        home.cargo(tree, &["build", "--workspace"]).ok();
    }
    let [first, second, third] = trees.map(|tree| tree.artifacts("target"));
    for (name, stamp) in &first {
        let is_registrys = ["leaf", "twig", "regpm"].iter().any(|package| name.contains(package));
        // A library without metadata beside it is older than no other output.
        let is_library = name.ends_with(".rlib") && name.contains("deps/") && !name.contains("cdyl");
        // Smaller files are in the store's database.
        if stamp.len > 4096 && (is_registrys || is_library) {
            let shared = [&second[name], &third[name]].map(|other| other.ino == stamp.ino);
            assert_eq!(shared, [true, true], "{name}");
        }
    }
}

/// A filesystem on which every write blocks until this value is dropped.
struct Frozen<'a>(&'a Volume);

impl<'a> Frozen<'a> {
    fn new(volume: &'a Volume) -> Self {
        Frozen::ask("--freeze", volume);
        Frozen(volume)
    }

    fn ask(what: &str, volume: &Volume) {
        let status = Command::new("fsfreeze").arg(what).arg(&volume.mountpoint).status().unwrap();
        assert!(status.success(), "`fsfreeze {what}` failed");
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        Frozen::ask("--unfreeze", self.0);
    }
}

/// The time that a hanging disk may cost a build once: one second for the notice of a compile, and five until a
/// response or a notice is given up.
const HANGING_MAX: Duration = Duration::from_secs(6);

/// The time by which other load on the machine may delay a build of a few seconds.
const NOISE: Duration = Duration::from_secs(8);

/// A home whose store alone is on the volume.
fn with_store_on(volume: &Volume) -> Home {
    with_store_in(volume, "cache")
}

fn with_store_in(volume: &Volume, name: &str) -> Home {
    let cache = volume.mountpoint.join(name);
    let home = Home::without_daemon().with("KACHE_RESERVE", "0");
    let home = home.with("KACHE_CACHE_DIR", cache.to_str().unwrap());
    home.start();
    home
}

fn doctor(home: &Home) -> String {
    String::from_utf8(home.command(KACHE).arg("doctor").output().unwrap().stdout).unwrap()
}

#[test]
fn dmn_03_a_disk_that_hangs_costs_its_budget_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 512) else { return };
    let home = with_store_on(&volume);
    let build = ["build", "--workspace"];
    home.cargo(&project::mini(&home, "known"), &build).ok();
    let timed = |step: crate::step::Step<'_>| {
        let begun = Instant::now();
        step.ok_unwatched();
        begun.elapsed()
    };
    let usual = timed(home.plain_cargo(&project::mini(&home, "plain"), &build));
    let doctor = || doctor(&home);
    // A salt makes misses of hits, so that compiles cannot be stored.
    for salt in ["", "new"] {
        let frozen = Frozen::new(&volume);
        let trees = ["first", "second"].map(|name| project::mini(&home, &format!("{name}{salt}")));
        let [first, second] = trees.each_ref().map(|tree| {
            let time = timed(home.cargo(tree, &build).env("KACHE_KEY_SALT", salt));
            assert_eq!(tree.prints("target/debug/app"), PRINTS);
            time
        });
        assert!(first < usual + HANGING_MAX + NOISE, "{first:?}, usually {usual:?}");
        assert!(second < usual + NOISE, "{second:?}, usually {usual:?}");
        let begun = Instant::now();
        let said = doctor();
        assert!(said.contains("its disk does not answer"), "{said}");
        assert!(begun.elapsed() < NOISE, "the doctor waited too");
        drop(frozen);
        // The daemon is used again as soon as it responds.
        eventually("the disk answers", || !doctor().contains("its disk"));
    }
    home.cargo(&project::mini(&home, "last"), &build).ok_unwatched();
}

#[test]
fn dmn_03_a_disk_that_stalls_for_a_moment_costs_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 512) else { return };
    // The observer's record is in another directory if the store's path has a space, so the compiler does not wait
    // for the disk itself.
    let home = with_store_in(&volume, "a cache");
    let tree = home.tree("ws");
    let meeting = Meeting::at(dir.path().join("meeting"));
    let unit = acting(&home, &tree).env("ACT", &meeting.act());
    let child = unit.kache().spawn();
    let (_, compiler) = meeting.meet("the compiler's waiting");
    let frozen = Frozen::new(&volume);
    drop((compiler, meeting));
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(!doctor(&home).contains("its disk"), "it was given up within a moment");
    drop(frozen);
    let stored = |call: &Call| call.result == "miss" && !call.action.is_empty();
    eventually("the miss is in the log", || home.new_calls().iter().any(stored));
    // The call before has waited in vain for the daemon to record the compile.
    home.forget_silence();
    assert!(unit.kache().ok().only_call().is_hit());
}

/// Makes all access to the volume fail, reads included, as on a disk that was pulled.
fn pull(volume: &Volume) {
    /// `EXT4_IOC_SHUTDOWN`, and its flag that writes no further data.
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    const WITHOUT_FLUSHING: u32 = 2;
    let root = fs::File::open(&volume.mountpoint).unwrap();
    // SAFETY: the descriptor is open, and the request reads the word that is passed.
    let outcome = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &WITHOUT_FLUSHING) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn sto_07_a_disk_that_is_dead_costs_nothing_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 512) else { return };
    let home = with_store_on(&volume);
    let build = ["build", "--workspace"];
    let tree = project::mini(&home, "a");
    home.cargo(&tree, &build).ok();
    pull(&volume);
    for name in ["b", "c"] {
        let tree = project::mini(&home, name);
        home.cargo(&tree, &build).ok_unwatched();
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
    let said = doctor(&home);
    assert!(said.contains("ERROR") && said.contains("Input/output error"), "{said}");
    // Nor does a daemon that starts then and cannot open the store.
    home.kill_daemon();
    home.cargo(&project::mini(&home, "d"), &build).ok_unwatched();
    let said = doctor(&home);
    assert!(said.contains("ERROR") && said.contains("Input/output error"), "{said}");
    // Nor do builds without a daemon, where only the doctor can report the error.
    home.kill_daemon();
    let home = home.with("KACHE_DAEMON", "never");
    let tree = project::mini(&home, "e");
    home.cargo(&tree, &build).ok_unwatched();
    assert_eq!(tree.prints("target/debug/app"), PRINTS);
    let said = doctor(&home);
    assert!(said.contains("cannot be read: Input/output error"), "{said}");
}
