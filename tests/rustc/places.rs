//! Checkouts in different directories: KEY-17 to KEY-19.

use std::path::PathBuf;

use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::tree::{Tree, different};
use crate::unit::Unit;

/// A wrapper that adds the flags with which plain rustc makes the same bytes as kache. `RUSTFLAGS` would change the
/// names of all files.
pub(crate) fn remapping(home: &Home, tree: &Tree) -> PathBuf {
    let cargo = home.variable("CARGO_HOME");
    let (cargo, root) = (cargo.display(), tree.text());
    let remaps = format!("'--remap-path-prefix={cargo}=/kache/cargo' '--remap-path-prefix={root}=.'");
    let rustc = "rustc=$1; shift; case \" $* \" in *incremental*) exit 9;; esac";
    home.tree("tools").script("remapping", &format!("{rustc}; exec \"$rustc\" {remaps} \"$@\""))
}

#[test]
fn key_17_checkouts_and_homes_share_every_byte() {
    let home = Home::new();
    let near = project::mini(&home, "a");
    // Without this, plain cargo would compile members incrementally.
    let build = |home: &Home, tree: &Tree| {
        home.cargo(tree, &["build", "--workspace", "--all-targets"]).env("CARGO_INCREMENTAL", "0").ok()
    };
    build(&home, &near);
    let home = home.of_user("another user");
    let far = project::mini_far_away(&home);
    build(&home, &far).expect_all_hits();
    assert_eq!(far.prints("target/debug/app"), PRINTS);
    assert_eq!(different(&far.artifacts("target"), &near.artifacts("target")), [""; 0]);
    let count = expect_what_plain_cargo_makes(&home, &far, &["build", "--workspace", "--all-targets"]);
    assert!(count > 20, "{count}");
}

/// Asserts that plain cargo with the same remaps makes every byte of this target directory. Returns the number of
/// files.
#[track_caller]
pub(crate) fn expect_what_plain_cargo_makes(home: &Home, tree: &Tree, args: &[&str]) -> usize {
    let shared = tree.artifacts("target");
    tree.rename("target", "restored");
    home.plain_cargo(tree, args)
        .env("CARGO_INCREMENTAL", "0")
        .env("RUSTC_WRAPPER", remapping(home, tree).to_str().unwrap())
        .ok();
    let plain = tree.artifacts("target");
    assert_eq!(different(&shared, &plain), [""; 0], "with kache, and without");
    plain.len()
}

#[test]
fn key_17_results_are_shared_wherever_the_target_directory_is() {
    let home = Home::new();
    for (checkout, target) in [("a", "target of a"), ("b/longer", "elsewhere/t")] {
        let tree = project::mini(&home, checkout);
        let target = home.base().join(target);
        let step = || home.cargo(&tree, &["build"]).env("CARGO_TARGET_DIR", target.to_str().unwrap());
        let built = step().ok();
        if checkout != "a" {
            built.expect_all_hits();
        }
        step().ok().expect_silent();
        assert_eq!(tree.prints(target.join("debug/app").to_str().unwrap()), PRINTS);
    }
}

#[test]
fn key_17_panics_and_backtraces_name_the_same_files_as_without_kache() {
    let home = Home::new();
    let tree = project::mini(&home, "a");
    let panics = |tree: &Tree, program: &str| {
        let mut command = home.command(tree.join(program));
        let output = command.env("RUST_BACKTRACE", "1").current_dir(tree.path()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let lines = text.lines().filter(|line| line.contains(".rs") && !line.contains("/rustc/"));
        lines.map(|line| line.rsplit(" at ").next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    home.plain_cargo(&tree, &["build", "--example", "ex"]).ok();
    let without = panics(&tree, "target/debug/examples/ex");
    tree.remove("target");
    home.cargo(&tree, &["build", "--example", "ex"]).ok();
    assert_eq!(panics(&tree, "target/debug/examples/ex"), without);
    let other = project::mini_far_away(&home);
    home.cargo(&other, &["build", "--example", "ex"]).ok().expect_all_hits();
    assert_eq!(panics(&other, "target/debug/examples/ex"), without);
    assert!(without.iter().any(|line| line.contains("kcore/src/lib.rs")), "{without:?}");
}

/// A program that prints the path of its source.
const PLACE: &str =
    "include!(concat!(env!(\"OUT_DIR\"), \"/place.rs\")); fn main() { println!(\"{}\", place()) }";

fn placed<'a>(home: &'a Home, tree: &'a Tree) -> Unit<'a> {
    let out_dir = tree.join("target/debug/build/place-1/out");
    tree.write("target/debug/build/place-1/out/place.rs", "fn place() -> &'static str { file!() }");
    tree.write("src/place.rs", PLACE);
    Unit::bin(home, tree, "place").env("OUT_DIR", out_dir.to_str().unwrap())
}

#[test]
fn key_18_without_remapping_a_result_is_bound_to_its_checkout() {
    let home = Home::new().with("KACHE_RUSTC_PATH_NORMALIZE", "0");
    for checkout in ["one", "another which is longer"] {
        let tree = home.tree(checkout);
        let unit = placed(&home, &tree);
        let own = tree.join("target/debug/build/place-1/out/place.rs");
        assert_eq!(unit.misses(), own.to_str().unwrap(), "as without kache");
        assert_eq!(unit.hits(), own.to_str().unwrap());
    }
    let home = home.with("KACHE_RUSTC_PATH_NORMALIZE", "1");
    let tree = home.tree("one");
    // With remapping the program prints a path that is right in every checkout.
    let built = placed(&home, &tree).kache().ok();
    assert_eq!(built.only_call().result, "miss");
    assert_eq!(tree.prints("target/debug/deps/place-01234567"), "./target/debug/build/place-1/out/place.rs");
}

#[test]
fn key_18_coverage_keeps_its_paths() {
    let home = Home::new();
    for checkout in ["one", "another which is longer"] {
        let tree = home.tree(checkout);
        tree.write("src/cover.rs", "fn main() { println!(\"covered\") }");
        let unit = Unit::lib(&home, &tree, "cover").with(&["-C", "instrument-coverage"]);
        unit.plain().ok_unwatched();
        let plain = std::fs::read(unit.output(".rlib")).unwrap();
        let built = unit.kache().ok();
        assert_eq!(built.only_call().result, "miss", "{built:?}");
        assert!(std::fs::read(unit.output(".rlib")).unwrap() == plain, "the paths in it are this checkout's");
        unit.kache().ok().expect_all_hits();
        assert!(std::fs::read(unit.output(".rlib")).unwrap() == plain);
    }
}

#[test]
fn key_19_a_users_own_remapping_keeps_its_meaning() {
    let home = Home::new();
    for checkout in ["one", "another which is longer"] {
        let tree = home.tree(checkout);
        let unit = placed(&home, &tree);
        let root = format!("--remap-path-prefix={}=/mine", tree.text());
        let target = format!("--remap-path-prefix={}/target=/built", tree.text());
        let tail = "debug/build/place-1/out/place.rs";
        // The last remap that matches counts.
        assert_eq!(unit.clone().with(&[&root]).compare().1.prints(), format!("/mine/target/{tail}"));
        assert_eq!(unit.clone().with(&[&root, &target]).compare().1.prints(), format!("/built/{tail}"));
        assert_eq!(unit.clone().with(&[&target, &root]).compare().1.prints(), format!("/mine/target/{tail}"));
    }
}
