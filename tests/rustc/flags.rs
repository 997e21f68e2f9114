//! What the command line says: KEY-08 to KEY-11.

use std::collections::BTreeSet;

use crate::home::Home;
use crate::project;
use crate::unit::Unit;

#[test]
fn key_08_what_is_made_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/kinds.rs", "pub fn kinds() -> u32 { 1 }");
    let unit = Unit::lib(&home, &tree, "kinds");
    let check = unit.clone().emit("dep-info,metadata");
    check.misses();
    // The rmeta of a check is not that of a build.
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
    // What is the same in both is shared: build scripts and proc macros.
    let hits: BTreeSet<_> = calls.crates("local_hit").into_iter().collect();
    assert_eq!(hits, BTreeSet::from(["build_script_build", "regpm"]), "{calls:#?}");
}

#[test]
fn key_09_of_two_values_the_last_counts() {
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
    // The order of lints counts as well.
    of(&["-D", "unused", "-A", "unused"]).misses();
    assert!(of(&["-A", "unused", "-D", "unused"]).fails().contains("unused"));
}

#[test]
fn key_10_what_is_not_known_is_passed_on_and_counted() {
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
    // A source on standard input that belongs to nobody's build script.
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
fn key_11_argument_files_count_by_what_they_say() {
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
    // The same words are the same action, wherever they stand.
    tree.rename("more.args", "other.args");
    assert_eq!(
        Unit::bin(&home, &tree, "args").with(&["--cap-lints=allow", "@other.args"]).hits(),
        "truefalse"
    );
}

#[test]
fn key_11_more_arguments_than_a_process_may_have() {
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
