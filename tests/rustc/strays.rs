//! A project that cargo was not asked to build gets no directory and no file.
//!
//! Each way to say what is built, and where, is tried from the directory of another checkout, with and without
//! kache. The same directories must exist afterwards.

use std::path::Path;

use crate::home::Home;
use crate::seeding::{PRINTS, garden};
use crate::step::Step;
use crate::tree::Tree;

/// How deep directories are listed. Target directories are not listed.
const DEPTH_MAX: usize = 3;

/// A way to start cargo in the checkout `a`, beside which is `b`.
struct Way {
    what: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    /// The content of a configuration file of `a`.
    config: &'static str,
    /// The program that cargo is expected to build, if any.
    makes: Option<&'static str>,
}

const WAY: Way = Way { what: "", args: &["build"], env: &[], config: "", makes: None };

const WAYS: &[Way] = &[
    Way {
        what: "another manifest",
        args: &["build", "--manifest-path", "../b/Cargo.toml"],
        makes: Some("b/target/debug/garden"),
        ..WAY
    },
    Way {
        what: "another manifest, in one word, for a short form",
        args: &["b", "--manifest-path=../b/Cargo.toml"],
        makes: Some("b/target/debug/garden"),
        ..WAY
    },
    Way {
        what: "another manifest and a target directory",
        args: &["build", "--manifest-path", "../b/Cargo.toml", "--target-dir", "../t"],
        makes: Some("t/debug/garden"),
        ..WAY
    },
    Way {
        what: "another directory",
        args: &["-Zunstable-options", "-C", "../b", "build"],
        env: &[("RUSTC_BOOTSTRAP", "1")],
        makes: Some("b/target/debug/garden"),
        ..WAY
    },
    Way {
        what: "a target directory by a variable",
        env: &[("CARGO_BUILD_TARGET_DIR", "../t")],
        makes: Some("t/debug/garden"),
        ..WAY
    },
    Way {
        what: "a target directory by an option's setting",
        args: &["build", "--config", "build.target-dir='../t'"],
        makes: Some("t/debug/garden"),
        ..WAY
    },
    Way {
        what: "a target directory by an option's file",
        args: &["build", "--config", "../conf/other.toml"],
        makes: Some("t/debug/garden"),
        ..WAY
    },
    Way {
        what: "a variable for compilers that cargo does not obey",
        config: "[env]\nCARGO_TARGET_DIR = \"../t\"\n",
        makes: Some("a/target/debug/garden"),
        ..WAY
    },
    Way {
        what: "a short form that means something else",
        args: &["b"],
        config: "[alias]\nb = [\"build\", \"--target-dir\", \"../t\"]\n",
        makes: Some("t/debug/garden"),
        ..WAY
    },
    Way {
        what: "a short form that a variable gives another meaning",
        args: &["b"],
        env: &[("CARGO_ALIAS_B", "build --target-dir ../t")],
        makes: Some("t/debug/garden"),
        ..WAY
    },
    Way {
        what: "a name that the user has defined",
        args: &["mine"],
        config: "[alias]\nmine = \"build --manifest-path ../b/Cargo.toml\"\n",
        makes: Some("b/target/debug/garden"),
        ..WAY
    },
    Way {
        what: "a build directory by a variable",
        env: &[("CARGO_BUILD_BUILD_DIR", "../t")],
        makes: Some("a/target/debug/garden"),
        ..WAY
    },
    Way {
        what: "a build directory by a file",
        config: "[build]\nbuild-dir = \"../t\"\n",
        makes: Some("a/target/debug/garden"),
        ..WAY
    },
    Way {
        what: "a manifest that is not there",
        args: &["build", "--manifest-path", "../c/Cargo.toml"],
        ..WAY
    },
];

impl Way {
    /// The directories below the parent of both checkouts after a build.
    fn directories(&self, home: &Home, place: &str, has_kache: bool) -> Vec<String> {
        let [a, b] = ["a", "b"].map(|name| garden(home, &format!("{place}/{name}")));
        assert!(b.join("Cargo.lock").exists());
        if !self.config.is_empty() {
            a.write(".cargo/config.toml", self.config);
        }
        let top = Tree::new(home.base().join(place));
        top.write("conf/other.toml", "[build]\ntarget-dir = \"t\"\n");
        let step = if has_kache { home.cargo(&a, self.args) } else { home.plain_cargo(&a, self.args) };
        let step = self.env.iter().fold(step, |step, (name, value)| step.env(name, value));
        self.run(step, &top);
        let mut found = Vec::new();
        look(top.path(), top.path(), DEPTH_MAX, &mut found);
        found.sort();
        found
    }

    fn run(&self, step: Step<'_>, top: &Tree) {
        let built = step.run_unwatched();
        assert_eq!(built.code == Some(0), self.makes.is_some(), "{}: {built:#?}", self.what);
        if let Some(program) = self.makes {
            assert!(top.join(program).exists(), "{}: {built:#?}", self.what);
            assert_eq!(top.prints(program), PRINTS, "{}", self.what);
        }
    }
}

fn look(top: &Path, dir: &Path, depth: usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        let is_target = path.join("CACHEDIR.TAG").exists();
        found.push(format!("{} {is_target}", path.strip_prefix(top).unwrap().display()));
        if depth > 0 && !is_target {
            look(top, &path, depth - 1, found);
        }
    }
}

#[test]
fn rst_02_only_what_cargo_was_asked_to_build_gets_a_directory() {
    let home = Home::new();
    home.cargo(&garden(&home, "first"), &["build"]).ok();
    for (number, way) in WAYS.iter().enumerate() {
        let [with, without] = [true, false]
            .map(|has_kache| way.directories(&home, &format!("{number}-{has_kache}"), has_kache));
        assert_eq!(with, without, "{}", way.what);
    }
}

/// A member may have a lock file of its own, which cargo ignores.
#[test]
fn rst_02_a_member_of_a_workspace_gets_no_target_directory() {
    let home = Home::new();
    home.cargo(&garden(&home, "first"), &["build"]).ok();
    let [with, without] = [true, false].map(|has_kache| {
        let place = format!("ws-{has_kache}");
        let member = garden(&home, &format!("{place}/member"));
        let top = Tree::new(home.base().join(&place));
        top.write("Cargo.toml", "[workspace]\nmembers = [\"member\"]\nresolver = \"2\"\n");
        top.write("Cargo.lock", member.read("Cargo.lock"));
        let args = &["build"];
        let step = if has_kache { home.cargo(&member, args) } else { home.plain_cargo(&member, args) };
        step.ok_unwatched();
        assert_eq!(top.prints("target/debug/garden"), PRINTS);
        let mut found = Vec::new();
        look(top.path(), top.path(), DEPTH_MAX, &mut found);
        found.sort();
        found
    });
    assert_eq!(with, without);
}
