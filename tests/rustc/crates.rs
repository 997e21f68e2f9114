//! Popular crates from crates.io, in two checkouts of two users, compared with plain cargo: KEY-17, RST-01.
//!
//! The project is in `crates/`. It is compiled three times: by plain cargo with the same remaps, through kache into
//! an empty cache, and in another checkout by another user. All outputs of compilers must be the same in all three.
//!
//! The first run downloads the crates into the cargo home of the user who runs the tests. The homes of the test get
//! copies.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::home::{Home, toolchain_bin};
use crate::places::remapping;
use crate::report::Call;
use crate::tree::{Tree, assert_untouched, different};

/// The output of the program.
const PRINTS: &str = r#"clap: somebody
bitflags: Rights(READ | WRITE)
syn, quote: Point of x, y
serde: {"x":1,"y":2}
thiserror: x is no number
anyhow: outer
rayon: 333283335000
regex: 09/2001 and 12/2011
ring: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
rusqlite: 42
image: 256 pixels as they were
ripgrep: 1: lines of; 2: text, and of
ignore: true false
tokio: 140
axum: 200 OK {"x":3,"y":4}"#;

/// Crates that are compiled again for a user whose cargo home is elsewhere, with or without a cache:
///
/// - the build script of `libsqlite3-sys` contains `env!("CARGO_MANIFEST_DIR")` (KEY-07);
/// - `libsqlite3-sys` and `ring` contain objects of the C compiler, whose debugging information names the cargo
///   home;
/// - crates that link these contain the same.
const BOUND_TO_THEIR_PLACE: &[(&str, &str)] = &[
    ("build_script_build", "build-script"),
    ("libsqlite3_sys", "lib"),
    ("ring", "lib"),
    ("program", "bin"),
    ("program", "test"),
];

/// Outputs of these crates, and objects of the C compiler. Their bytes are not compared between users with
/// different cargo homes.
const HOLD_A_PLACE: &[&str] =
    &["/out/", "build/libsqlite3-sys-", "liblibsqlite3_sys-", "libring-", "debug/program", "deps/program-"];

const BUILD: &[&str] = &["build", "--locked", "--workspace", "--all-targets"];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rustc/crates")
}

/// The cargo home of the user who runs the tests, with the crates in it.
#[expect(clippy::disallowed_methods, reason = "the user who runs the tests has downloaded the packages")]
fn filled_cargo_home() -> PathBuf {
    let fetch = Command::new(toolchain_bin().join("cargo"))
        .args(["fetch", "--locked", "--manifest-path"])
        .arg(project().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(fetch.status.success(), "{}", String::from_utf8_lossy(&fetch.stderr));
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).unwrap()
}

/// Copies the downloaded packages, still packed, and the files that cargo needs to use them.
fn provide(home: &Home, from: &Path) {
    let to = home.variable("CARGO_HOME");
    let lock = fs::read_to_string(project().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
    let crates: BTreeSet<_> = packages
        .map(|package| format!("{}-{}.crate", text(package, "name"), text(package, "version")))
        .collect();
    copy(&from.join("registry/index"), &to.join("registry/index"), &|_| true);
    copy(&from.join("registry/cache"), &to.join("registry/cache"), &|name| {
        !name.ends_with(".crate") || crates.contains(name)
    });
    // A mirror has another name than crates.io, and so has the directory of its packages.
    let settings = ["config.toml", "config"].iter().find_map(|name| fs::read_to_string(from.join(name)).ok());
    let mut settings: toml::Table = settings.unwrap_or_default().parse().unwrap();
    settings.retain(|table, _| matches!(table, "source" | "registries" | "registry"));
    fs::write(to.join("config.toml"), settings.to_string()).unwrap();
}

/// Copies a directory without the entries that are not wanted.
fn copy(from: &Path, to: &Path, is_wanted: &dyn Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        let name = name.to_str().unwrap();
        if !is_wanted(name) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name), is_wanted);
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn checkout(home: &Home, name: &str) -> Tree {
    let tree = home.tree(name);
    copy(&project(), tree.path(), &|name| name != "target");
    tree
}

/// The name and kind that identify a call.
fn named(call: &Call) -> (&str, &str) {
    (&call.crate_name, &call.kind)
}

#[test]
fn key_17_outputs_of_popular_crates_are_those_of_plain_cargo() {
    let downloaded = filled_cargo_home();
    let home = Home::new();
    provide(&home, &downloaded);
    // Without kache, members would be compiled incrementally, and with other file names.
    let home = home.with("CARGO_INCREMENTAL", "0");

    let plain = checkout(&home, "plain");
    let wrapper = remapping(&home, &plain);
    home.plain_cargo(&plain, BUILD).env("RUSTC_WRAPPER", wrapper.to_str().unwrap()).ok();
    assert_eq!(plain.prints("target/debug/program"), PRINTS);
    let made = plain.artifacts("target");
    assert!(made.len() > 250, "{} files", made.len());

    let near = checkout(&home, "near");
    let first = home.cargo(&near, BUILD).ok();
    first.expect_each_compiled_once();
    assert!(first.calls.compiles().count() > 140, "{first:#?}");
    assert_eq!(near.prints("target/debug/program"), PRINTS);
    assert_eq!(different(&near.artifacts("target"), &made), [""; 0], "through kache, and without");
    home.cargo(&near, BUILD).ok().expect_silent();

    let before = near.files("target");
    let home = home.of_user("another user");
    provide(&home, &downloaded);
    let far = checkout(&home, "some where/much/longer than the first");
    let again = home.cargo(&far, BUILD).ok();
    let compiled: Vec<_> = again.calls.compiles().filter(|call| !call.is_hit()).map(named).collect();
    assert!(compiled.iter().all(|name| BOUND_TO_THEIR_PLACE.contains(name)), "{compiled:?}");
    let scripts = again.calls.compiles().filter(|call| !call.is_hit() && call.kind == "build-script");
    scripts.for_each(|call| assert!(call.why.contains("/libsqlite3-sys-"), "{call:?}"));
    assert!(again.calls.compiles().count() > 140, "{again:#?}");
    assert_eq!(far.prints("target/debug/program"), PRINTS);
    let mut differing = different(&far.artifacts("target"), &made);
    differing.retain(|name| !HOLD_A_PLACE.iter().any(|part| name.contains(part)));
    assert_eq!(differing, [""; 0], "from the cache, and without");
    home.cargo(&far, BUILD).ok().expect_silent();
    assert_untouched(&near.files("target"), &before);
}
