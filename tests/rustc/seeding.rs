//! Units that are restored before cargo calls for them (seeding): they are what calls would have restored, and a
//! unit whose call would get another result is not restored (RST-01, RST-02, KEY-06).

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::home::Home;
use crate::project;
use crate::step::{Built, Step};
use crate::tree::{Tree, assert_untouched};

/// The crates that do not depend on the run of a build script.
const SEEDED: [&str; 4] = ["buds", "build_script_build", "regpm", "spell"];

const MAIN: &str =
    r#"fn main() { println!("{} twig={} loud={}", buds::buds(), twig::twig(), cfg!(feature = "loud")); }"#;

pub(crate) const PRINTS: &str = "spell=none buds=none checked=true count=1 twig=49 loud=false";

/// A program of two packages, one of which needs the run of a build script. It has a lock file, as if it came from
/// a repository.
pub(crate) fn garden(home: &Home, name: &str) -> Tree {
    static LOCK: OnceLock<String> = OnceLock::new();
    let tree = home.tree(name);
    tree.write_all(&[
        (
            "Cargo.toml",
            "[package]\nname = \"garden\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nloud = []\n[dependencies]\nbuds = \"1\"\ntwig = \"1\"\n",
        ),
        ("src/main.rs", MAIN),
    ]);
    project::lock(home, &tree, &LOCK);
    tree
}

/// The names of the crates that were seeded, sorted.
fn seeded(built: &Built) -> Vec<&str> {
    let seeded = built.calls.compiles().filter(|call| call.is_seeded);
    let mut names: Vec<&str> = seeded.map(|call| &*call.crate_name).collect();
    names.sort_unstable();
    names
}

/// Asserts that exactly these crates were seeded and that cargo did not call for them.
#[track_caller]
fn expect_seeded(built: &Built, expected: &[&str]) {
    assert_eq!(seeded(built), expected, "{built:#?}");
    let asked = |name: &&&str| {
        let calls = built.calls.compiles().filter(|call| call.crate_name == ***name);
        calls.count() > expected.iter().filter(|other| other == name).count()
    };
    let twice: Vec<_> = expected.iter().filter(asked).collect();
    assert!(twice.is_empty(), "cargo called for seeded crates {twice:?}: {built:#?}");
}

#[test]
fn rst_01_seeded_units_stay_fresh() {
    for (args, expected) in [
        (&["build"][..], &SEEDED[..]),
        (&["build", "--release"], &SEEDED),
        (&["check"], &SEEDED),
        (&["test", "--no-run"], &SEEDED),
        (&["clippy"], &SEEDED),
    ] {
        let home = Home::new();
        let [one, two] = ["one", "much/longer/two"].map(|name| garden(&home, name));
        let first = home.cargo(&one, args).ok();
        assert_eq!(seeded(&first), [""; 0]);
        let before = one.files("");
        let second = home.cargo(&two, args).ok();
        second.expect_all_hits();
        expect_seeded(&second, expected);
        for name in ["spell", "buds"] {
            assert!(
                !second.stderr.contains(&format!(" {name} ")),
                "cargo prints nothing about it: {second:#?}"
            );
        }
        assert_untouched(&one.files(""), &before);
        home.cargo(&two, args).ok().expect_silent();
        home.cargo(&one, args).ok().expect_silent();
        // Only the edited crate is compiled.
        two.edit("src/main.rs", "twig=", "twig is ");
        let edited = home.cargo(&two, args).ok();
        assert!(edited.calls.compiles().all(|call| call.crate_name == "garden"), "{edited:#?}");
        home.cargo(&two, args).ok().expect_silent();
    }
}

#[test]
fn key_07_seeded_files_are_those_of_a_build_without_kache() {
    let home = Home::new();
    let trees = ["one", "two/deeper"].map(|name| garden(&home, name));
    for tree in &trees {
        home.cargo(tree, &["build"]).ok();
    }
    let asked = garden(&home, "three");
    let built = home.cargo(&asked, &["build"]).env("KACHE_SEED", "0").ok();
    assert_eq!(seeded(&built), [""; 0]);
    let [_, seeded] = &trees;
    let contents = |tree: &Tree| {
        let files = tree.artifacts("target/debug/deps").into_iter();
        files.filter(|(name, _)| !name.ends_with(".d")).collect::<std::collections::BTreeMap<_, _>>()
    };
    let (seeded, asked) = (contents(seeded), contents(&asked));
    assert!(seeded.len() > 8, "{:?}", seeded.keys());
    assert_eq!(seeded.keys().collect::<Vec<_>>(), asked.keys().collect::<Vec<_>>());
    for (name, stamp) in &seeded {
        assert_eq!((stamp.content, stamp.mode), (asked[name].content, asked[name].mode), "{name}");
    }
}

/// A way to build that may differ from the first one.
struct OtherBuild {
    what: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    change: fn(&Home, &Tree),
}

const OTHER_BUILDS: &[OtherBuild] = &[
    OtherBuild { what: "nothing", args: &[], env: &[], change: |_, _| {} },
    OtherBuild {
        what: "a variable that a crate asks for",
        args: &[],
        env: &[("BUDS", "some")],
        change: |_, _| {},
    },
    OtherBuild {
        what: "a variable that a macro asks for",
        args: &[],
        env: &[("SPELL", "abra")],
        change: |_, _| {},
    },
    OtherBuild {
        what: "flags",
        args: &[],
        env: &[("RUSTFLAGS", "-C debug-assertions=off")],
        change: |_, _| {},
    },
    OtherBuild {
        what: "a profile by variables",
        args: &[],
        env: &[("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "false")],
        change: |_, _| {},
    },
    OtherBuild { what: "a feature", args: &["--features", "loud"], env: &[], change: |_, _| {} },
    OtherBuild {
        what: "a profile by options",
        args: &["--config", "profile.dev.debug-assertions=false"],
        env: &[],
        change: |_, _| {},
    },
    OtherBuild {
        what: "a profile in the manifest",
        args: &[],
        env: &[],
        change: |_, tree| {
            let manifest = tree.read("Cargo.toml");
            tree.write("Cargo.toml", manifest + "[profile.dev]\ndebug-assertions = false\n");
        },
    },
    OtherBuild {
        what: "a variable in a configuration file",
        args: &[],
        env: &[],
        change: |_, tree| {
            tree.write(".cargo/config.toml", "[env]\nSPELL = \"abra\"\nBUDS = \"some\"\n");
        },
    },
    OtherBuild {
        what: "flags in a configuration file",
        args: &[],
        env: &[],
        change: |_, tree| {
            tree.write(".cargo/config.toml", "[build]\nrustflags = [\"-C\", \"debug-assertions=off\"]\n");
        },
    },
    OtherBuild {
        what: "the sources of a package",
        args: &[],
        env: &[],
        change: |home, _| {
            let sources = sources_of(home, "buds").join("src/lib.rs");
            let text = fs::read_to_string(&sources).unwrap().replace("COUNT: u32 = 1", "COUNT: u32 = 2");
            fs::write(&sources, text).unwrap();
        },
    },
];

fn sources_of(home: &Home, package: &str) -> std::path::PathBuf {
    let registry = home.variable("CARGO_HOME").join("registry/src");
    let index = fs::read_dir(registry).unwrap().next().unwrap().unwrap();
    index.path().join(format!("{package}-1.0.0"))
}

impl OtherBuild {
    fn step<'h>(&self, step: Step<'h>) -> Step<'h> {
        self.env.iter().fold(step.args(self.args), |step, (name, value)| step.env(name, value))
    }
}

/// Asserts that the second checkout's build gets what a build without kache gets, for each difference from the
/// first.
#[test]
fn key_06_seeded_units_are_those_that_a_build_would_make() {
    for other in OTHER_BUILDS {
        let home = Home::new();
        let [one, two, plain] = ["one", "two", "plain"].map(|name| garden(&home, name));
        home.cargo(&one, &["build"]).ok();
        assert_eq!(one.prints("target/debug/garden"), PRINTS);
        for tree in [&two, &plain] {
            (other.change)(&home, tree);
        }
        let second = other.step(home.cargo(&two, &["build"])).ok();
        other.step(home.plain_cargo(&plain, &["build"])).ok_unwatched();
        let [printed, expected] = [&two, &plain].map(|tree| tree.prints("target/debug/garden"));
        assert_eq!(printed, expected, "with {} changed: {second:#?}", other.what);
        let is_same = expected == PRINTS;
        assert_eq!(is_same, other.what == "nothing", "the difference matters: {}", other.what);
        other.step(home.cargo(&two, &["build"])).ok().expect_silent();
        if is_same {
            expect_seeded(&second, &SEEDED);
        }
    }
}

/// A setting in a configuration file applies only if the environment does not set it, so the same file has another
/// meaning there.
#[test]
fn key_06_the_environment_has_precedence_over_a_configuration_file() {
    let home = Home::new();
    let [one, two, three, plain] = ["one", "two", "three", "plain"].map(|name| {
        let tree = garden(&home, name);
        tree.write(".cargo/config.toml", "[env]\nSPELL = \"abra\"\n");
        tree
    });
    home.cargo(&one, &["build"]).ok();
    let same = home.cargo(&two, &["build"]).ok();
    expect_seeded(&same, &SEEDED);
    assert!(two.prints("target/debug/garden").contains("spell=abra"));
    home.cargo(&three, &["build"]).env("SPELL", "cadabra").ok();
    home.plain_cargo(&plain, &["build"]).env("SPELL", "cadabra").ok_unwatched();
    let [printed, expected] = [&three, &plain].map(|tree| tree.prints("target/debug/garden"));
    assert_eq!(printed, expected);
    assert!(expected.contains("spell=cadabra"), "{expected}");
}

#[test]
fn key_06_seeds_are_used_only_for_builds_of_the_same_kind() {
    let home = Home::new();
    let build = |name: &str, args: &[&str], env: &[(&str, &str)]| {
        let tree = garden(&home, name);
        let step = home.cargo(&tree, args);
        env.iter().fold(step, |step, (name, value)| step.env(name, value)).ok()
    };
    build("first", &["build"], &[]);
    // Options that do not decide what is compiled do not make another command.
    for (index, args) in [&["build", "-v", "-j", "1"][..], &["b", "--color=never"]].iter().enumerate() {
        expect_seeded(&build(&format!("same{index}"), args, &[]), &SEEDED);
    }
    for (index, (args, env)) in [
        (&["build", "--release"][..], &[][..]),
        (&["build"], &[("RUSTFLAGS", "--cfg other")]),
        (&["build"], &[("KACHE_SEED", "false")]),
        (&["build"], &[("KACHE_DISABLED", "1")]),
        (&["build"], &[("KACHE_KEY_SALT", "other")]),
    ]
    .iter()
    .enumerate()
    {
        let built = build(&format!("other{index}"), args, env);
        assert_eq!(seeded(&built), [""; 0], "{args:?} {env:?}");
    }
}

#[test]
fn rst_01_units_are_seeded_into_any_target_directory() {
    type Lay = fn(&Tree) -> Vec<(&'static str, String)>;
    let ways: [(&[&str], Lay, &str); 5] = [
        (&["build", "--target-dir", "../elsewhere"], |_| Vec::new(), "../elsewhere/debug/garden"),
        (&["build"], |tree| vec![("CARGO_TARGET_DIR", format!("{}/t", tree.text()))], "t/debug/garden"),
        (&["build"], |_| vec![("CARGO_BUILD_TARGET_DIR", "u/v".to_owned())], "u/v/debug/garden"),
        (
            &["build"],
            |tree| {
                tree.write(".cargo/config.toml", "[build]\ntarget-dir = \"w\"\n");
                Vec::new()
            },
            "w/debug/garden",
        ),
        (&["build", "--target", HOST], |_| Vec::new(), "target/x86_64-unknown-linux-gnu/debug/garden"),
    ];
    for (args, lay, program) in ways {
        if args.contains(&HOST) && crate::toolchain::host() != HOST {
            continue;
        }
        let home = Home::new();
        for name in ["a/one", "b/two"] {
            let tree = garden(&home, name);
            let env = lay(&tree);
            let step =
                || env.iter().fold(home.cargo(&tree, args), |step, (name, value)| step.env(name, value));
            let built = step().ok();
            assert_eq!(tree.prints(program), PRINTS);
            expect_seeded(&built, if name == "a/one" { &[] } else { &SEEDED });
            step().ok().expect_silent();
        }
    }
}

const HOST: &str = "x86_64-unknown-linux-gnu";

#[test]
fn rst_01_a_command_that_builds_nothing_seeds_nothing() {
    let home = Home::new();
    home.cargo(&garden(&home, "one"), &["build"]).ok();
    for args in [&["metadata", "--format-version=1"][..], &["tree"], &["clean"], &["clean", "-p", "buds"]] {
        let tree = garden(&home, &format!("for-{}", args.join("-")));
        let done = home.cargo(&tree, args).ok();
        assert_eq!(seeded(&done), [""; 0], "{args:?}");
        let files = tree.files("");
        assert!(!files.keys().any(|name| name.contains("buds")), "{args:?} seeded files: {files:?}");
    }
    // Only cargo uses a target directory in which it has built before.
    let tree = garden(&home, "two");
    home.plain_cargo(&tree, &["check"]).ok_unwatched();
    let built = home.cargo(&tree, &["build"]).ok();
    assert_eq!(seeded(&built), [""; 0], "{built:#?}");
    assert_eq!(tree.prints("target/debug/garden"), PRINTS);
}

/// A shared file that was overwritten is detected before it is restored again.
#[test]
fn rst_03_an_overwritten_file_is_not_seeded() {
    let home = Home::new();
    let [one, two] = ["one", "two"].map(|name| garden(&home, name));
    home.cargo(&one, &["build"]).ok();
    for (name, stamp) in one.files("target/debug/deps") {
        let place = one.join("target/debug/deps").join(&name);
        if name.contains("libbuds") {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(&place, permissions).unwrap();
            overwrite(&place);
            let dated = std::time::UNIX_EPOCH + std::time::Duration::from_secs(stamp.mtime.0.unsigned_abs());
            fs::File::open(&place).unwrap().set_modified(dated).unwrap();
        }
    }
    let built = home.cargo(&two, &["build"]).ok();
    // If files share blocks and not inodes, the store's file was not changed.
    assert_eq!(seeded(&built).contains(&"buds"), home.has_reflinks(), "{built:#?}");
    assert_eq!(two.prints("target/debug/garden"), PRINTS, "{built:#?}");
    home.cargo(&two, &["build"]).ok().expect_silent();
}

/// Overwrites a file in place without changing its length.
fn overwrite(path: &Path) {
    use std::os::unix::fs::FileExt as _;
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"overwritten", 8).unwrap();
}

/// Two cargos in one empty target directory build one after the other, and both are right.
#[test]
fn rst_05_two_cargos_in_one_empty_target_directory() {
    let home = Home::new();
    home.cargo(&garden(&home, "one"), &["build"]).ok();
    for round in 0..5 {
        let tree = garden(&home, &format!("round{round}"));
        let children: Vec<_> = (0..2).map(|_| home.cargo(&tree, &["build"]).spawn()).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        assert_eq!(tree.prints("target/debug/garden"), PRINTS);
        home.cargo(&tree, &["build"]).ok();
        home.cargo(&tree, &["build"]).ok().expect_silent();
    }
}

/// A daemon that leaves right after a build has saved that build's seeds.
#[test]
fn dmn_05_the_seeds_of_a_build_outlive_the_daemon() {
    let home = Home::new();
    home.cargo(&garden(&home, "one"), &["build"]).ok();
    home.stop();
    home.start();
    let tree = garden(&home, "two");
    let built = home.cargo(&tree, &["build"]).ok();
    expect_seeded(&built, &SEEDED);
    assert_eq!(tree.prints("target/debug/garden"), PRINTS);
}
