//! Restored files as files: RST-03, RST-04, RST-05 and RST-11.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::report::Call;
use crate::tree::{Tree, assert_untouched, different};
use crate::unit::Unit;

/// Changes each file of a target directory in all ways in which tools change them.
fn maltreat(tree: &Tree) {
    for (index, name) in tree.artifacts("target").into_keys().enumerate() {
        let path = tree.join("target").join(name);
        // An uplifted file is another name of a file in `deps`; both names are changed.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        match index % 3 {
            0 => fs::write(&path, "overwritten").unwrap(),
            1 => fs::File::options().append(true).open(&path).unwrap().write_all(b"appended").unwrap(),
            _ => fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap(),
        }
    }
}

#[test]
fn rst_03_changes_of_restored_files_are_never_served() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    let build = |tree: &Tree| home.cargo(tree, &["build", "--workspace"]).env("CARGO_INCREMENTAL", "0").ok();
    build(&one);
    let made = one.artifacts("target");
    build(&two).expect_all_hits();
    // The worktree from which the files were stored, and one to which they were restored.
    for spoilt in [&two, &one] {
        maltreat(spoilt);
        let clean =
            project::mini(&home, &format!("clean after {}", spoilt.path().file_name().unwrap().display()));
        let built = build(&clean);
        // A daemon that saw the change has already taken the result out of service.
        let whys = ["was written to or removed since", "is no longer in the store"];
        let spoiled = |call: &&Call| whys.iter().any(|why| call.why.contains(why));
        assert!(built.calls.compiles().all(|call| call.result != "error"), "{built:#?}");
        assert!(home.has_reflinks() || built.calls.compiles().any(|call| spoiled(&call)), "{built:#?}");
        assert_eq!(clean.prints("target/debug/app"), PRINTS);
        assert_eq!(different(&clean.artifacts("target"), &made), [""; 0]);
        spoilt.remove("target");
        build(spoilt);
        assert_eq!(spoilt.prints("target/debug/app"), PRINTS);
    }
}

/// The store's inode of a program belongs to one checkout at a time, so that checkouts share no programs and none
/// is on the disk twice.
#[test]
fn rst_02_a_program_is_on_the_disk_once_for_each_checkout() {
    let home = Home::new();
    let trees = ["a", "b"].map(|name| project::mini(&home, name));
    let program = |tree: &Tree| tree.files("target/debug")["app"].clone();
    let inodes = || {
        let blobs = large_files(&home.variable("KACHE_CACHE_DIR").join("blobs"));
        let blobs = blobs.into_iter().filter(|(path, _)| {
            trees.iter().any(|tree| fs::read(path).ok() == fs::read(tree.join("target/debug/app")).ok())
        });
        let stored = blobs.map(|(path, _)| fs::metadata(path).unwrap().ino());
        let built = trees.iter().map(|tree| program(tree).ino);
        stored.chain(built).collect::<std::collections::BTreeSet<_>>().len()
    };
    for tree in &trees {
        home.cargo(tree, &["build"]).ok();
    }
    if home.has_reflinks() {
        return; // Each checkout has inodes of its own, which share their blocks.
    }
    assert_eq!(inodes(), 2);
    let (one, two) = (program(&trees[0]), program(&trees[1]));
    // If no checkout has the store's inode, the next build gets it, with a new date.
    trees[0].remove("target");
    home.cargo(&trees[0], &["build"]).ok().expect_all_hits();
    home.cargo(&trees[0], &["build"]).ok().expect_silent();
    assert_eq!(inodes(), 2);
    assert_eq!(program(&trees[0]).ino, one.ino);
    assert!(program(&trees[0]).mtime > one.mtime);
    assert_eq!(program(&trees[1]), two);
    home.cargo(&trees[1], &["build"]).ok().expect_silent();
}

#[test]
fn rst_03_strip_changes_no_file_of_another_worktree() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    home.cargo(&one, &["build"]).ok();
    let before = one.artifacts("target");
    home.cargo(&two, &["build"]).ok();
    for name in ["target/debug/app", "target/debug/deps/libpm-*.so"] {
        let strip = format!("strip --strip-debug {name}");
        let status = home.command("/bin/sh").args(["-c", &strip]).current_dir(two.path()).status().unwrap();
        assert!(status.success());
    }
    assert_untouched(&one.artifacts("target"), &before);
    assert_eq!(two.prints("target/debug/app"), PRINTS);
}

#[test]
fn rst_04_modes_follow_the_callers_umask() {
    let home = Home::new();
    let names = [("prog.rs", "fn main() {}"), ("library.rs", "pub fn f() {}")];
    for (step, umask) in [0o022, 0o077, 0o002, 0o027].into_iter().enumerate() {
        let tree = home.tree(&format!("ws{step}"));
        for (name, text) in names {
            tree.write(&format!("src/{name}"), text);
        }
        for unit in [Unit::bin(&home, &tree, "prog"), Unit::lib(&home, &tree, "library")] {
            let modes = |unit: &Unit<'_>| {
                let outputs = ["", ".d", ".rlib", ".rmeta"].map(|ending| unit.output(ending));
                outputs.map(|path| fs::metadata(path).ok().map(|file| file.mode() & 0o7777))
            };
            unit.plain().umask(umask).ok_unwatched();
            let plain = modes(&unit);
            let built = unit.kache().umask(umask).ok();
            if step > 0 {
                built.expect_all_hits();
            }
            let own = modes(&unit);
            for (own, plain) in own.into_iter().zip(plain) {
                // An `.rlib` may be read-only, because cargo and rustc remove it before they write it.
                let is_fine =
                    own == plain || own.is_some_and(|mode| mode & 0o222 == 0 && mode & !plain.unwrap() == 0);
                assert!(is_fine, "umask {umask:o}: {own:?}, and without kache {plain:?}");
            }
            // A build without kache can replace every file; cargo removes libraries before it writes them.
            let _ = fs::remove_file(unit.output(".rlib"));
            let again = unit.plain_over_it().umask(umask).run_unwatched();
            assert_eq!(again.code, Some(0), "{again:?}");
        }
    }
}

#[test]
fn rst_04_a_build_without_kache_continues_from_restored_files() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini(&home, "b"));
    home.cargo(&one, &["build", "--workspace"]).ok();
    home.cargo(&two, &["build", "--workspace"]).ok();
    for tree in [&one, &two] {
        // Without the wrapper all units stay fresh, and all can be compiled again.
        home.plain_cargo(tree, &["build", "--workspace"]).ok().expect_silent();
        tree.edit("util/src/lib.rs", "\"hello\"", "\"goodbye\"");
        home.plain_cargo(tree, &["build", "--workspace"]).ok();
        assert_eq!(tree.prints("target/debug/app"), PRINTS.replace("hello", "goodbye"));
        home.plain_cargo(tree, &["clean", "-p", "twig", "-p", "leaf", "-p", "regpm"]).ok();
        home.plain_cargo(tree, &["build", "--workspace"]).ok();
        assert_eq!(tree.prints("target/debug/app"), PRINTS.replace("hello", "goodbye"));
    }
}

#[test]
fn rst_05_a_failed_restore_leaves_no_files_and_the_compiler_runs() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write(
        "src/whole.rs",
        format!("pub static BIG: [u8; 20000] = [7; 20000]; pub fn f() {{}}{}", " ".repeat(100)),
    );
    let unit = Unit::lib(&home, &tree, "whole").with(&["-C", "debuginfo=2"]);
    unit.misses();
    unit.hits();
    // A blob that is in the store's index has no file any more.
    let blobs = large_files(&home.variable("KACHE_CACHE_DIR").join("blobs"));
    assert!(!blobs.is_empty());
    let (biggest, _) = blobs.iter().max_by_key(|(_, len)| *len).unwrap();
    fs::remove_file(biggest).unwrap();
    let built = unit.kache().ok();
    assert_eq!(built.only_call().compiler_runs, 1, "{built:?}");
    unit.hits();
    // A directory has the name of an output.
    let in_the_way = unit.output(".rlib");
    let refuses = |step: crate::step::Step<'_>| {
        fs::remove_file(&in_the_way).unwrap();
        fs::create_dir_all(in_the_way.join("x")).unwrap();
        let built = step.run_unwatched();
        let others = [unit.output(".rmeta"), unit.output(".d")].map(|path| path.exists());
        fs::remove_dir_all(&in_the_way).unwrap();
        fs::write(&in_the_way, "").unwrap();
        (built.code, others)
    };
    let (kache, plain) = (unit.kache_over_it(), unit.plain_over_it());
    let without = refuses(plain);
    assert_eq!(refuses(kache).0, without.0);
}

/// Files of some size below a directory.
fn large_files(dir: &std::path::Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                left.push(entry.path());
            } else if metadata.len() > 10_000 {
                found.push((entry.path(), metadata.len()));
            }
        }
    }
    found
}

#[test]
fn rst_11_outputs_are_unlinked_before_the_compiler_writes() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/over.rs", "fn main() { println!(\"1\") }").write("src/lib.rs", "");
    let unit = Unit::bin(&home, &tree, "over");
    unit.misses();
    // Hard links to the same inodes elsewhere.
    let kept = tree.join("kept");
    fs::create_dir(&kept).unwrap();
    for ending in ["", ".d"] {
        fs::hard_link(unit.output(ending), kept.join(format!("file{ending}"))).unwrap();
    }
    let before = tree.files("kept");
    tree.write("src/over.rs", "fn main() { println!(\"{}\", include_str!(\"lib.rs\").len()) }");
    let built = unit.kache_over_it().ok();
    assert_eq!(built.only_call().result, "miss", "{built:?}");
    assert_eq!(tree.prints(unit.output("").to_str().unwrap()), "0");
    assert_untouched(&tree.files("kept"), &before);
    // A hit replaces the files in the same way.
    tree.write("src/over.rs", "fn main() { println!(\"1\") }");
    unit.kache_over_it().ok().expect_all_hits();
    assert_eq!(tree.prints(unit.output("").to_str().unwrap()), "1");
    assert_untouched(&tree.files("kept"), &before);
}
