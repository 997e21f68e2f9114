//! Configuration of calls: rules, mistakes, a fallback wrapper, lines of progress, and the doctor.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::home::{Home, KACHE, eventually, toolchain_bin};
use crate::project;
use crate::unit::Unit;

#[test]
fn calls_that_match_a_rule_bypass_the_cache() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/gen.rs", "pub fn f() {}").write("src/own.rs", "pub fn f() {}");
    let (generated, own) = (Unit::lib(&home, &tree, "gen"), Unit::lib(&home, &tree, "own"));
    tree.write(".kache.toml", "cache.exclude = [\"src/g*.rs\"]\n");
    generated.passes("excluded");
    own.misses();
    for (name, value) in [
        ("KACHE_BYPASS_CRATES", "o*"),
        ("KACHE_BYPASS_ARGV", "metadata=0*"),
        ("KACHE_BYPASS_ENV", "CHANNEL=night*"),
        ("KACHE_EXCLUDE", "**/own.rs"),
    ] {
        own.clone().env(name, value).env("CHANNEL", "nightly").passes("excluded");
    }
    own.clone().env("KACHE_BYPASS_ENV", "CHANNEL=night*").env("CHANNEL", "stable").hits();
    tree.write(".kache.toml", "cache.disabled = true\n");
    own.passes("disabled");
    tree.remove(".kache.toml");
    own.hits();
}

#[test]
fn linked_outputs_are_cached_unless_the_configuration_excludes_them() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/tool.rs", "fn main() { println!(\"tool\") }");
    let unit = Unit::bin(&home, &tree, "tool");
    unit.clone().env("KACHE_CACHE_EXECUTABLES", "0").passes("executables_off");
    assert_eq!(unit.misses(), "tool");
    assert_eq!(unit.hits(), "tool");
}

#[test]
fn dmn_03_calls_bypass_the_cache_after_a_configuration_mistake_that_the_doctor_names() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/x.rs", "pub fn f() {}").write(".kache.toml", "cache.exlude = []\n");
    let unit = Unit::lib(&home, &tree, "x");
    unit.passes("configuration");
    let mut doctor = home.command(KACHE);
    let said = doctor.arg("doctor").current_dir(tree.path()).output().unwrap();
    assert_eq!(said.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&said.stdout).contains("did you mean `cache.exclude`?"));
    unit.clone().env("KACHE_KEY_ENV_VARS", "*").passes("configuration");
    tree.remove(".kache.toml");
    unit.misses();
}

#[test]
fn key_04_a_call_with_an_unreadable_input_bypasses_the_cache_and_the_doctor_names_it() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/x.rs", "pub fn f() {}").write("kache.toml", "extra_inputs = [\"round\"]\n");
    std::os::unix::fs::symlink("round", tree.path().join("round")).unwrap();
    let unit = Unit::lib(&home, &tree, "x").env("CARGO_MANIFEST_DIR", tree.text());
    let doctor = || {
        let said = home.command(KACHE).arg("doctor").current_dir(tree.path()).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    unit.passes("unknown_input");
    let said = doctor();
    assert!(said.contains("1 crate was not cached") && said.contains("ws/round`"), "{said}");
    tree.remove("round").write("round", "");
    tree.write("kache.toml", "extra_inputs = [");
    unit.passes("unknown_input");
    let said = doctor();
    assert!(said.contains(&format!(": {}/kache.toml:1:", tree.text())), "{said}");
    assert!(!said.contains("kache.toml: "), "the position is named once: {said}");
    tree.write("kache.toml", "extra_inputs = [\"round\"]\n");
    assert_eq!(unit.kache().ok().only_call().result, "miss");
    assert!(!doctor().contains("not cached"), "it is cached again");
}

/// A wrapper that appends its arguments to a file.
fn other_wrapper(dir: &Path) -> String {
    let path = dir.join("other");
    let text = format!("#!/bin/sh\necho \"$@\" >> {}/notes\nexec \"$@\"\n", dir.display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn bypassed_calls_go_to_the_fallback_wrapper_and_a_missing_one_is_ignored() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/x.rs", "pub fn f() {}");
    let wrapper = other_wrapper(home.base());
    let unit = Unit::lib(&home, &tree, "x").env("KACHE_FALLBACK", &wrapper);
    let notes = || fs::read_to_string(home.base().join("notes")).unwrap_or_default();
    unit.misses();
    assert_eq!(notes(), "", "a cached call does not start the fallback");
    unit.clone().env("KACHE_BYPASS_CRATES", "x").passes("excluded");
    assert!(notes().contains("--crate-name x"), "{}", notes());
    for missing in ["/gone/sccache", "kache-none", KACHE] {
        Unit::lib(&home, &tree, "x")
            .env("KACHE_BYPASS_CRATES", "x")
            .env("KACHE_FALLBACK", missing)
            .passes("excluded");
    }
}

#[test]
fn rst_07_lines_of_progress_are_not_part_of_the_stored_messages() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    let lines = |said: &str| said.lines().filter(|line| line.starts_with("kache: ")).count();
    let build = |progress: &str, ci: &str| {
        let step = home.cargo(&tree, &["build"]).env("KACHE_PROGRESS", progress);
        if ci.is_empty() { step.ok() } else { step.env("CI", ci).ok() }
    };
    let first = build("always", "");
    let compiles = first.calls.compiles().count();
    assert_eq!(lines(&first.stderr), compiles, "{}", first.stderr);
    assert!(first.stderr.contains("kache: miss: app 0.1.0 ("), "{}", first.stderr);
    let second = build("always", "");
    second.expect_silent();
    assert_eq!(lines(&second.stderr), 0, "cargo has stored none of them: {}", second.stderr);
    fs::remove_dir_all(tree.join("target")).unwrap();
    let passed = home.cargo(&tree, &["build"]).env("KACHE_PROGRESS", "always");
    let said = passed.env("KACHE_BYPASS_CRATES", "app").ok().stderr;
    assert!(said.contains("kache: passed on: app 0.1.0: excluded, "), "{said}");
    for (progress, ci, expected) in [("auto", "true", true), ("auto", "", false), ("never", "true", false)] {
        fs::remove_dir_all(tree.join("target")).unwrap();
        let built = build(progress, ci);
        assert_eq!(lines(&built.stderr) > 0, expected, "{progress} {ci}: {}", built.stderr);
    }
}

#[test]
fn old_incremental_state_is_removed_unless_the_setting_keeps_it() {
    let home = Home::new().with("KACHE_INCREMENTAL_EDITS", "0");
    let tree = project::mini(&home, "a");
    home.plain_cargo(&tree, &["build"]).ok_unwatched();
    let left = || fs::read_dir(tree.join("target/debug/incremental")).map_or(0, Iterator::count);
    let before = left();
    assert!(before > 0);
    let touch = |text: &str| tree.write("touched.txt", text);
    touch("1");
    let edit = |from: &str, to: &str| tree.edit("app/src/main.rs", from, to);
    edit("fn main() {", "fn main() { // 1\n");
    home.cargo(&tree, &["build"]).env("KACHE_CLEAN_INCREMENTAL", "0").ok();
    assert_eq!(left(), before);
    edit("// 1\n", "// 2\n");
    home.cargo(&tree, &["build"]).ok();
    eventually("the removal of old incremental state", || left() < before);
}

#[test]
fn the_doctor_compiles_a_small_crate() {
    let home = Home::new();
    let path = format!("{}:/usr/bin:/bin", toolchain_bin().display());
    let said = home.kache(&["doctor", "--probe"]).env("PATH", &path).run_unwatched();
    assert!(said.stdout.contains("a small crate was compiled in"), "{}", said.stdout);
    assert_eq!(said.code, Some(0), "{}", said.stdout);
}
