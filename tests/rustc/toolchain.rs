//! The compiler and files that options name: KEY-12 and KEY-16.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::home::{Home, rustc, toolchain_bin};
use crate::project;
use crate::tree::Tree;
use crate::unit::Unit;

/// A script, always with the same date, that runs a program with additional arguments before the others.
pub(crate) fn before(tree: &Tree, path: &str, program: &str, arguments: &[&str]) -> PathBuf {
    let more: Vec<_> = arguments.iter().map(|argument| format!("{argument:?}, ")).collect();
    let (more, count) = (more.concat(), arguments.len());
    let source = format!(
        "#include <unistd.h>\nint main(int n, char **given) {{ char *all[9000] = {{ {program:?}, {more} }}; \
         for (int i = 1; i <= n; i++) all[i + {count}] = given[i]; return execv(all[0], all); }}\n"
    );
    let (from, to) = (tree.join(&format!("{path}.c")), tree.join(path));
    tree.write(&format!("{path}.c"), source);
    let _ = fs::remove_file(&to);
    for command in [
        Command::new("cc").arg(&from).arg("-o").arg(&to),
        Command::new("touch").args(["-d", "2017-07-14"]).arg(&to),
    ] {
        assert!(command.status().unwrap().success());
    }
    to
}

/// A rustc that adds a `cfg`. The script's length is always the same.
pub(crate) fn patched_rustc(tree: &Tree, value: u32) -> PathBuf {
    let cfg = format!("patched=\"{value}\"");
    before(tree, "toolchain/rustc", rustc().to_str().unwrap(), &["--cfg", &cfg, "--cap-lints=allow"])
}

#[test]
fn key_12_a_patched_compiler_with_the_same_banner_is_another() {
    let home = Home::new();
    let tree = home.tree("ws");
    let main = "fn main() { println!(\"{}\", if cfg!(patched = \"1\") { 1 } else { 2 }) }";
    for (step, value) in [1, 2, 1].into_iter().enumerate() {
        let compiler = patched_rustc(&tree, value);
        let project = project::program(&home, &format!("p{step}"), main);
        let built = home.cargo(&project, &["build"]).env("RUSTC", compiler.to_str().unwrap()).ok();
        if step < 2 {
            built.expect_all_misses();
        } else {
            built.expect_all_hits();
        }
        assert_eq!(project.prints("target/debug/prog"), value.to_string());
    }
}

/// A copy of the sysroot's directories with links to its files, and one additional library.
fn sysroot(tree: &Tree) -> PathBuf {
    let real = toolchain_bin().parent().unwrap();
    let top = tree.join("sysroot");
    let mut rest = PathBuf::new();
    // Directories that contain the libraries are created; their other entries are links.
    for name in ["lib", "rustlib", host(), "lib"] {
        rest.push(name);
        fs::create_dir_all(top.join(&rest)).unwrap();
        for entry in fs::read_dir(real.join(&rest)).unwrap() {
            let link = top.join(&rest).join(entry.as_ref().unwrap().file_name());
            let is_on_the_way = ["rustlib", host(), "lib"].iter().any(|name| link.ends_with(name));
            if !is_on_the_way {
                symlink(entry.unwrap().path(), link).unwrap();
            }
        }
    }
    top
}

/// The target triple of the compiler's host.
pub(crate) fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let output = Command::new(rustc()).arg("-vV").output().unwrap();
        let banner = String::from_utf8(output.stdout).unwrap();
        let line = banner.lines().find_map(|line| line.strip_prefix("host: "));
        line.expect("rustc says what it runs on").to_owned()
    })
}

#[test]
fn key_12_the_targets_libraries_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    let sysroot = sysroot(&tree);
    let add = |number: u32| {
        tree.write("extra.rs", format!("pub fn extra() -> u32 {{ {number} }}"));
        let mut compile = Command::new(rustc());
        compile.args(["--crate-name=extra", "--crate-type=rlib", "--edition=2021", "extra.rs", "--out-dir"]);
        compile.arg(sysroot.join("lib/rustlib").join(host()).join("lib")).current_dir(tree.path());
        assert!(compile.status().unwrap().success());
    };
    tree.write("src/sys.rs", "extern crate extra; fn main() { println!(\"{}\", extra::extra()) }");
    let argument = format!("--sysroot={}", sysroot.display());
    let unit = Unit::bin(&home, &tree, "sys").with(&[&argument]);
    for number in [1, 2, 1] {
        add(number);
        assert_eq!(unit.compare().1.prints(), number.to_string());
    }
}

#[test]
fn key_12_a_proxy_is_not_the_compiler() {
    let home = Home::new();
    let tree = home.tree("ws");
    // As rustup's proxy: one program for all toolchains, and a variable that selects one.
    let real = rustc();
    let proxy = tree.join("bin/rustc");
    let cfg = r#"toolchain=\"$RUSTUP_TOOLCHAIN\""#;
    tree.script("bin/rustc", &format!("exec '{}' --cap-lints=allow --cfg \"{cfg}\" \"$@\"", real.display()));
    tree.write("src/which.rs", "fn main() { println!(\"{}\", cfg!(toolchain = \"one\")) }");
    for (toolchain, expected) in [("one", "true"), ("two", "false"), ("one", "true")] {
        let unit = Unit::bin(&home, &tree, "which").env("RUSTUP_TOOLCHAIN", toolchain).compiler(&proxy);
        assert_eq!(unit.compare().1.prints(), expected, "{toolchain}");
    }
}

/// Rustup's proxy of rustc, and the directory of its toolchains.
#[expect(clippy::disallowed_methods, reason = "the user who runs the tests may have rustup")]
fn rustup() -> Option<(PathBuf, PathBuf)> {
    let home = || std::env::var_os("HOME").map(PathBuf::from);
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    let bin = set("CARGO_HOME").or_else(|| Some(home()?.join(".cargo")))?.join("bin");
    let toolchains = set("RUSTUP_HOME").or_else(|| Some(home()?.join(".rustup")))?;
    let is_there = bin.join("rustup").exists() && toolchains.join("toolchains").is_dir();
    is_there.then(|| (bin.join("rustc"), toolchains))
}

#[test]
fn key_12_behind_rustups_own_proxy_the_compiler_counts() {
    let Some((proxy, rustup_home)) = rustup() else {
        return println!("skipped: this machine has no rustup");
    };
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/which.rs", "fn main() { println!(\"ran\") }");
    let unit = Unit::bin(&home, &tree, "which").compiler(&proxy);
    let proxied = unit.env("RUSTUP_HOME", rustup_home.to_str().unwrap());
    let mut banners = BTreeSet::new();
    for toolchain in fs::read_dir(rustup_home.join("toolchains")).unwrap() {
        let toolchain = toolchain.unwrap().path();
        let compiler = toolchain.join("bin/rustc");
        let Ok(banner) = Command::new(&compiler).arg("-vV").output() else { continue };
        let name = toolchain.file_name().unwrap().to_str().unwrap();
        let named = proxied.clone().env("RUSTUP_TOOLCHAIN", name);
        // Two names may be the same compiler.
        if banners.insert(banner.stdout) {
            assert_eq!(named.misses(), "ran", "{name}");
        }
        assert_eq!(named.hits(), "ran", "{name}");
        // A file beside the call's directory or above it selects the toolchain.
        let channel = name.strip_suffix(host()).map_or(name, |name| name.trim_end_matches('-'));
        tree.write("../rust-toolchain", channel);
        assert_eq!(proxied.hits(), "ran", "{name}");
    }
    if banners.len() < 2 {
        println!("rustup has only one compiler here, so two could not be compared");
    }
}

#[test]
fn key_17_a_compiler_is_the_same_by_every_name() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/which.rs", "fn main() { println!(\"ran\") }");
    let unit = Unit::bin(&home, &tree, "which");
    assert_eq!(unit.misses(), "ran");
    assert_eq!(unit.clone().compiler("rustc".as_ref()).hits(), "ran");
    // A file that is not the one that `PATH` leads to.
    tree.write("rustc", "");
    assert_eq!(unit.compiler("rustc".as_ref()).hits(), "ran");
}

#[test]
fn key_06_variables_that_rustups_proxy_sets_do_not_count_outside_of_it() {
    let Some((proxy, rustup_home)) = rustup() else {
        return println!("skipped: this machine has no rustup");
    };
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/which.rs", "fn main() { println!(\"{:?}\", option_env!(\"RUSTUP_TOOLCHAIN\")) }");
    let unit = Unit::bin(&home, &tree, "which").env("RUSTUP_HOME", rustup_home.to_str().unwrap());
    for compiler in [&proxy, &rustc(), &proxy, &rustc()] {
        unit.clone().compiler(compiler).compare();
    }
    assert_eq!(unit.hits(), "None");
}

#[test]
fn key_16_a_profile_counts_by_content() {
    let home = Home::new();
    let (tree, far) = (home.tree("ws"), home.tree("far/away/ws"));
    let write = |tree: &Tree, profile: &[u8]| {
        tree.write("src/pgo.rs", "fn main() { println!(\"ran\") }").write("pgo/merged.profdata", profile);
    };
    let unit = |tree| {
        Unit::bin(&home, tree, "pgo").with(&["-C", "opt-level=2", "-C", "profile-use=pgo/merged.profdata"])
    };
    // A file that is no profile counts by content, too.
    let [first, second] = profiles(&tree).unwrap_or_else(|| {
        println!("there is no `llvm-profdata` here, so these are no profiles");
        ["no profile: 5", "no profile: 500000"].map(|text| text.as_bytes().to_vec())
    });
    write(&tree, &first);
    assert_eq!(unit(&tree).misses(), "ran");
    assert_eq!(unit(&tree).hits(), "ran");
    write(&tree, &second);
    assert_eq!(unit(&tree).misses(), "ran");
    write(&tree, &first);
    assert_eq!(unit(&tree).hits(), "ran");
    // The result is the same in every checkout.
    write(&far, &second);
    assert_eq!(unit(&far).hits(), "ran");
    // rustc reports that the file is no profile, and compiles without it.
    write(&tree, b"no profile");
    assert_eq!(unit(&tree).misses(), "ran");
    assert_eq!(unit(&tree).hits(), "ran");
    // The compiler reports a profile that does not exist.
    tree.remove("pgo/merged.profdata");
    let (call, outcome) = unit(&tree).compare();
    assert!(call.result != "local_hit" && format!("{outcome:?}").contains("merged.profdata"), "{call:?}");
}

/// Two profiles, if there is a tool that makes them.
fn profiles(tree: &Tree) -> Option<[Vec<u8>; 2]> {
    let profile = |count: &str| {
        tree.write("counts.txt", format!(":ir\nhot\n1\n1\n{count}\n\n"));
        let merge = Command::new("llvm-profdata")
            .args(["merge", "counts.txt", "-o", "merged"])
            .current_dir(tree.path())
            .status();
        merge.is_ok_and(|status| status.success()).then(|| fs::read(tree.join("merged")).unwrap())
    };
    Some([profile("5")?, profile("500000")?])
}

#[test]
fn key_16_clippys_settings_count() {
    let home = Home::new();
    let checkout = |name: &str, settings: Option<&str>| {
        let tree = project::program(&home, name, "fn f(_: u8, _: u8, _: u8) {}\nfn main() { f(1, 2, 3) }\n");
        if let Some(settings) = settings {
            tree.write("clippy.toml", settings);
        }
        tree
    };
    let complains = |tree: &Tree, step: &[&str]| {
        let with = home.cargo(tree, &["clippy"]).args(step).ok();
        tree.remove("target");
        let without = home.plain_cargo(tree, &["clippy"]).args(step).run_unwatched();
        let lines = |text: &str| {
            text.lines().filter(|line| !line.contains("Finished")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(lines(&with.stderr), lines(&without.stderr));
        (with.stderr.contains("too many arguments"), with)
    };
    assert!(!complains(&checkout("none", None), &[]).0);
    assert!(complains(&checkout("two", Some("too-many-arguments-threshold = 2\n")), &[]).0);
    assert!(!complains(&checkout("three", Some("too-many-arguments-threshold = 3\n")), &[]).0);
    let (complained, again) =
        complains(&checkout("again/two", Some("too-many-arguments-threshold = 2\n")), &[]);
    assert!(complained);
    again.expect_all_hits();
    // A file appears that did not exist.
    let none = checkout("none again", None);
    assert!(!complains(&none, &[]).0);
    none.write(".clippy.toml", "too-many-arguments-threshold = 2\n");
    none.remove("target");
    assert!(complains(&none, &[]).0);
    let denied = home.cargo(&checkout("denied", None), &["clippy", "--", "-D", "clippy::no_effect"]).ok();
    assert_eq!(denied.code, Some(0));
}

#[test]
fn key_16_a_target_description_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/spec.rs", "#![feature(no_core)] #![no_core] #![no_std] #[cfg(target_vendor = \"bad\")] compile_error!(\"bad vendor\");");
    let describe = |vendor: &str| {
        let print = ["-Zunstable-options", "--print=target-spec-json", "--target", host()];
        let output = Command::new(rustc()).env("RUSTC_BOOTSTRAP", "1").args(print).output().unwrap();
        let mut spec: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        spec["vendor"] = vendor.into();
        spec.as_object_mut().unwrap().remove("is-builtin");
        tree.write("my-target.json", spec.to_string());
    };
    let unit = Unit::lib(&home, &tree, "spec").emit("dep-info,metadata").env("RUSTC_BOOTSTRAP", "1");
    let unit = unit.with(&["-Zunstable-options", "--target", "my-target.json"]);
    describe("good");
    unit.compare();
    describe("bad");
    let (_, outcome) = unit.compare();
    assert!(format!("{outcome:?}").contains("bad vendor"), "{outcome:?}");
    describe("good");
    unit.compare();
}
