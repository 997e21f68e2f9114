//! Files whose inodes several checkouts share: changes of the files of one checkout do not affect another (RST-01,
//! RST-02, RST-03).
//!
//! On a filesystem that shares blocks there are no such files, and each test holds anyway.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kache_cas::Hash;

use crate::home::{Home, eventually};
use crate::project::{self, PRINTS};
use crate::report::Call;
use crate::step::Built;
use crate::tree::{Stamp, Tree, assert_untouched, different};
use crate::volume::skip::is_skipped;

const BUILD: &[&str] = &["build", "-p", "app"];

/// Runs a line of shell in a directory.
#[track_caller]
fn shell(home: &Home, dir: &Path, line: &str) {
    let output = home.command("/bin/sh").args(["-ec", line]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "`{line}`: {output:?}");
}

/// Two worktrees that were built completely.
fn built_pair(home: &Home) -> [Tree; 2] {
    let trees = ["a", "b"].map(|name| project::mini(home, name));
    for tree in &trees {
        home.cargo(tree, BUILD).ok();
        home.cargo(tree, BUILD).ok().expect_silent();
    }
    trees
}

/// Makes cargo ask for the compiler's version in its next build.
fn forget_version(tree: &Tree) {
    fs::remove_file(tree.join("target/.rustc_info.json")).unwrap();
}

/// Asserts that cargo compiled nothing and found everything fresh. It may have asked for the compiler's version.
#[track_caller]
fn expect_fresh(built: &Built) {
    assert_eq!(built.calls.compiles().count(), 0, "{built:#?}");
    assert!(!built.stderr.contains("Compiling") && !built.stderr.contains("Dirty"), "{built:#?}");
}

/// The outputs of compilers with their attributes, without inode numbers.
fn attributes(tree: &Tree) -> Vec<(String, Stamp)> {
    let stamps = tree.artifacts("target").into_iter();
    stamps.map(|(name, stamp)| (name, Stamp { ino: 0, ..stamp })).collect()
}

/// Waits until the daemon has noticed the changes and repaired the other worktree. Uplifted files are left out,
/// because cargo links them again in its next build.
fn until_repaired(other: &Tree, before: &[(String, Stamp)]) {
    let compiled = |files: &[(String, Stamp)]| {
        let is_compiled = |name: &str| name.contains("/deps/") || name.contains("build_script_build-");
        files.iter().filter(|(name, _)| is_compiled(name)).cloned().collect::<Vec<_>>()
    };
    eventually("the other worktree is repaired", || compiled(&attributes(other)) == compiled(before));
}

/// Changes every output of compilers in one worktree. Asserts that the other one is not affected: cargo finds
/// everything fresh there, whether or not it calls kache first, and whether or not a daemon ran when the files were
/// changed.
fn assert_changes_do_not_affect_the_other_worktree(line: &str) {
    let home = Home::new();
    let [one, other] = built_pair(&home);
    let before = attributes(&other);
    shell(&home, one.path(), line);
    let done = attributes(&one);
    forget_version(&other);
    expect_fresh(&home.cargo(&other, BUILD).ok());
    assert_eq!(attributes(&other), before, "{line}");
    assert_eq!(attributes(&one), done, "the changed worktree keeps the changes: {line}");
    home.cargo(&other, BUILD).ok().expect_silent();

    for tree in [&one, &other] {
        fs::remove_dir_all(tree.join("target")).unwrap();
        home.cargo(tree, BUILD).ok().expect_all_hits();
    }
    // Cargo remembers the compiler's version and calls kache for nothing.
    let before = attributes(&other);
    shell(&home, one.path(), line);
    until_repaired(&other, &before);
    home.cargo(&other, BUILD).ok().expect_silent();

    // No daemon runs, so the change is not noticed.
    fs::remove_dir_all(one.join("target")).unwrap();
    home.cargo(&one, BUILD).ok().expect_all_hits();
    home.stop();
    shell(&home, one.path(), line);
    expect_fresh(&home.cargo(&other, BUILD).ok());
    assert_eq!(attributes(&other), before, "{line}");
    for tree in [&other, &one] {
        home.cargo(tree, BUILD).ok();
        home.cargo(tree, BUILD).ok().expect_silent();
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
}

/// Changes files after the daemon died, so that cargo is not made to call kache. Asserts that the next build in the
/// other worktree gets only hits, and that the one after it finds everything fresh.
fn assert_unnoticed_changes_cost_one_build_of_hits(line: &str) {
    let home = Home::new();
    let [one, other] = built_pair(&home);
    home.kill_daemon();
    shell(&home, one.path(), line);
    let built = home.cargo(&other, BUILD).ok();
    assert!(built.calls.compiles().all(Call::is_hit), "{line}: {built:#?}");
    for _ in 0..2 {
        home.cargo(&other, BUILD).ok().expect_silent();
    }
    assert_eq!(other.prints("target/debug/app"), PRINTS);
}

#[test]
fn rst_02_a_touch_in_one_worktree_does_not_affect_another() {
    for line in ["find target -type f -exec touch {} +", "find target -type f -exec touch -m {} +"] {
        assert_changes_do_not_affect_the_other_worktree(line);
    }
}

#[test]
fn rst_01_a_date_in_the_future_in_one_worktree_keeps_no_unit_of_another_dirty() {
    assert_changes_do_not_affect_the_other_worktree("find target -type f -exec touch -d tomorrow {} +");
}

#[test]
fn rst_01_dates_that_no_daemon_noticed_cost_one_build_of_hits() {
    assert_unnoticed_changes_cost_one_build_of_hits("find target -type f -exec touch {} +");
    assert_unnoticed_changes_cost_one_build_of_hits("find target -type f -exec touch -d tomorrow {} +");
}

#[test]
fn rst_02_modes_in_one_worktree_do_not_affect_another() {
    for line in ["chmod -R u+w target", "chmod -R go-rwx target"] {
        assert_changes_do_not_affect_the_other_worktree(line);
    }
}

#[test]
fn rst_02_an_owner_in_one_worktree_does_not_affect_another() {
    assert_changes_do_not_affect_the_other_worktree("chown -R 65534:65534 target");
}

/// A library that both worktrees have.
fn library(tree: &Tree) -> PathBuf {
    let names: Vec<_> = tree.artifacts("target").into_keys().collect();
    let is_wanted = |name: &&String| name.contains("deps/libleaf-") && name.ends_with(".rlib");
    tree.join("target").join(names.iter().find(is_wanted).unwrap())
}

/// Asserts that a library that was overwritten in one worktree is not linked in another. There it is compiled again
/// as soon as cargo calls kache, whether the daemon noticed the change or the call did.
#[test]
fn rst_03_bytes_overwritten_in_one_worktree_are_not_linked_in_another() {
    let ways = [
        "printf wrong | dd of=$LIBRARY bs=1 seek=100 conv=notrunc status=none",
        "printf appended >> $LIBRARY",
        "truncate -s 100 $LIBRARY",
        // The date is set back, as `rsync --inplace -t` and `cp -p` do it.
        "printf wrong | dd of=$LIBRARY bs=1 seek=100 conv=notrunc status=none; touch -d @1000000000 $LIBRARY",
    ];
    for line in ways {
        let home = Home::new();
        let [one, other] = built_pair(&home);
        let before = other.artifacts("target");
        let spoilt = library(&one);
        let line = line.replace("$LIBRARY", spoilt.to_str().unwrap());
        shell(&home, one.path(), &line);
        let has_reflinks = home.has_reflinks();
        eventually("the overwritten library is removed", || {
            has_reflinks || !library_is_there(&other, "leaf")
        });
        let built = home.cargo(&other, BUILD).ok();
        let compiled: Vec<_> = built.calls.compiles().filter(|call| !call.is_hit()).collect();
        assert!(compiled.iter().all(|call| call.crate_name == "leaf"), "{line}: {compiled:#?}");
        assert_eq!(different(&other.artifacts("target"), &before), [""; 0], "{line}");
        assert_eq!(other.prints("target/debug/app"), PRINTS);
        home.cargo(&other, BUILD).ok().expect_silent();
        // Again, without a daemon.
        home.cargo(&one, &["clean"]).ok_unwatched();
        home.cargo(&one, BUILD).ok();
        home.stop();
        shell(&home, one.path(), &line);
        home.cargo(&other, BUILD).ok();
        assert_eq!(different(&other.artifacts("target"), &before), [""; 0], "{line}");
        home.cargo(&other, BUILD).ok().expect_silent();
    }
}

/// Cargo links the libraries of members from `deps` into the directory above. A tool that changes such a file by the
/// second name changes the file in `deps`, too.
#[test]
fn rst_03_a_library_that_is_overwritten_by_its_second_name_is_not_linked_in_another_worktree() {
    for line in ["echo >> $LIBRARY", "truncate -s 100 $LIBRARY"] {
        let home = Home::new();
        let [one, other] = built_workspaces(&home);
        let before = attributes(&other);
        shell(&home, one.path(), &line.replace("$LIBRARY", "target/debug/libkcore.rlib"));
        let has_reflinks = home.has_reflinks();
        eventually("the overwritten library is removed", || {
            has_reflinks || !library_is_there(&other, "kcore")
        });
        home.cargo(&other, WORKSPACE).ok();
        assert_eq!(contents(&attributes(&other)), contents(&before), "{line}");
        assert_eq!(other.prints("target/debug/app"), PRINTS);
        home.cargo(&other, WORKSPACE).ok().expect_silent();
    }
}

#[test]
fn rst_02_a_library_that_is_changed_by_its_second_name_stays_as_it_is_in_another_worktree() {
    for line in ["touch -d tomorrow $LIBRARY", "chmod go-rwx target/debug/deps/* $LIBRARY"] {
        let home = Home::new();
        let [one, other] = built_workspaces(&home);
        let before = attributes(&other);
        shell(&home, one.path(), &line.replace("$LIBRARY", "target/debug/libkcore.rlib"));
        let changed = attributes(&one);
        until_repaired(&other, &before);
        home.cargo(&other, WORKSPACE).ok().expect_silent();
        assert_eq!(attributes(&other), before, "{line}");
        assert_eq!(attributes(&one), changed, "the changed worktree keeps the changes: {line}");
    }
}

const WORKSPACE: &[&str] = &["build", "--workspace"];

/// Two worktrees in which all members were built, so that cargo gave second names to their libraries.
fn built_workspaces(home: &Home) -> [Tree; 2] {
    let trees = ["a", "b"].map(|name| project::mini(home, name));
    for tree in &trees {
        home.cargo(tree, WORKSPACE).ok();
        home.cargo(tree, WORKSPACE).ok().expect_silent();
    }
    trees
}

/// The names and contents of these files.
fn contents(files: &[(String, Stamp)]) -> Vec<(&str, Hash)> {
    files.iter().map(|(name, stamp)| (&**name, stamp.content)).collect()
}

fn library_is_there(tree: &Tree, package: &str) -> bool {
    let name_begins = format!("deps/lib{package}-");
    let mut names = tree.artifacts("target").into_keys();
    names.any(|name| name.contains(&name_begins) && name.ends_with(".rlib"))
}

/// Backups, archives and tools on a target directory. The other worktree keeps its files, and everything is fresh
/// after a build in which cargo calls kache.
#[test]
fn rst_02_backups_and_tools_in_one_worktree_do_not_affect_another() {
    let ways = [
        "cp -a target backup; cp -a backup/. target/",
        "cp -al target backup; find backup -type f -exec touch {} +",
        "cp -al target backup; chmod -R go-rwx backup; rm -rf backup",
        "tar cf backup.tar target; tar xf backup.tar",
        "tar cf backup.tar target; tar xf backup.tar --overwrite",
        "find target -name '*.rlib' -exec strip --strip-debug {} +",
        "find target -name 'libregpm-*.so' -exec strip --strip-debug {} +",
    ];
    let home = Home::new();
    let [one, other] = built_pair(&home);
    let before = other.artifacts("target");
    for line in ways {
        shell(&home, one.path(), line);
        forget_version(&other);
        home.cargo(&other, BUILD).ok();
        assert_eq!(different(&other.artifacts("target"), &before), [""; 0], "{line}");
        for _ in 0..2 {
            home.cargo(&other, BUILD).ok().expect_silent();
        }
        assert_eq!(other.prints("target/debug/app"), PRINTS, "{line}");
        shell(&home, one.path(), "rm -rf target backup backup.tar");
        home.cargo(&one, BUILD).ok();
        home.cargo(&one, BUILD).ok().expect_silent();
    }
}

/// An overlay filesystem over a target directory, as containers use it: a file is copied before it is changed.
#[test]
fn rst_02_an_overlay_over_a_target_directory_changes_no_shared_file() {
    let home = Home::new();
    let [one, other] = built_pair(&home);
    let before = [&one, &other].map(|tree| tree.files("target"));
    let Some(layered) = Layered::over(&home, &one.join("target")) else { return };
    shell(&home, &layered.merged, "chmod -R go-rwx .; find . -type f -exec touch -d tomorrow {} +");
    drop(layered);
    for (tree, before) in [&one, &other].into_iter().zip(&before) {
        assert_untouched(&tree.files("target"), before);
        home.cargo(tree, BUILD).ok().expect_silent();
    }
}

/// A directory with an overlay over it, which is unmounted on drop.
struct Layered {
    merged: PathBuf,
}

impl Layered {
    /// Mounts the layer. Returns `None` if tests that mount are skipped.
    fn over(home: &Home, lower: &Path) -> Option<Self> {
        if is_skipped("KACHE_TEST_MOUNTS") {
            return None;
        }
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| home.base().join(name));
        for dir in [&upper, &work, &merged] {
            fs::create_dir(dir).unwrap();
        }
        let [lower, upper, work] = [lower, &upper, &work].map(|dir| dir.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let mount =
            home.command("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&merged).status();
        assert!(
            mount.unwrap().success(),
            "mounting needs root (or, outside of CI, set KACHE_TEST_MOUNTS=skip)"
        );
        Some(Layered { merged })
    }
}

impl Drop for Layered {
    fn drop(&mut self) {
        let status = std::process::Command::new("umount").arg(&self.merged).status().unwrap();
        assert!(status.success());
    }
}

/// The daemon still knows a checkout that was renamed.
#[test]
fn rst_02_a_renamed_checkout_is_not_affected_by_changes_in_another() {
    let home = Home::new();
    let [one, other] = built_pair(&home);
    fs::rename(other.path(), home.base().join("moved")).unwrap();
    let moved = home.tree("moved");
    home.cargo(&moved, BUILD).ok();
    home.cargo(&moved, BUILD).ok().expect_silent();
    for is_alive in [true, false] {
        if !is_alive {
            home.stop();
        }
        let before = attributes(&moved);
        shell(&home, one.path(), "find target -type f -exec touch -d tomorrow {} +");
        forget_version_if_there(&moved);
        expect_fresh(&home.cargo(&moved, BUILD).ok());
        assert_eq!(attributes(&moved), before);
    }
}

fn forget_version_if_there(tree: &Tree) {
    let _ = fs::remove_file(tree.join("target/.rustc_info.json"));
}

/// Without hard links (`cache.sharing`) no inode is shared, and everything is fresh.
#[test]
fn rst_02_without_hard_links_no_inode_is_shared() {
    for sharing in ["copy", "reflink"] {
        let home = Home::new().with("KACHE_SHARING", sharing);
        let [one, other] = built_pair(&home);
        let inodes = |tree: &Tree| tree.artifacts("target").into_values().map(|stamp| stamp.ino).collect();
        let [one_has, other_has]: [BTreeSet<u64>; 2] = [inodes(&one), inodes(&other)];
        assert!(one_has.is_disjoint(&other_has), "{sharing}");
        let blobs = home.tree("cache/blobs").files("");
        let stored: BTreeSet<u64> = blobs.into_values().map(|stamp| stamp.ino).collect();
        assert!(!stored.is_empty());
        assert!(stored.is_disjoint(&one_has) && stored.is_disjoint(&other_has), "{sharing}");
        let before = other.artifacts("target");
        shell(&home, one.path(), "find target -type f -exec touch -d tomorrow {} +; chmod -R a+rwx target");
        shell(&home, one.path(), "find target -name '*.rlib' | while read file; do echo >> \"$file\"; done");
        home.cargo(&other, BUILD).ok().expect_silent();
        assert_untouched(&other.artifacts("target"), &before);
    }
}

/// If no daemon may run, changes would not be noticed, so no inode is shared.
#[test]
fn rst_02_without_a_daemon_no_two_checkouts_share_an_inode() {
    let home = Home::alone();
    let [one, other] = built_pair(&home);
    let inodes = |tree: &Tree| tree.artifacts("target").into_values().map(|stamp| stamp.ino).collect();
    let [one_has, other_has]: [BTreeSet<u64>; 2] = [inodes(&one), inodes(&other)];
    assert!(one_has.is_disjoint(&other_has));
}
