//! Restored texts: dep-info (RST-06) and messages (RST-07).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::home::Home;
use crate::project;
use crate::tree::Tree;
use crate::unit::Unit;

/// Every dep-info that compilers wrote, by name.
fn dep_infos(tree: &Tree) -> BTreeMap<String, String> {
    let files = tree.files("target").into_keys().filter(|name| name.ends_with(".d"));
    files.map(|name| (name.clone(), tree.read(&format!("target/{name}")))).collect()
}

/// The files that a dep-info names on its left and right sides.
fn names(text: &str) -> Vec<String> {
    let rules = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let unescape = |word: &str| word.replace('\u{1}', " ");
    rules
        .flat_map(|line| {
            let line = line.replace("\\ ", "\u{1}");
            let (target, inputs) = line.split_once(':').unwrap();
            let words = std::iter::once(target).chain(inputs.split_whitespace());
            words.map(unescape).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn rst_06_restored_dep_info_is_what_the_compiler_writes_in_this_checkout() {
    let home = Home::new().with("CARGO_INCREMENTAL", "0");
    let near = project::mini(&home, "a");
    let build = |step: crate::step::Step<'_>| step.env("MINI_OPT", "a\\b c\nd").ok();
    build(home.cargo(&near, &["build", "--workspace", "--all-targets"]));
    let far = project::mini_far_away(&home);
    build(home.cargo(&far, &["build", "--workspace", "--all-targets"])).expect_all_hits();
    let restored = dep_infos(&far);
    for (name, text) in &restored {
        assert!(!text.contains(near.text()) && !text.contains("/kache/"), "{name}:\n{text}");
        for file in names(text) {
            let path = far.path().join(&file);
            assert!(path.exists() || file.ends_with(".rcgu.o"), "{name} names {file}:\n{text}");
        }
    }
    assert!(restored.values().any(|text| text.contains("# env-dep:MINI_OPT=a\\\\b c\\nd")), "{restored:#?}");
    assert!(restored.values().any(|text| text.contains("odd\\ name.rs")), "{restored:#?}");
    far.remove("target");
    build(home.plain_cargo(&far, &["build", "--workspace", "--all-targets"]));
    assert_eq!(restored, dep_infos(&far), "with kache, and without");
    // How cargo uses it: a changed file and an unset variable both make the unit dirty.
    far.remove("target");
    build(home.cargo(&far, &["build"])).expect_all_hits();
    build(home.cargo(&far, &["build"])).expect_silent();
    home.cargo(&far, &["build"]).ok();
    assert!(far.prints("target/debug/app").contains("opt=unset"));
}

#[test]
fn rst_07_restored_messages_are_those_of_the_compiler() {
    let home = Home::new();
    let (one, two) = (project::mini(&home, "a"), project::mini_far_away(&home));
    for tree in [&one, &two] {
        // A first build, so that cargo does not print lines about packages any more.
        home.plain_cargo(tree, &["fetch"]).ok_unwatched();
    }
    let formats: &[&[&str]] = &[
        &["check"],
        &["check", "--message-format=short"],
        &["check", "--message-format=json"],
        &["check", "--message-format=json-diagnostic-rendered-ansi"],
        &["check", "--color=always"],
    ];
    for args in formats {
        for tree in [&one, &two] {
            // Cargo does not replay messages of seeded units, so there is no seeding here.
            let with = home.cargo(tree, args).env("KACHE_SEED", "0").ok();
            tree.remove("target");
            let without = home.plain_cargo(tree, args).ok();
            tree.remove("target");
            assert_eq!(sorted(&with.stdout), sorted(&without.stdout), "{args:?}");
            assert_eq!(sorted(&with.stderr), sorted(&without.stderr), "{args:?}");
            let all = format!("{}{}", with.stdout, with.stderr);
            assert!(all.contains("unused"), "{all}");
        }
    }
}

/// The lines in order, without those that contain times.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> =
        text.lines().filter(|line| !line.contains("Finished")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn rst_07_each_message_format_is_restored_as_the_compiler_writes_it() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/warns.rs", "pub fn a_function_with_a_name_that_is_rather_long(first: u32, second: u32) { let unused_and_long = 1; }");
    let unit = Unit::lib(&home, &tree, "warns");
    // Each format is compared with the output of plain rustc.
    unit.misses();
    for more in [&["--diagnostic-width=60"][..], &["--diagnostic-width=200"], &["--json=diagnostic-short"]] {
        let unit = unit.clone().with(more);
        unit.misses();
        unit.hits();
    }
    unit.hits();
}

#[test]
fn rst_07_paths_in_restored_messages_are_this_checkouts() {
    let home = Home::new();
    // A warning in a file with an absolute path, in OUT_DIR.
    for checkout in ["one", "another \"quoted\" which is longer"] {
        let tree = home.tree(checkout);
        let out_dir = tree.join("target/debug/build/m-1/out");
        tree.write("target/debug/build/m-1/out/m.rs", "pub fn f() { let unused = 1; }");
        tree.write("src/m.rs", "include!(concat!(env!(\"OUT_DIR\"), \"/m.rs\"));");
        let unit = Unit::lib(&home, &tree, "m").env("OUT_DIR", out_dir.to_str().unwrap());
        for _ in 0..2 {
            let built = unit.kache().ok();
            let message = built.stderr.lines().find(|line| line.contains("unused_variables")).unwrap();
            let message: serde_json::Value = serde_json::from_str(message).unwrap();
            let name = message["spans"][0]["file_name"].as_str().unwrap();
            // If remapping makes the path relative, it leads to the same file.
            assert!(Path::new(tree.path()).join(name).exists(), "{name}");
            assert!(message["rendered"].as_str().unwrap().contains(name), "{message}");
            for line in built.stderr.lines().filter(|line| line.contains("\"artifact\"")) {
                let notice: serde_json::Value = serde_json::from_str(line).unwrap();
                let path = notice["artifact"].as_str().unwrap();
                assert!(Path::new(path).starts_with(tree.path()) && fs::metadata(path).is_ok(), "{path}");
            }
        }
    }
}

#[test]
fn rst_07_standard_output_is_replayed() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/says.rs", "pm::say!(); pub fn f() {}");
    // A macro that prints on both streams.
    tree.write(
        "src/pm.rs",
        "#[proc_macro] pub fn say(_: proc_macro::TokenStream) -> proc_macro::TokenStream { println!(\"to stdout\"); eprintln!(\"to stderr\"); Default::default() }",
    );
    Unit::proc_macro(&home, &tree, "pm").misses();
    let unit = Unit::lib(&home, &tree, "says").uses("pm", "libpm-01234567.so");
    unit.misses();
    unit.hits();
    let built = unit.kache().ok();
    assert!(built.stdout == "to stdout\n" && built.stderr.contains("to stderr\n"), "{built:?}");
}
