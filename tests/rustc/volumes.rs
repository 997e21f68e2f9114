//! Filesystems that share extents, and one that does not: builds on real volumes.
//!
//! They are mounted from image files, which needs root; without it these tests fail and say
//! so, unless `KACHE_TEST_MOUNTS=skip` is set.

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::tree::assert_untouched;
use crate::volume::Volume;

/// Builds in three worktrees. How many bytes the artifacts of one are, and how many more the
/// second and third took.
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

/// What cargo, not kache, writes per worktree: fingerprints and directories.
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
        // One without metadata beside it has nothing else that could be newer than it.
        let is_library = name.ends_with(".rlib") && name.contains("deps/") && !name.contains("cdyl");
        // Smaller ones lie in the store's database.
        if stamp.len > 4096 && (is_registrys || is_library) {
            let shared = [&second[name], &third[name]].map(|other| other.ino == stamp.ino);
            assert_eq!(shared, [true, true], "{name}");
        }
    }
}
