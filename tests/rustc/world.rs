//! How kache looks at files and directories: what a stamp proves, what a listing says, where a
//! module and a native library are looked for.

use std::fs;
use std::os::unix::fs::symlink;

use crate::home::Home;
use crate::observed::Asking;
use crate::project;
use crate::unit::Unit;

#[test]
fn key_23_a_listing_counts_the_kind_of_each_entry() {
    const BODY: &str = "let entry = fs::read_dir(dir.join(\"data\")).unwrap().next().unwrap().unwrap(); \
        let kind = entry.file_type().unwrap(); \
        format!(\"{} {} {}\", kind.is_file(), kind.is_dir(), kind.is_symlink())";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    let entry = a.tree.join("data/entry");
    a.tree.write("data/entry", "");
    a.misses("true false false");
    a.tree.remove("data/entry");
    fs::create_dir(&entry).unwrap();
    a.misses("false true false");
    a.tree.remove("data/entry");
    symlink("../src", &entry).unwrap();
    a.misses("false false true");
    a.hits("false false true");
}

#[test]
fn key_03_a_module_that_is_called_lib_or_main_has_two_places() {
    let home = Home::new();
    let tree = home.tree("ws");
    for name in ["lib", "main", "build"] {
        tree.write(&format!("src/root_{name}.rs"), format!("mod {name}; fn main() {{ {name}::say() }}"));
        tree.write(&format!("src/{name}.rs"), "pub fn say() { println!(\"one\") }");
        let root = format!("root_{name}");
        let unit = Unit::bin(&home, &tree, &root);
        assert_eq!(unit.misses(), "one");
        assert_eq!(unit.hits(), "one");
        // With both of them the compiler does not know which one is meant.
        tree.write(&format!("src/{name}/mod.rs"), "pub fn say() { println!(\"two\") }");
        assert!(unit.fails().contains("found at both"), "{name}");
        tree.remove(&format!("src/{name}.rs"));
        assert_eq!(unit.misses(), "two");
        tree.write(&format!("src/{name}.rs"), "");
        assert!(unit.fails().contains("found at both"), "{name}");
    }
}

#[test]
fn key_14_a_trial_that_bundles_a_library_counts_it() {
    let home = Home::new();
    let build = |checkout: &str, value: u32| {
        let tree = project::program(&home, checkout, "fn main() { println!(\"{}\", env!(\"VALUE\")) }");
        crate::linked::native(&tree, "native", value);
        tree.write(
            "trial.rs",
            "#[link(name = \"native\", kind = \"static\")] extern \"C\" { fn native() -> u32; } \
             pub fn call() -> u32 { unsafe { native() } }",
        );
        tree.write(
            "build.rs",
            "use std::{env, fs, process::Command}; \
             fn main() { \
                 let out = env::var(\"OUT_DIR\").unwrap(); \
                 let mut trial = Command::new(env::var(\"RUSTC_WRAPPER\").unwrap()); \
                 trial.arg(env::var(\"RUSTC\").unwrap()).args([\"--crate-name=trial\", \"--crate-type=lib\", \
                     \"--emit=link\", \"--edition=2021\", \"-Lnative=native\", \"trial.rs\", \"--out-dir\", &out]); \
                 assert!(trial.status().unwrap().success()); \
                 let made = fs::read(format!(\"{out}/libtrial.rlib\")).unwrap(); \
                 let holds = |number: u32| made.windows(5).any(|code| code[0] == 0xb8 && code[1..] == number.to_le_bytes()); \
                 println!(\"cargo:rustc-env=VALUE={} {}\", holds(11111), holds(22222)); \
             }",
        );
        home.cargo(&tree, &["build"]).env("RUSTC_WRAPPER", crate::home::KACHE).ok();
        tree.prints("target/debug/prog")
    };
    assert_eq!(build("a", 11111), "true false");
    assert_eq!(build("b", 22222), "false true");
}
