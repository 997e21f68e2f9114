//! Tests of the inputs of rustc.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use kache_cas::DigestFunction;
use tempfile::TempDir;

use super::testing::{compile, real_sysroot};
use super::*;
use crate::compiler::rustc::invocation::{CrateSource, DriverKind, Extern, TargetArgument};
use crate::compiler::{GatherSettings, RootSettings};
use crate::inputs::testing::{age, call, environment, fake_toolchain, settle, write};
use crate::inputs::*;
use crate::invocation::Reason;
use crate::roles::Role;

/// Creates a target directory as cargo does.
fn cargo_layout(profile_dir: &Path) {
    fs::create_dir_all(profile_dir.join("deps")).unwrap();
    write(profile_dir, ".cargo-lock", b"");
}

#[test]
fn key_17_roots_are_found_from_the_call() {
    let home = TempDir::new().unwrap();
    let workspace = home.path().join("ws");
    cargo_layout(&workspace.join("target/debug"));
    cargo_layout(&workspace.join("target/wasm32-unknown-unknown/debug"));
    write(&workspace, "Cargo.toml", b"");
    let mut call = call(&workspace);
    call.env = environment([("HOME", home.path().as_os_str())]);
    let mut rustc = compile("src/lib.rs");
    rustc.out_dir = Some(workspace.join("target/debug/deps"));
    let settings = RootSettings { base_dirs: vec!["/base".into()], sysroot: Some("/toolchain".into()) };
    let found = roots(&rustc, &call, &settings);
    for (role, dir) in [
        (Role::Workspace, workspace.clone()),
        (Role::Target, workspace.join("target")),
        (Role::Cargo, home.path().join(".cargo")),
        (Role::Sysroot, "/toolchain".into()),
        (Role::Base(0), "/base".into()),
    ] {
        assert_eq!(found.dir(role), Some(&*dir));
    }
    // With `--target`, the target directory is the same.
    rustc.target = Some(TargetArgument::Triple("wasm32-unknown-unknown".to_owned()));
    rustc.out_dir = Some(workspace.join("target/wasm32-unknown-unknown/debug/deps"));
    assert_eq!(roots(&rustc, &call, &settings).dir(Role::Target), Some(&*workspace.join("target")));
    // For a package of the registry, the workspace is the directory with the target directory.
    let package = home.path().join(".cargo/registry/src/index/itoa-1.0.0");
    rustc.source = CrateSource::File(package.join("src/lib.rs"));
    call.cwd = package;
    assert_eq!(roots(&rustc, &call, &settings).dir(Role::Workspace), Some(&*workspace));
    // If the target directory is elsewhere, such a package has no workspace.
    let elsewhere = home.path().join("elsewhere/t");
    cargo_layout(&elsewhere.join("debug"));
    rustc.out_dir = Some(elsewhere.join("debug/deps"));
    rustc.target = None;
    assert_eq!(roots(&rustc, &call, &settings).dir(Role::Workspace), None);
    assert_eq!(roots(&rustc, &call, &settings).dir(Role::Target), Some(&*elsewhere));
    // A trial compile of a build script names its output by itself, below `OUT_DIR`.
    rustc.out_dir = None;
    rustc.output_path = Some(elsewhere.join("debug/build/rustix-1/out/can_compile"));
    assert_eq!(roots(&rustc, &call, &settings).dir(Role::Target), Some(&*elsewhere));
    rustc.output_path = Some(home.path().join("can_compile"));
    assert_eq!(roots(&rustc, &call, &settings).dir(Role::Target), None);
    rustc.output_path = None;
    rustc.out_dir = Some(elsewhere.join("debug/deps"));
    // `$CARGO_HOME` takes precedence over `$HOME`; an empty one is ignored.
    let home_at = |cargo_home: &str| {
        let mut call = call.clone();
        call.env = environment([("HOME", OsString::from("/h")), ("CARGO_HOME", cargo_home.into())]);
        roots(&rustc, &call, &settings).dir(Role::Cargo).map(Path::to_owned)
    };
    assert_eq!(home_at("/c"), Some("/c".into()));
    assert_eq!(home_at(""), Some("/h/.cargo".into()));
}

/// Clones the real toolchain. The files by which it finds its own directory are copied; the rest are symbolic
/// links, because the tests must not change the real one.
fn clone_toolchain(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let is_copied = entry.file_name().to_string_lossy().starts_with("librustc_driver");
        match entry.file_type().unwrap().is_dir() {
            true if from.ends_with("share") || from.ends_with("lib/rustlib/src") => {}
            true => clone_toolchain(&from, &to),
            false if is_copied || from.ends_with("bin/rustc") => drop(fs::copy(&from, &to).unwrap()),
            false => symlink(&from, &to).unwrap(),
        }
    }
}

fn some_file(dir: &Path, start: &str, end: &str) -> PathBuf {
    let mut paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_meant = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(start) && name.ends_with(end)
    };
    paths.find(is_meant).unwrap()
}

#[test]
fn key_12_a_patched_toolchain_has_another_tree() {
    let (sysroot, dir) = (real_sysroot(), TempDir::new().unwrap());
    clone_toolchain(&sysroot, dir.path());
    let world = DiskWorld::new(DigestFunction::Blake3);
    let mut rustc = compile("src/lib.rs");
    rustc.rustc = dir.path().join("bin/rustc");
    rustc.driver = rustc.rustc.clone();
    let call = call(Path::new("/"));
    let found = toolchain(&rustc, &call, &world).unwrap().common;
    assert!(found.banner.starts_with("rustc "), "{}", found.banner);
    assert_eq!(found.sysroot, dir.path().canonicalize().unwrap());
    let library = dir.path().join(format!("lib/rustlib/{}/lib", found.host));
    // One byte of a library changes; its size and its date do not.
    let patched = some_file(&library, "libcfg_if-", ".rlib");
    let (mut bytes, metadata) = (fs::read(&patched).unwrap(), fs::metadata(&patched).unwrap());
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(&patched).unwrap();
    write(&library, patched.file_name().unwrap().to_str().unwrap(), &bytes);
    let file = fs::File::options().write(true).open(&patched).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
    let other = toolchain(&rustc, &call, &world).unwrap().common;
    assert_eq!((&other.banner, &other.sysroot), (&found.banner, &found.sysroot));
    assert_ne!(other.tree, found.tree);
    // An additional file counts, too.
    write(&library, "libextra-0.rlib", b"");
    assert_ne!(toolchain(&rustc, &call, &world).unwrap().common.tree, other.tree);
}

#[test]
fn key_12_a_copy_of_a_toolchain_has_the_same_tree() {
    let (sysroot, dir) = (real_sysroot(), TempDir::new().unwrap());
    clone_toolchain(&sysroot, dir.path());
    let world = DiskWorld::new(DigestFunction::Blake3);
    let of = |dir: &Path| {
        let mut rustc = compile("src/lib.rs");
        rustc.rustc = dir.join("bin/rustc");
        rustc.driver = rustc.rustc.clone();
        toolchain(&rustc, &call(Path::new("/")), &world).unwrap().common.tree
    };
    assert_eq!(of(dir.path()), of(&sysroot));
}

#[test]
fn key_12_two_daemons_hash_and_ask_a_toolchain_only_once() {
    let dir = TempDir::new().unwrap();
    let mut rustc = compile("src/lib.rs");
    rustc.rustc = real_sysroot().join("bin/rustc");
    rustc.driver = rustc.rustc.clone();
    let call = call(Path::new("/"));
    let world = DiskWorld::open(DigestFunction::Blake3, dir.path().join("memos"));
    let found = toolchain(&rustc, &call, &world).unwrap();
    world.save().unwrap();
    let asked = questions_asked();
    assert!(asked > 0);
    assert_eq!(
        toolchain(&rustc, &call, &DiskWorld::open(DigestFunction::Blake3, dir.path().join("memos"))).unwrap(),
        found
    );
    assert_eq!(questions_asked(), asked);
}

#[test]
fn key_12_a_script_is_refused_as_compiler() {
    let dir = TempDir::new().unwrap();
    let script = write(dir.path(), "rustc", b"#!/bin/sh\nexec rustc \"$@\"\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut rustc = compile("src/lib.rs");
    rustc.rustc = script.clone();
    rustc.driver = script;
    let refused =
        toolchain(&rustc, &call(Path::new("/")), &DiskWorld::new(DigestFunction::Blake3)).unwrap_err();
    assert_eq!(refused.reason, Reason::UnknownCompiler);
}

/// Creates a `rustup` that answers `which` and logs each run.
fn fake_rustup(dir: &Path, real: &Path) -> PathBuf {
    let log = dir.join("log");
    let text = format!("#!/bin/sh\necho x >> {}\necho {}/$2\n", log.display(), real.display());
    let rustup = write(dir, "rustup", text.as_bytes());
    fs::set_permissions(&rustup, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("rustup", dir.join("rustc")).unwrap();
    age(&rustup);
    log
}

#[test]
fn key_12_a_proxy_is_resolved_once_for_each_chosen_toolchain() {
    let dir = TempDir::new().unwrap();
    let bin = real_sysroot().join("bin");
    let log = fake_rustup(dir.path(), &bin);
    let home = dir.path().join("home");
    let settings = write(&home.join(".rustup"), "settings.toml", b"[overrides]\n");
    let world = DiskWorld::new(DigestFunction::Blake3);
    let mut call = call(dir.path());
    call.env = environment([("HOME", home.as_os_str()), ("PATH", dir.path().as_os_str())]);
    settle(&[&dir.path().join("rustup"), &settings]);
    let resolve = |call: &_| proxy::resolve(Path::new("rustc"), call, &world).unwrap().1;
    for _ in 0..3 {
        assert_eq!(resolve(&call), bin.join("rustc"));
    }
    let asked = || fs::read_to_string(&log).unwrap().lines().count();
    assert_eq!(asked(), 1);
    // A directory without a choice of its own shares the answer.
    call.cwd = home.clone();
    resolve(&call);
    assert_eq!(asked(), 1);
    write(&home, "rust-toolchain.toml", b"[toolchain]\n");
    resolve(&call);
    assert_eq!(asked(), 2);
}

#[test]
fn key_14_inputs_count_by_path_and_content() {
    let dir = TempDir::new().unwrap();
    let call = call(dir.path());
    let world = DiskWorld::new(DigestFunction::Blake3);
    let one = write(dir.path(), "target/debug/deps/libone-1.rmeta", b"one");
    let two = write(dir.path(), "target/debug/deps/libtwo-2.rmeta", b"two");
    write(dir.path(), "src/lib.rs", b"");
    let mut rustc = compile("src/lib.rs");
    rustc.driver = real_sysroot().join("bin/rustc");
    rustc.rustc = rustc.driver.clone();
    let named = |name: &str, path: &Path| Extern {
        options: String::new(),
        name: name.to_owned(),
        path: Some(path.to_owned()),
    };
    rustc.externs = vec![named("two", &two), named("one", &one)];
    let toolchain = toolchain(&rustc, &call, &world).unwrap().common;
    let roots = roots(&rustc, &call, &RootSettings::default());
    let files = || {
        let inputs = gather(&rustc, &call, &roots, toolchain.clone(), &world, &GatherSettings::default());
        inputs.map(|inputs| inputs.files)
    };
    let before = files().unwrap();
    let paths: Vec<_> = before.iter().map(|input| input.path.to_string()).collect();
    assert_eq!(paths.len(), 3);
    assert!(
        paths.is_sorted() && paths.contains(&"ws/target/debug/deps/libone-1.rmeta".to_owned()),
        "{paths:?}"
    );
    // KEY-02: the same two contents, swapped, are different inputs.
    write(dir.path(), "target/debug/deps/libone-1.rmeta", b"two");
    write(dir.path(), "target/debug/deps/libtwo-2.rmeta", b"one");
    assert_ne!(files().unwrap(), before);
    // KEY-04: a missing input makes the call a bypass.
    fs::remove_file(&two).unwrap();
    assert_eq!(files().unwrap_err().reason, Reason::UnknownInput);
}

#[test]
fn key_13_only_variables_that_are_read_count() {
    let roots = roots(&compile("src/lib.rs"), &call(Path::new("/home/a/ws")), &RootSettings::default());
    let keyed = |rustc: &crate::compiler::rustc::invocation::RustcInvocation,
                 pairs: &[(&str, &str)],
                 declared: &[&str]| {
        let mut call = call(Path::new("/home/a/ws"));
        call.env = environment(pairs.iter().copied());
        let declared: Vec<_> = declared.iter().map(|&name| name.to_owned()).collect();
        let found = env::keyed(rustc, &call, &roots, &declared, false).unwrap();
        let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).unwrap());
        found.into_iter().map(|(name, value)| (name, text(value))).collect::<Vec<_>>()
    };
    let own = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    let plain = compile("src/lib.rs");
    let noise = [("PATH", "/bin"), ("MAKEFLAGS", "-j"), ("CARGO_PKG_NAME", "x"), ("TERM", "dumb")];
    assert_eq!(keyed(&plain, &noise, &[]), []);
    assert_eq!(keyed(&plain, &[("RUSTC_BOOTSTRAP", "")], &[]), [own("RUSTC_BOOTSTRAP", Some(""))]);
    // KEY-21: a declared variable counts, set or not.
    let declared = keyed(&plain, &[("MINE", "1")], &["MINE", "NOT_SET"]);
    assert_eq!(declared, [own("MINE", Some("1")), own("NOT_SET", None)]);
    // KEY-23: a proc macro may read the variables that describe the package.
    let mut user = compile("src/lib.rs");
    let path = Some("/home/a/ws/target/debug/deps/libpm-1.so".into());
    user.externs = vec![Extern { options: String::new(), name: "pm".to_owned(), path }];
    let package = [("CARGO_MANIFEST_DIR", "/home/a/ws/app"), ("CARGO_PKG_NAME", "x:/home/a/ws2")];
    let expected =
        [own("CARGO_MANIFEST_DIR", Some("/kache/ws/app")), own("CARGO_PKG_NAME", Some("x:/home/a/ws2"))];
    assert_eq!(keyed(&user, &package, &[]), expected);
    user.driver_kind = DriverKind::Clippy;
    assert_eq!(keyed(&user, &[("CLIPPY_ARGS", "-D")], &[]), [own("CLIPPY_ARGS", Some("-D"))]);
}

#[test]
fn key_23_variables_that_a_build_script_sets_count() {
    let dir = TempDir::new().unwrap();
    let package = dir.path().join("build/p-1");
    write(&package, "output", b"cargo:rerun-if-changed=x\ncargo::rustc-env=NEW=1\ncargo:rustc-env=OLD=a=b\n");
    let mut call = call(dir.path());
    let out_dir = package.join("out");
    call.env =
        environment([("OUT_DIR", out_dir.as_os_str()), ("NEW", "1".as_ref()), ("OLD", "a=b".as_ref())]);
    let mut rustc = compile("src/lib.rs");
    rustc.externs =
        vec![Extern { options: String::new(), name: "x".to_owned(), path: Some("x.rmeta".into()) }];
    let roots = roots(&rustc, &call, &RootSettings::default());
    let found = env::keyed(&rustc, &call, &roots, &[], false).unwrap();
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["NEW", "OLD", "OUT_DIR"]);
}

#[test]
fn key_16_the_configuration_of_clippy_counts() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "ws/app/src/lib.rs", b"");
    let mut call = call(&dir.path().join("ws"));
    call.env = environment([("CARGO_MANIFEST_DIR", dir.path().join("ws/app"))]);
    let mut rustc = compile("app/src/lib.rs");
    rustc.driver_kind = DriverKind::Clippy;
    let roots = roots(&rustc, &call, &RootSettings::default());
    let toolchain = fake_toolchain();
    let world = DiskWorld::new(DigestFunction::Blake3);
    let files = || {
        let found = gather(&rustc, &call, &roots, toolchain.clone(), &world, &GatherSettings::default());
        found.unwrap().files.into_iter().map(|input| input.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(files(), ["ws/app/src/lib.rs"]);
    write(dir.path(), "ws/clippy.toml", b"");
    assert_eq!(files(), ["ws/app/src/lib.rs", "ws/clippy.toml"]);
    // Only the nearest one counts.
    write(dir.path(), "ws/app/.clippy.toml", b"");
    assert_eq!(files(), ["ws/app/.clippy.toml", "ws/app/src/lib.rs"]);
}

#[test]
fn key_21_all_files_of_a_declared_directory_count() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "src/lib.rs", b"");
    write(dir.path(), "sql/deep/b.sql", b"");
    write(dir.path(), "sql/a.sql", b"");
    let call = call(dir.path());
    let rustc = compile("src/lib.rs");
    let roots = roots(&rustc, &call, &RootSettings::default());
    let extra_inputs = vec![dir.path().join("sql"), dir.path().join("none")];
    let settings = GatherSettings { extra_inputs, ..Default::default() };
    let toolchain = fake_toolchain();
    let found =
        gather(&rustc, &call, &roots, toolchain, &DiskWorld::new(DigestFunction::Blake3), &settings).unwrap();
    let paths: Vec<_> = found.files.iter().map(|input| input.path.to_string()).collect();
    assert_eq!(paths, ["ws/sql/a.sql", "ws/sql/deep/b.sql", "ws/src/lib.rs"]);
}
