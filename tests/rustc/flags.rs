//! Options of the command line: KEY-08 to KEY-11.

use std::collections::BTreeSet;
use std::fs;

use kache::compiler::rustc::invocation::{CODEGEN, CompilerOption, OPTIONS, UNSTABLE};

use crate::home::Home;
use crate::places::expect_what_plain_cargo_makes;
use crate::project;
use crate::tree::Tree;
use crate::unit::Unit;

#[test]
fn key_08_the_kinds_of_outputs_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/kinds.rs", "pub fn kinds() -> u32 { 1 }");
    let unit = Unit::lib(&home, &tree, "kinds");
    let check = unit.clone().emit("dep-info,metadata");
    check.misses();
    // The metadata of a check is not that of a build.
    unit.misses();
    unit.clone().emit("dep-info,link").misses();
    unit.clone().emit("dep-info,metadata,link,asm").misses();
    unit.clone().with(&["--crate-type", "staticlib"]).misses();
    unit.clone().with(&["-C", "extra-filename=-01234567-other"]).misses();
    unit.clone().emit("dep-info,metadata").with(&["--test"]).misses();
    check.hits();
    unit.hits();
}

#[test]
fn key_08_a_check_is_not_served_to_a_build() {
    let home = Home::new();
    let checked = project::mini(&home, "a");
    home.cargo(&checked, &["check", "--workspace"]).ok();
    let built = project::mini(&home, "b");
    let calls = home.cargo(&built, &["build", "--workspace"]).ok().calls;
    assert_eq!(built.prints("target/debug/app"), project::PRINTS);
    // Build scripts and proc macros are the same in both, and are shared.
    let hits: BTreeSet<_> = calls.crates("local_hit").into_iter().collect();
    assert_eq!(hits, BTreeSet::from(["build_script_build", "regpm"]), "{calls:#?}");
}

#[test]
fn key_09_the_last_of_two_values_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/last.rs", "fn main() { println!(\"{}\", cfg!(debug_assertions)) }");
    let unit = Unit::bin(&home, &tree, "last");
    let on_off = unit.clone().with(&["-C", "debug-assertions=on", "-C", "debug-assertions=off"]);
    let off_on = unit.with(&["-C", "debug-assertions=off", "-C", "debug-assertions=on"]);
    assert_eq!(on_off.misses(), "false");
    assert_eq!(off_on.misses(), "true");
    assert_eq!(on_off.hits(), "false");
}

#[test]
fn key_09_native_is_the_processor_of_this_machine() {
    for home in Home::of_both_kinds() {
        for flags in [&["-C", "target-cpu=native"][..], &["-Z", "tune-cpu=native"]] {
            let name = flags[1].replace('=', "-");
            let [near, far] = ["near", "far/away"].map(|place| home.tree(&format!("{name}/{place}")));
            for tree in [&near, &far] {
                tree.write("src/fast.rs", "fn main() { println!(\"{}\", cfg!(target_feature = \"avx2\")) }");
            }
            let of = |tree| Unit::bin(&home, tree, "fast").with(flags).env("RUSTC_BOOTSTRAP", "1");
            let prints = of(&near).misses();
            assert_eq!(of(&far).hits(), prints);
        }
    }
}

#[test]
fn key_09_a_build_for_this_processor_is_shared() {
    let home = Home::new();
    let args = ["build", "--workspace", "--config", "build.rustflags=['-Ctarget-cpu=native']"];
    let build = |tree: &Tree| home.cargo(tree, &args).env("CARGO_INCREMENTAL", "0").ok();
    let near = project::mini(&home, "near");
    let built = build(&near);
    assert!(built.calls.0.iter().all(|call| call.result != "passthrough"), "{built:#?}");
    let far = project::mini_far_away(&home);
    build(&far).expect_all_hits();
    assert_eq!(far.prints("target/debug/app"), project::PRINTS);
    build(&far).expect_silent();
    expect_what_plain_cargo_makes(&home, &far, &args);
}

#[test]
fn key_09_lints_decide_messages_and_success() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/lint.rs", "pub fn lint() { let unused = 1; }");
    let unit = Unit::lib(&home, &tree, "lint");
    let of = |flags: &[&str]| unit.clone().with(flags);
    unit.misses();
    assert!(of(&["-D", "warnings"]).fails().contains("unused"));
    of(&["-A", "unused"]).misses();
    of(&["--cap-lints", "allow"]).misses();
    of(&["-D", "warnings", "--cap-lints", "warn"]).misses();
    unit.hits();
    of(&["-A", "unused"]).hits();
    assert!(of(&["-D", "warnings"]).fails().contains("unused"));
    // The order of lints counts, too.
    of(&["-D", "unused", "-A", "unused"]).misses();
    assert!(of(&["-A", "unused", "-D", "unused"]).fails().contains("unused"));
}

#[test]
fn key_10_a_call_with_an_unknown_option_bypasses_the_cache_and_is_counted() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/odd.rs", "pub fn odd() {}");
    let unit = Unit::lib(&home, &tree, "odd");
    unit.clone().with(&["-Cno-such-option=1"]).passes("unknown_option");
    unit.clone().with(&["--no-such-flag"]).passes("unknown_option");
    unit.clone().with(&["-Zno-such-option"]).env("RUSTC_BOOTSTRAP", "1").passes("unknown_option");
    unit.clone().emit("dep-info,nonsense").passes("unknown_emit");
    unit.clone().with(&["@no-such-file"]).passes("argfile_unreadable");
    unit.with(&["--print", "cfg"]).passes("query");
    // Source on standard input, without a build script's variables.
    let child =
        home.rustc(&tree, &["-", "--crate-type=lib", "--emit=metadata", "--out-dir=target"]).command();
    let mut child = { child }.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"pub fn from_stdin() {}").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(tree.join("target/librust_out.rmeta").exists());
    let [call] = &home.new_calls()[..] else { panic!("not one call") };
    assert_eq!(&*call.result, "passthrough", "{call:?}");
}

#[test]
fn key_11_argument_files_count_by_their_content() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/args.rs", "fn main() { println!(\"{}{}\", cfg!(one), cfg!(two)) }");
    let unit = Unit::bin(&home, &tree, "args").with(&["--cap-lints=allow", "@more.args"]);
    tree.write("more.args", "--cfg\none\n");
    assert_eq!(unit.misses(), "truefalse");
    tree.write("more.args", "--cfg\ntwo\n");
    assert_eq!(unit.misses(), "falsetrue");
    tree.write("more.args", "--cfg=two\n--cfg\none\n");
    assert_eq!(unit.misses(), "truetrue");
    tree.write("more.args", "--cfg\none\n");
    assert_eq!(unit.hits(), "truefalse");
    // The same arguments are the same action, whether or not they are in a file.
    tree.rename("more.args", "other.args");
    assert_eq!(
        Unit::bin(&home, &tree, "args").with(&["--cap-lints=allow", "@other.args"]).hits(),
        "truefalse"
    );
}

#[test]
fn key_11_an_argument_file_may_hold_more_arguments_than_a_process_may_have() {
    let arguments = |last: &str| {
        let many =
            (0..40_000).map(|number| format!("--cfg\nof_a_feature_with_a_rather_long_name_{number:020}\n"));
        many.collect::<String>() + "--cfg\n" + last + "\n"
    };
    assert!(arguments("one").len() > 2 << 20, "Linux gives a process no more");
    for home in Home::of_both_kinds() {
        let tree = home.tree("ws");
        tree.write("src/many.rs", "fn main() { println!(\"{}{}\", cfg!(one), cfg!(two)) }");
        let unit = Unit::bin(&home, &tree, "many").with(&["--cap-lints=allow", "@many.args"]);
        tree.write("many.args", arguments("one"));
        assert_eq!(unit.misses(), "truefalse");
        assert_eq!(unit.hits(), "truefalse");
        tree.write("many.args", arguments("two"));
        assert_eq!(unit.misses(), "falsetrue");
        tree.write("many.args", arguments("one"));
        assert_eq!(unit.hits(), "truefalse");
    }
}

#[test]
fn key_11_arguments_are_not_joined() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/framed.rs", "fn main() { println!(\"{}\", cfg!(a = \"b --cfg c\")) }");
    let unit = Unit::bin(&home, &tree, "framed").with(&["--cap-lints=allow"]);
    assert_eq!(unit.clone().with(&["--cfg", "a=\"b --cfg c\""]).misses(), "true");
    assert_eq!(unit.with(&["--cfg", "a=\"b\"", "--cfg", "c"]).misses(), "false");
}

/// The options that this compiler lists under `-C help` or `-Z help`.
fn listed(home: &Home, tree: &Tree, flag: &str) -> Vec<String> {
    let built = home.rustc(tree, &[flag, "help"]).env("RUSTC_BOOTSTRAP", "1").ok_unwatched();
    let name = |line: &str| {
        let (name, _) = line.trim_start().strip_prefix(flag)?.trim_start().split_once("=val")?;
        Some(name.to_owned())
    };
    built.stdout.lines().filter_map(name).collect()
}

#[test]
fn key_10_every_option_of_this_compiler_is_in_the_tables() {
    let home = Home::new();
    let tree = home.tree("ws");
    for (flag, table, least) in [("-C", CODEGEN, 50), ("-Z", UNSTABLE, 200)] {
        let listed = listed(&home, &tree, flag);
        assert!(listed.len() > least, "{listed:?}");
        let is_missing = |name: &&String| table.iter().all(|option| option.name != **name);
        let missing: Vec<&String> = listed.iter().filter(is_missing).collect();
        assert!(missing.is_empty(), "{flag}: add these options to the table: {missing:?}");
        let mut sorted: Vec<&str> = table.iter().map(|option| option.name).collect();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted, table.iter().map(|option| option.name).collect::<Vec<_>>());
    }
    let help = home.rustc(&tree, &["-Zunstable-options", "--help", "-v"]).env("RUSTC_BOOTSTRAP", "1");
    let help = help.ok_unwatched().stdout;
    let mut count = 0;
    for line in help.lines().filter(|line| line.trim_start().starts_with('-')) {
        let words = line.split([' ', ',', '=', '[']).filter(|word| word.starts_with('-'));
        // The description begins after two spaces, and may mention other options.
        let of_description = line.trim_start().find("  ").map_or(line.len(), |at| at + 4);
        for word in words.take_while(|word| line.find(word).is_some_and(|at| at < of_description)) {
            let name = word.trim_start_matches('-');
            let is_it = |option: &CompilerOption| option.long == name || option.short.to_string() == name;
            assert!(OPTIONS.iter().any(is_it), "{word} of {line:?}");
            count += 1;
        }
    }
    assert!(count > 40, "{count} in {help}");
}

#[test]
fn key_08_calls_with_split_debugging_information_bypass_the_cache() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/split.rs", "fn main() { println!(\"split\") }");
    let unit = Unit::bin(&home, &tree, "split").with(&["-C", "split-debuginfo=unpacked"]);
    // Without debugging information there is nothing to split off.
    assert_eq!(unit.misses(), "split");
    assert_eq!(unit.hits(), "split");
    unit.clone().with(&["-g"]).passes("uncacheable_option");
    let none = unit.with(&["-g", "-C", "debuginfo=none"]);
    assert_eq!(none.misses(), "split");
    assert_eq!(none.hits(), "split");
}

#[test]
fn key_10_calls_whose_linker_writes_an_additional_file_bypass_the_cache() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/mapped.rs", "fn main() { println!(\"mapped\") }");
    for word in ["-Wl,-Map=mapped.map", "-Wl,-Map,mapped.map", "-Wl,--Map=mapped.map"] {
        let argument = format!("link-arg={word}");
        let unit = Unit::bin(&home, &tree, "mapped").with(&["-C", &argument]);
        for _ in 0..2 {
            unit.kache().ok();
            assert!(tree.join("mapped.map").exists(), "{word}");
            fs::remove_file(tree.join("mapped.map")).unwrap();
        }
        unit.passes("uncacheable_option");
    }
    // A library is not linked, so the linker writes no file.
    tree.write("src/part.rs", "pub fn part() {}");
    let library = Unit::lib(&home, &tree, "part").with(&["-C", "link-arg=-Wl,-Map=part.map"]);
    library.misses();
    library.hits();
}

#[test]
fn key_18_outputs_that_hide_paths_bind_a_result_to_its_checkout() {
    let home = Home::new();
    for (name, flags) in [
        ("rpath", &["-C", "rpath"][..]),
        ("linked", &["-g", "-C", "link-arg=-Wl,--compress-debug-sections=zlib"]),
        ("compressed", &["-g", "-Z", "debuginfo-compression=zlib"]),
    ] {
        let [near, far] = ["near", "far/away"].map(|place| home.tree(&format!("{name}/{place}")));
        for tree in [&near, &far] {
            tree.write("src/hidden.rs", "fn main() { println!(\"hidden\") }");
            let unit = Unit::bin(&home, tree, "hidden").with(flags).env("RUSTC_BOOTSTRAP", "1");
            assert_eq!(unit.misses(), "hidden", "{name}");
            assert_eq!(unit.hits(), "hidden", "{name}");
        }
    }
}
