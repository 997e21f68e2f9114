//! Layouts of builds: target and build directories elsewhere, packages of other origins, and whether cargo finds
//! restored files fresh (RST-01, RST-02).

use crate::fresh::Way;
use crate::home::Home;
use crate::project::{self, PRINTS};
use crate::tree::{Tree, assert_untouched};

const BUILD: &[&str] = &["build", "--workspace", "--all-targets"];

#[test]
fn rst_01_with_a_target_directory_elsewhere_all_units_are_fresh() {
    let env = [("CARGO_TARGET_DIR", "../made of it/t")];
    let way = Way { args: BUILD, env: &env, program: Some("../made of it/t/debug/app") };
    way.in_three_worktrees(&Home::new(), project::mini);
}

#[test]
fn rst_01_with_a_build_directory_elsewhere_all_units_are_fresh() {
    for place in ["../built", "{workspace-root}/in/it", "{cargo-cache-home}/builds/{workspace-path-hash}"] {
        let env = [("CARGO_BUILD_BUILD_DIR", place)];
        let way = Way { args: BUILD, env: &env, program: Some("target/debug/app") };
        way.in_three_worktrees(&Home::new(), project::mini);
    }
}

#[test]
fn rst_01_in_the_new_layout_of_build_directories_all_units_are_fresh() {
    // This layout is unstable, and cargo offers it only if this variable is set.
    let env = [("RUSTC_BOOTSTRAP", "1")];
    for args in [BUILD, &["check", "--workspace"], &["test", "--workspace"]] {
        let args = [args, &["-Zbuild-dir-new-layout"]].concat();
        let program = (args[0] != "check").then_some("target/debug/app");
        Way { args: &args, env: &env, program }.in_three_worktrees(&Home::new(), project::mini);
    }
}

/// The crates that cargo compiled, and what the program printed.
fn compiled_and_printed(step: crate::step::Step<'_>, tree: &Tree, program: &str) -> (Vec<String>, String) {
    let built = step.ok();
    let is_about_a_crate =
        |line: &&str| matches!(line.trim_start().split(' ').next(), Some("Compiling" | "Dirty"));
    let mut said: Vec<_> = built.stderr.lines().filter(is_about_a_crate).map(str::to_owned).collect();
    said.sort();
    (said, tree.prints(program))
}

#[test]
fn rst_01_a_target_directory_that_worktrees_share_is_as_fresh_as_without_kache() {
    // Cargo gives a member the same name in all worktrees and compares dates. In a shared target directory it
    // therefore takes one worktree's member for another's. With kache it does so exactly as often.
    let home = Home::new();
    let played = |with_kache: bool| {
        let kind = if with_kache { "with" } else { "without" };
        let trees = ["a", "b/longer"].map(|name| project::mini(&home, &format!("{kind}/{name}")));
        let target = home.base().join(kind).join("t");
        let program = target.join("debug/app");
        let step = |tree| {
            let step =
                if with_kache { home.cargo(tree, &["build"]) } else { home.plain_cargo(tree, &["build"]) };
            step.env("CARGO_TARGET_DIR", target.to_str().unwrap())
        };
        let mut verdicts = Vec::new();
        for (turn, edit) in
            [(0, None), (1, None), (0, Some("one")), (1, None), (1, Some("two")), (0, None), (1, None)]
        {
            let tree = &trees[turn];
            if let Some(text) = edit {
                tree.write("kcore/src/data.txt", text);
            }
            let (mut said, prints) = compiled_and_printed(step(tree), tree, program.to_str().unwrap());
            said.iter_mut().for_each(|line| *line = line.replace(tree.text(), "WORKTREE"));
            verdicts.push((said, prints));
            // A second build finds everything fresh.
            assert_eq!(compiled_and_printed(step(tree), tree, program.to_str().unwrap()).0, [""; 0]);
        }
        verdicts
    };
    let (without, with) = (played(false), played(true));
    assert_eq!(with, without);
    assert!(with.iter().any(|(_, prints)| *prints == PRINTS.replace("data=data", "data=two")), "{with:#?}");
}

/// The small project with one package beside the workspace.
fn with_a_package_outside(home: &Home, name: &str) -> Tree {
    let tree = project::mini(home, name);
    tree.rename("util", "../util of all");
    tree.edit("Cargo.toml", "\"util\", ", "");
    tree.edit("kcore/Cargo.toml", "../util", "../../util of all");
    tree
}

#[test]
fn rst_01_with_a_package_outside_of_the_workspace_all_units_are_fresh() {
    let home = Home::new();
    // Cargo names this package, and the crates that use it, differently in each worktree. They are not shared, and
    // are fresh nevertheless.
    let trees = ["a/ws", "some where/longer/ws"].map(|name| with_a_package_outside(&home, name));
    for tree in &trees {
        home.cargo(tree, BUILD).ok();
        home.cargo(tree, BUILD).ok().expect_silent();
        assert_eq!(tree.prints("target/debug/app"), PRINTS);
    }
    let before = trees[1].artifacts("target");
    trees[0].edit("../util of all/src/lib.rs", "\"hello\"", "\"hullo\"");
    home.cargo(&trees[0], BUILD).ok();
    home.cargo(&trees[0], BUILD).ok().expect_silent();
    assert_eq!(trees[0].prints("target/debug/app"), PRINTS.replace("hello", "hullo"));
    home.cargo(&trees[1], BUILD).ok().expect_silent();
    assert_untouched(&trees[1].artifacts("target"), &before);
    // Crates that were not edited are hits when the target directory was removed.
    trees[1].remove("target");
    home.cargo(&trees[1], BUILD).ok().expect_all_hits();
    assert_eq!(trees[1].prints("target/debug/app"), PRINTS);
}

/// The small project with one package from a git repository.
fn with_a_package_from_git(home: &Home, name: &str) -> Tree {
    let repository = home.base().join("repository");
    if !repository.exists() {
        let source = home.tree("repository");
        let manifest =
            "[package]\nname = \"util\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nloud = []\n";
        source.write("Cargo.toml", manifest).write(
            "src/lib.rs",
            "pub const LOUD: bool = cfg!(feature = \"loud\");\npub fn shout() -> &'static str { \"hello\" }\n",
        );
        for args in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "one"]] {
            let mut git = home.command("git");
            git.args(["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]).args(args);
            assert!(git.current_dir(&repository).status().unwrap().success());
        }
    }
    let tree = project::mini(home, name);
    tree.remove("util").edit("Cargo.toml", "\"util\", ", "");
    tree.edit(
        "kcore/Cargo.toml",
        "path = \"../util\"",
        &format!("git = \"file://{}\"", repository.display()),
    );
    tree
}

#[test]
fn rst_01_with_a_package_from_git_all_units_are_fresh() {
    // Cargo clones the repository from a directory, without a network.
    let env = [("CARGO_NET_OFFLINE", "false")];
    let way = Way { args: BUILD, env: &env, program: Some("target/debug/app") };
    way.in_three_worktrees(&Home::new(), with_a_package_from_git);
}

/// The small project with a patched version of a package on which a package of the registry depends.
fn with_a_patch(home: &Home, name: &str) -> Tree {
    let tree = project::mini(home, name);
    tree.edit(
        "Cargo.toml",
        "resolver = \"2\"\n",
        "resolver = \"2\"\nexclude = [\"leaf\"]\n[patch.crates-io]\nleaf = { path = \"leaf\" }\n",
    );
    tree.write("leaf/Cargo.toml", "[package]\nname = \"leaf\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    tree.write("leaf/src/lib.rs", "pub fn leaf() -> u32 { 7 }\n");
    tree
}

#[test]
fn rst_01_with_a_patched_package_all_units_are_fresh() {
    let way = Way { args: BUILD, env: &[], program: Some("target/debug/app") };
    way.in_three_worktrees(&Home::new(), with_a_patch);
}

#[test]
fn rst_01_an_edit_of_a_patched_package_reaches_registry_packages_that_use_it() {
    // `twig` is from a registry, so cargo does not look at its dates. It uses `leaf`, which is edited.
    let home = Home::new();
    let trees = ["a", "b/longer"].map(|name| with_a_patch(&home, name));
    for tree in &trees {
        home.cargo(tree, BUILD).ok();
    }
    for (value, sum) in [(8, 50), (9, 51), (7, 49)] {
        for tree in &trees {
            tree.write("leaf/src/lib.rs", format!("pub fn leaf() -> u32 {{ {value} }}\n"));
            home.cargo(tree, BUILD).ok();
            assert_eq!(tree.prints("target/debug/app"), PRINTS.replace("twig=49", &format!("twig={sum}")));
            home.cargo(tree, BUILD).ok().expect_silent();
        }
        let turn_back = &trees[0];
        home.cargo(turn_back, BUILD).ok().expect_silent();
    }
}
